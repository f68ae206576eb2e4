"""A search in a process of its own that can be killed, and all that it has started."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil

GRACE_S = 3.0  # until whatever the killed process had started must be gone
MARK = "RESUME_KILLS"  # in the environment of whatever belongs to a search


class Search:
    """`nas-kd search` as a process of its own, which can be found with all that it starts."""

    def __init__(self, config: Path, folder: Path, workers: int) -> None:
        self.folder, self._mark = folder, uuid4().hex
        code = "from nas_kd.cli.app import app; app()"
        command = [sys.executable, "-c", code, "search", str(config), "--run-dir", str(folder)]
        self._log = folder.with_suffix(".log")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--workers", str(workers)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {MARK: self._mark},
            )

    def alive(self) -> list[psutil.Process]:
        """The process and whatever it has started."""
        return [p for p in psutil.process_iter() if self._is_mine(p)]

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def workers(self) -> list[psutil.Process]:
        """The worker processes that train candidates."""
        return [p for p in self.alive() if "nas_kd.executors.serve" in _command(p)]

    def left(self) -> list[str]:
        """What is still there, after some grace, of a search whose coordinator is dead; it is ended."""
        until = time.monotonic() + GRACE_S
        while (rest := self.alive()) and time.monotonic() < until:
            time.sleep(0.05)
        names = [_command(p) for p in rest]
        for process in rest:
            process.kill()
        return names

    def ends_in(self, seconds: float) -> bool:
        """Tell whether the process ends by itself within the given seconds."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=seconds)
        return self.process.poll() is not None

    def ended_well(self) -> None:
        """Wait.

        Raises:
            RuntimeError: it did not end well.
        """
        if self.process.wait():
            raise RuntimeError(f"the search ended with {self.process.returncode}: {self._log.read_text()[-2000:]}")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[-100:]
    except psutil.NoSuchProcess:
        return ""
