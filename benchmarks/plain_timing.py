"""The median time of a call of an ONNX file by a plain loop: what `nas-kd measure` is checked against.

    python benchmarks/plain_timing.py FILE.onnx [--core N] [--seconds 1.0]

Written apart: nothing of nas_kd is imported, nothing is interleaved or corrected. One thread, not spinning, bound to
the core given, one sample a call, ONNX Runtime's default optimisations. Prints a line of JSON: the median of all calls,
and that of the tenths of a second that were within a tenth of the best, in which neighbours are likely to have rested.
"""

import argparse
import json
import os
import statistics
import time

import numpy as np
import onnxruntime

WARM_UP_S = 0.3
STRETCH_S = 0.1


def session_of(path: str) -> onnxruntime.InferenceSession:
    """The file on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def seconds_of_calls(session: onnxruntime.InferenceSession, lasting_s: float) -> list[float]:
    """Seconds of each call, for so long."""
    (entry,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in entry.shape]
    feed = {entry.name: np.random.default_rng(1).random(shape, dtype=np.float32)}
    seconds: list[float] = []
    stop = time.perf_counter() + lasting_s
    while (started := time.perf_counter()) < stop or not seconds:
        session.run(None, feed)
        seconds.append(time.perf_counter() - started)
    return seconds


def undisturbed(seconds: list[float]) -> float:
    """The median over stretches of a tenth of a second, each by its median, of those within a tenth of the lowest."""
    stretches: list[list[float]] = [[]]
    for call in seconds:
        if sum(stretches[-1]) >= STRETCH_S:
            stretches.append([])
        stretches[-1].append(call)
    medians = [statistics.median(stretch) for stretch in stretches[:-1] or stretches]
    return statistics.median(m for m in medians if m <= 1.1 * min(medians))


def main() -> None:
    """Warm up, time the calls and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file")
    parser.add_argument("--core", type=int)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    if given.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {given.core})
    session = session_of(given.file)
    seconds_of_calls(session, WARM_UP_S)
    seconds = seconds_of_calls(session, given.seconds)
    medians = {"p50_ms": statistics.median(seconds) * 1000, "undisturbed_ms": undisturbed(seconds) * 1000}
    print(json.dumps(medians | {"calls": len(seconds), "core": given.core}))


if __name__ == "__main__":
    main()
