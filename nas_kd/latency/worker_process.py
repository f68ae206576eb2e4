"""Starts the processes that run an ONNX file by itself: `latency_worker.py` and its siblings.

Needs the standard library only.
"""

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nas_kd.errors import TrialError
from nas_kd.export.error_text import plain

N_PREWARMED = 2  # a measurement is repeated at once where the machine was disturbed
StartProcess = Callable[[list[str], Mapping[str, str]], AbstractContextManager[subprocess.Popen[bytes]]]


class WorkerTimeout(TrialError):
    """A measuring process was ended because it took too long."""


def start_process(
    command: list[str], environment: Mapping[str, str], folder: str | None = None, *, own_session: bool = False
) -> subprocess.Popen[bytes]:
    """Start a process whose standard streams are pipes.

    Args:
        command: The program and its arguments.
        environment: Its environment variables.
        folder: Its working folder; None: this process's.
        own_session: Start it in a session of its own, where Ctrl-C does not reach it.
    """
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=folder, start_new_session=own_session
    )


class PrewarmedProcess:
    """Keeps processes of one worker ready, started before there are jobs for them.

    A short measurement takes no longer than the start of Python and its imports, which are then over when a job comes.
    Each process does one job like any other; without one it ends with this process, as its input ends. The first
    processes are prewarmed after the second job, as a caller with a single job has no use for them.
    """

    def __init__(self, worker: str) -> None:
        """Prepare for the worker at this path; nothing is started yet."""
        self._command, self._jobs = _command(worker), 0
        self._ready: list[subprocess.Popen[bytes]] = []
        weakref.finalize(self, _kill_all, self._ready)

    def start(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Take a prewarmed process if one is alive and has this command, or start a new one; see `run_worker`."""
        self._jobs += 1
        while command == self._command and self._ready:
            process = self._ready.pop(0)
            if process.poll() is None:
                return process
            _kill_all([process])
        return start_process(command, environment)

    def refill(self) -> None:
        """Start the processes that are missing, once there was a second job; one that fails is started when needed."""
        while self._jobs > 1 and len(self._ready) < N_PREWARMED:
            try:
                self._ready.append(start_process(self._command, _environment(), own_session=True))
            except OSError:
                return


def run_worker(
    worker: str,
    job: Mapping[str, Any],
    files: bytes,
    activity: str,
    timeout_s: float,
    *,
    start: StartProcess = start_process,
) -> Any:
    """Run a worker process on a job and return its answer, read as JSON.

    Args:
        worker: Path of the worker.
        job: Sent to it as a line of JSON.
        files: Sent after the job.
        activity: What the worker does, for error messages, as in "measuring memory".
        timeout_s: After this time the process is ended.
        start: Starts the process.

    Raises:
        WorkerTimeout: It took longer than `timeout_s`.
        TrialError: It failed (the last line that it wrote to stderr is given as the reason), or was killed.
    """
    try:
        with start(_command(worker), _environment()) as process:
            try:
                out, err = process.communicate(json.dumps(job).encode() + b"\n" + files, timeout=timeout_s)
            finally:
                process.kill()  # whatever happens here, Ctrl-C included
    except subprocess.TimeoutExpired as error:
        raise WorkerTimeout(f"{activity} took more than {timeout_s:g} s") from error
    except OSError as error:
        raise TrialError(f"{activity}: cannot start a process: {error.strerror}") from error
    if process.returncode < 0:
        raise TrialError(f"{activity}: the process was killed by signal {-process.returncode} (out of memory?)")
    if process.returncode:
        lines = err.decode(errors="replace").strip().splitlines()
        raise TrialError(f"{activity} failed: {plain(lines[-1]) if lines else 'the process gave no reason'}")
    return json.loads(out)


def _kill_all(processes: list[subprocess.Popen[bytes]]) -> None:
    while processes:
        with processes.pop() as process:
            process.kill()


def _command(worker: str) -> list[str]:
    # By path and with -P: a file beside the worker must not be imported in place of a library of the same name.
    return [sys.executable, "-P", str(Path(worker).resolve())]


def _environment() -> dict[str, str]:
    return os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
