"""The process that measures the memory of an ONNX session, and ends. Started by path, knows nothing of nas_kd.

It reads a line of JSON settings and then both files from stdin, and writes a line of JSON to stdout:

- `runtime`: bytes by which the peak of this process's resident memory rises while its first session, the reference's,
  is created and called a few times. Nearly all of it is ONNX Runtime itself, which is loaded as it is used.
- `session`: the same for the file's own session, which is created second; the first one is kept, so that none of its
  memory is used again. It includes weights, buffers and what loading takes temporarily, but not the bytes of the file,
  which are read before.
- `finite`: whether all outputs were finite.

The first two are null where the system does not report memory (Linux does).
"""

import json
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_setup: Mapping[str, Any] = runpy.run_path(str(Path(__file__).with_name("worker_setup.py")))
open_session, random_inputs = _setup["open_session"], _setup["random_inputs"]
REFERENCE_SETTINGS, pin_to_idle_cores = _setup["REFERENCE_SETTINGS"], _setup["pin_to_idle_cores"]
CALLS = 5


def peak_growth(work: Callable[[], Any]) -> tuple[Any, int | None]:
    """Call `work` and measure how far the peak of resident memory rises above what is resident before.

    Returns:
        The result of `work`, and the growth in bytes or None where the system does not report it.
    """
    before = _reset_peak()
    result = work()
    after = _read_status("VmHWM")
    return result, None if before is None or after is None else max(0, after - before)


def run(content: bytes, settings: Mapping[str, Any], batch_size: int, input_shape: list[int] | None) -> Any:
    """Open a session of the file, call it a few times, and return it with its last outputs."""
    session = open_session(content, settings)
    inputs = random_inputs(session, batch_size, input_shape)
    for _ in range(CALLS):
        outputs = session.run(None, inputs)
    return session, outputs


def all_finite(outputs: list[Any]) -> bool:
    """Whether no number among the outputs is infinite or NaN."""
    arrays = [o for o in outputs if isinstance(o, np.ndarray) and np.issubdtype(o.dtype, np.floating)]
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _reset_peak() -> int | None:
    """Reset the recorded peak and return the bytes that are resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _read_status("VmRSS")


def _read_status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith(f"{field}:")]
    return kilobytes[0] * 1024 if kilobytes else None


def main() -> None:
    """Read the job from stdin, run both files, and print the answer."""
    job = json.loads(sys.stdin.buffer.readline())
    candidate = sys.stdin.buffer.read(job["candidate_bytes"])
    reference = sys.stdin.buffer.read(job["reference_bytes"])
    settings = job["settings"]
    if settings["pinned"]:
        pin_to_idle_cores(settings["threads"])
    kept, runtime = peak_growth(lambda: run(reference, REFERENCE_SETTINGS, 1, None))
    (_, outputs), session = peak_growth(lambda: run(candidate, settings, job["batch_size"], job["input_shape"]))
    del kept
    print(json.dumps({"runtime": runtime, "session": session, "finite": all_finite(outputs)}))


if __name__ == "__main__":
    main()
