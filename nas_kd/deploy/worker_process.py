"""Starts the small processes that run an ONNX file on their own: `memory_worker.py`, `operators_worker.py`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_kd.deploy.words import plain
from nas_kd.errors import TrialError


def ask(worker: str, job: Mapping[str, Any], files: bytes, limit_s: float, doing: str) -> Any:
    """Start the worker at this path, send it the job as a line of JSON and then `files`; its answer, read as JSON.

    `doing` begins what is said when it goes wrong, as in "measuring memory".

    Raises:
        TrialError: it failed (the last line that it wrote says why), was killed, or took more than `limit_s`.
    """
    # By path and with -P: what lies beside the worker must not be imported in place of what it asks for.
    command = [sys.executable, "-P", str(Path(worker).resolve())]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    message = json.dumps(job).encode() + b"\n" + files
    try:
        # `run` ends the process whatever happens here, Ctrl-C included.
        done = subprocess.run(
            command, input=message, capture_output=True, timeout=limit_s, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TrialError(f"{doing} took more than {limit_s:g} s") from error
    except OSError as error:
        raise TrialError(f"{doing}: cannot start a process: {error.strerror}") from error
    if done.returncode < 0:
        raise TrialError(f"{doing}: the process was killed by signal {-done.returncode} (out of memory?)")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise TrialError(f"{doing} failed: {plain(lines[-1]) if lines else 'the process said nothing'}")
    return json.loads(done.stdout)
