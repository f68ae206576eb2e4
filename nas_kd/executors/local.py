"""Worker processes on this machine: one job at a time each, each on a core of its own while there are enough.

Jobs and results are JSON lines over pipes. Workers are fresh interpreters, not forks: threads and locks of the
coordinator do not follow them.
"""

import base64
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nas_kd.errors import InputError
from nas_kd.executors.executor import Executor, ExecutorPlugin, JobResult, WorkerSpec
from nas_kd.executors.in_process import InProcessExecutor
from nas_kd.plugins import IN_MEMORY

ATTEMPTS = 2  # of a job whose worker dies
READ_BYTES = 2**16


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    core: int | None
    job: Mapping[str, Any] | None = None
    attempts: int = 0
    result: JobResult | None = None  # not collected yet
    received: bytes = b""  # of a line that is not complete yet

    @property
    def works(self) -> bool:
        return self.job is not None and self.result is None


class LocalExecutor:
    """Processes that serve jobs; a context manager."""

    def __init__(
        self,
        target: str,
        setup: Mapping[str, Any],
        count: int,
        on_message: Callable[[Any], None] | None = None,
        objects: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the processes.

        Args:
            target: `package.module:Class` of the handler.
            setup: its arguments, JSON-able.
            count: how many processes.
            on_message: receives what workers send while they work, whenever a result is asked for.
            objects: given in Python, by name; pickled for the workers.

        Raises:
            InputError: workers could not import what one of the objects is made of.
        """
        self._on_message = on_message or (lambda _: None)
        self._target, self._setup, self._objects = target, dict(setup), _pickled(objects or {})
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._selector = selectors.DefaultSelector()
        self._workers = [self._start(cores[i] if count <= len(cores) else None) for i in range(count)]

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def has_room(self) -> bool:
        """Whether a worker has nothing to do."""
        return any(w.job is None for w in self._workers)

    @property
    def busy(self) -> int:
        """How many jobs are under way, or done and not collected."""
        return sum(w.job is not None for w in self._workers)

    @property
    def result_ready(self) -> bool:
        """Whether a worker has finished its job.

        Raises:
            InputError: a worker cannot be set up.
        """
        self._receive_all(timeout=0)
        return any(w.result for w in self._workers)

    def submit(self, job: Mapping[str, Any]) -> None:
        """Give a job to a worker that has none.

        Raises:
            RuntimeError: all of them have one.
        """
        free = next((w for w in self._workers if w.job is None), None)
        if free is None:
            raise RuntimeError("every worker has a job already")
        free.job, free.attempts = job, 1
        self._send(free, job)

    def wait(self) -> JobResult:
        """Collect the next result; a worker that dies is replaced, and its job tried once more.

        Raises:
            InputError: a worker cannot be set up.
            RuntimeError: no job is under way.
        """
        if not self.busy:
            raise RuntimeError("no job is under way")
        while True:
            for worker in self._workers:
                if (result := worker.result) is not None:
                    worker.job = worker.result = None
                    return result
            self._receive_all(timeout=None)

    @contextmanager
    def reserve(self, cores: int) -> Iterator[None]:
        """Stop as many workers inside (all, if there are fewer): their cores are free for a measurement."""
        stopped = [w.process for w in sorted(self._workers, key=lambda w: w.works)[:cores]]
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End all workers; the jobs under way are lost."""
        for worker in self._workers:
            self._end(worker)
        self._selector.close()

    def _start(self, core: int | None) -> _Worker:
        command = [sys.executable, "-m", "nas_kd.executors.serve"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        worker = _Worker(process, core)
        self._selector.register(_pipe(process.stdout), selectors.EVENT_READ, worker)
        first = {
            "target": self._target,
            "setup": self._setup,
            "core": core,
            "coordinator": os.getpid(),
            "objects": self._objects,
        }
        self._send(worker, first)
        return worker

    def _end(self, worker: _Worker) -> None:
        self._selector.unregister(_pipe(worker.process.stdout))
        worker.process.kill()
        worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            _pipe(pipe).close()

    def _send(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        try:
            stdin = _pipe(worker.process.stdin)
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it died: `wait` will notice

    def _receive_all(self, timeout: float | None) -> None:
        """Receive from every worker that has sent something within `timeout` seconds (None: wait until one has)."""
        for key, _ in self._selector.select(timeout):
            self._receive(key.data)

    def _receive(self, worker: _Worker) -> None:
        chunk = os.read(_pipe(worker.process.stdout).fileno(), READ_BYTES)
        if not chunk:
            self._replace(worker)
            return
        *lines, worker.received = (worker.received + chunk).split(b"\n")
        for message in map(json.loads, lines):
            if "refused" in message:
                raise InputError(message["refused"])
            if "progress" in message:
                self._on_message(message["progress"])
            elif "ready" not in message and worker.job is not None:
                worker.result = JobResult(worker.job, message.get("result"), message.get("error"))

    def _replace(self, dead: _Worker) -> None:
        """Start a new process in its place, for the same job, unless that is done or was tried often enough."""
        status = dead.process.wait()
        self._end(dead)
        new = self._start(dead.core)
        self._workers[self._workers.index(dead)] = new
        new.job, new.attempts, new.result = dead.job, dead.attempts + 1, dead.result
        if dead.job is None or dead.result is not None:
            return
        if dead.attempts >= ATTEMPTS:
            error = f"its worker died {dead.attempts} times, the last time with status {status}"
            new.result = JobResult(dead.job, error=error)
        else:
            self._send(new, dead.job)


def _pickled(objects: Mapping[str, Any]) -> str:
    """Pickle objects that were given in Python, for child processes of this very program; "" if there are none.

    Raises:
        InputError: a child process could not import what one of them is made of.
    """
    if not objects:
        return ""
    for name, value in objects.items():
        kind = name.removeprefix(IN_MEMORY).partition("-")[0]
        try:
            importable = b"__main__" not in pickle.dumps(value)
        except Exception as error:  # pickle raises whatever the object's own code does
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"the {kind} cannot be passed to several workers ({reason}); use workers=1") from error
        if not importable:
            raise InputError(
                f"the {kind} is defined in this program's main module, which workers cannot import; "
                "move its class to a module of its own, or use workers=1"
            )
    return base64.b64encode(pickle.dumps(dict(objects))).decode()


def _pipe(pipe: Any) -> Any:
    if pipe is None:
        raise RuntimeError("a worker was started without its pipes")
    return pipe


class Local(ExecutorPlugin):
    """Processes of this machine; with one worker, the coordinator itself."""

    name = "local"
    summary = "processes of this machine, one a worker; a single worker is the search's own process"

    def open(self, spec: WorkerSpec) -> Executor:
        """Start the processes, if more than one worker is wanted."""
        if spec.count == 1:
            return InProcessExecutor(spec.in_process)
        return LocalExecutor(spec.target, spec.setup, spec.count, spec.on_message, spec.objects)


PLUGIN = Local()
