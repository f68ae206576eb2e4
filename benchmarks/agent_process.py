"""A device agent in a process of its own that finds no more than a board has: see `BOARD`."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from nas_kd.latency.agent_protocol import TOKEN_VARIABLE

TOKEN = "a-token-for-tests-and-benchmarks"
START_S = 60.0
BOARD = ("numpy", "onnxruntime", "packaging", "nas_kd")


class AgentProcess:
    """Started in `folder`, which takes its log; a context manager that ends it.

    `arguments`: of the agent; `prefix`: what stands before the command, such as `ip netns exec NAME`; `cache`: where
    the machine's usual speed is kept, without it in `folder`.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str] = (), prefix: Sequence[str] = (), cache: Path | None = None
    ) -> None:
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self._folder, self._arguments, self._prefix = folder, list(arguments), list(prefix)
        self._cache = cache or folder / "cache"
        packages = folder / "packages"
        packages.mkdir(parents=True)
        for name in BOARD:
            self._link(packages, name)

    def __enter__(self) -> "AgentProcess":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def port(self) -> int:
        """The TCP port on which the agent listens."""
        return int(self.url.rpartition(":")[2])

    def start(self) -> None:
        """Start it, or start it again at the same port, and wait until it listens."""
        arguments = [*self._arguments, "--port", str(self.port) if self.url else "0"]
        command = [*self._prefix, sys.executable, "-S", "-P", "-m", "nas_kd.agent", *arguments]
        paths = {"PYTHONPATH": str(self._folder / "packages"), "NAS_KD_CACHE": str(self._cache)}
        written = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            environment = os.environ | paths | {TOKEN_VARIABLE: TOKEN}
            self.process = subprocess.Popen(command, stderr=log, env=environment, cwd=self._folder)
        deadline = time.monotonic() + START_S
        while not (found := re.search(r"device agent at (\S+),", self.log.read_text()[written:])):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the agent did not start: {self.log.read_text()}")
            time.sleep(0.02)
        self.url = found[1]

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @staticmethod
    def _link(packages: Path, name: str) -> None:
        """Let the package be found, with the libraries that some wheels keep beside it."""
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise RuntimeError(f"{name} is not installed")
        home = Path(found.submodule_search_locations[0])
        (packages / name).symlink_to(home)
        if (libraries := home.with_name(f"{name}.libs")).is_dir():
            (packages / libraries.name).symlink_to(libraries)
