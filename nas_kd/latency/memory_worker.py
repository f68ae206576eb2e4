"""The process that finds out what memory an ONNX file takes, and ends. Started by path, knows nothing of nas_kd.

It reads a line of JSON settings and then both files from stdin, and writes a line of JSON to stdout, in bytes:
`runtime`: how far the peak of this process's resident memory rises above what is resident before its first session, the
reference's, until after some calls. Nearly all of it is ONNX Runtime itself, which is loaded as it is used.
`session`: the same for the file's own session, which comes second; the first is kept, so that nothing of it is used
again. Weights, buffers and what loading takes for a moment are in it; the bytes of the file, read before, are not.
Both are null where the system does not tell (Linux does). `finite`: whether all that came out was.
"""

import json
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_SETUP: Mapping[str, Any] = runpy.run_path(str(Path(__file__).with_name("worker_setup.py")))
PLAIN, open_session, pin, samples = (_SETUP[name] for name in ("PLAIN", "open_session", "pin", "samples"))
CALLS = 5


def growth(work: Callable[[], Any]) -> tuple[Any, int | None]:
    """What `work` gives, and how many bytes the peak of resident memory rose above what was resident before."""
    before = _reset_peak()
    result = work()
    after = _status("VmHWM")
    return result, None if before is None or after is None else max(0, after - before)


def run(content: bytes, settings: Mapping[str, Any], batch_size: int, input_shape: list[int] | None) -> Any:
    """The file's session, used, and what it gave last."""
    session = open_session(content, settings)
    feed = samples(session, batch_size, input_shape)
    for _ in range(CALLS):
        outputs = session.run(None, feed)
    return session, outputs


def finite(outputs: list[Any]) -> bool:
    """Whether no number among the outputs is infinite or not a number."""
    arrays = [o for o in outputs if isinstance(o, np.ndarray) and np.issubdtype(o.dtype, np.floating)]
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _reset_peak() -> int | None:
    """Forget the peak so far; what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith(f"{field}:")]
    return kilobytes[0] * 1024 if kilobytes else None


def main() -> None:
    """Read the job, run both files, print."""
    job = json.loads(sys.stdin.buffer.readline())
    candidate = sys.stdin.buffer.read(job["candidate_bytes"])
    reference = sys.stdin.buffer.read(job["reference_bytes"])
    settings = job["settings"]
    if settings["pinned"]:
        pin(settings["threads"])
    first, runtime = growth(lambda: run(reference, PLAIN, 1, None))
    (_, outputs), session = growth(lambda: run(candidate, settings, job["batch_size"], job["input_shape"]))
    del first
    print(json.dumps({"runtime": runtime, "session": session, "finite": finite(outputs)}))


if __name__ == "__main__":
    main()
