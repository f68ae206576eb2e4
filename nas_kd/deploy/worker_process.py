"""Starts the small processes that run an ONNX file on their own: `latency_worker.py` and its likes.

Needs the standard library only.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nas_kd.deploy.words import plain
from nas_kd.errors import TrialError

Start = Callable[[list[str], Mapping[str, str]], AbstractContextManager[subprocess.Popen[bytes]]]


class TooSlow(TrialError):
    """The process was ended because its time was over."""


def start(command: list[str], environment: Mapping[str, str], folder: str | None = None) -> subprocess.Popen[bytes]:
    """A process that is spoken to through pipes, in this folder."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=folder)


def ask(worker: str, job: Mapping[str, Any], files: bytes, doing: str, limit_s: float, *, start: Start = start) -> Any:
    """Start the worker at this path, send it the job as a line of JSON and then `files`; its answer, read as JSON.

    `doing` begins what is said when it goes wrong, as in "measuring memory". `start`: in which surroundings.

    Raises:
        TooSlow: it took more than `limit_s`.
        TrialError: it failed (the last line that it wrote says why), or was killed.
    """
    # By path and with -P: what lies beside the worker must not be imported in place of what it asks for.
    command = [sys.executable, "-P", str(Path(worker).resolve())]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        with start(command, environment) as process:
            try:
                out, err = process.communicate(json.dumps(job).encode() + b"\n" + files, timeout=limit_s)
            finally:
                process.kill()  # whatever happens here, Ctrl-C included
    except subprocess.TimeoutExpired as error:
        raise TooSlow(f"{doing} took more than {limit_s:g} s") from error
    except OSError as error:
        raise TrialError(f"{doing}: cannot start a process: {error.strerror}") from error
    if process.returncode < 0:
        raise TrialError(f"{doing}: the process was killed by signal {-process.returncode} (out of memory?)")
    if process.returncode:
        lines = err.decode(errors="replace").strip().splitlines()
        raise TrialError(f"{doing} failed: {plain(lines[-1]) if lines else 'the process said nothing'}")
    return json.loads(out)
