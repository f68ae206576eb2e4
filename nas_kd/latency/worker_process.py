"""Starts the small processes that run an ONNX file on their own: `latency_worker.py` and its likes.

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

WAITING = 2  # a measurement is repeated at once where the machine was disturbed
Start = Callable[[list[str], Mapping[str, str]], AbstractContextManager[subprocess.Popen[bytes]]]


class TooSlow(TrialError):
    """The process was ended because its time was over."""


def start(
    command: list[str], environment: Mapping[str, str], folder: str | None = None, *, own_session: bool = False
) -> subprocess.Popen[bytes]:
    """A process that is spoken to through pipes, in this folder; in a session of its own Ctrl-C does not reach it."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=folder, start_new_session=own_session
    )


class PrewarmedProcess:
    """Processes of one worker that are started before there are jobs for them.

    A short measurement takes no longer than the start of Python and its imports, which so are over by then. Each does
    one job like any other, and ends with this process if none comes, as its input ends. Whoever asks but once needs
    none: the first ones come after the second job.
    """

    def __init__(self, worker: str) -> None:
        """`worker`: its path."""
        self._command, self._jobs = _command(worker), 0
        self._waiting: list[subprocess.Popen[bytes]] = []
        weakref.finalize(self, _end, self._waiting)

    def start(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """One that waits, if it is alive and of this command, or a new one; see `ask`."""
        self._jobs += 1
        while command == self._command and self._waiting:
            process = self._waiting.pop(0)
            if process.poll() is None:
                return process
            _end([process])
        return start(command, environment)

    def renew(self) -> None:
        """Start what is missing, if there seem to be more jobs; what fails now is started when it is needed."""
        while self._jobs > 1 and len(self._waiting) < WAITING:
            try:
                self._waiting.append(start(self._command, _environment(), own_session=True))
            except OSError:
                return


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    while processes:
        with processes.pop() as process:
            process.kill()


def _command(worker: str) -> list[str]:
    # By path and with -P: what lies beside the worker must not be imported in place of what it asks for.
    return [sys.executable, "-P", str(Path(worker).resolve())]


def _environment() -> dict[str, str]:
    return os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def ask(worker: str, job: Mapping[str, Any], files: bytes, doing: str, limit_s: float, *, start: Start = start) -> Any:
    """Start the worker at this path, send it the job as a line of JSON and then `files`; its answer, read as JSON.

    `doing` begins what is said when it goes wrong, as in "measuring memory". `start`: in which surroundings.

    Raises:
        TooSlow: it took more than `limit_s`.
        TrialError: it failed (the last line that it wrote says why), or was killed.
    """
    try:
        with start(_command(worker), _environment()) as process:
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
