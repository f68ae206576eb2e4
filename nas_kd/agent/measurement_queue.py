"""Measures for whoever asks: one at a time, each in a process of its own that is given little and is ended in time."""

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nas_kd.agent.onnx_scan import Unsafe, refuse_unsafe
from nas_kd.agent.refusal import Refusal
from nas_kd.errors import TrialError
from nas_kd.latency.agent_protocol import TOKEN_VARIABLE, VERSION, MeasureRequest
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.latency.environment import machine
from nas_kd.latency.measurement_job import MeasurementJob, memory_of, operators_of
from nas_kd.latency.stable_timing import MeasurementBudget, history_file, measure_until_stable
from nas_kd.latency.worker_process import TooSlow, ask, start

RETRY_AFTER_S = 5
MAX_WAITING = 4
# The token is not the worker's business; the other one lets a model bring settings of ONNX Runtime along.
KEPT_BACK = {TOKEN_VARIABLE, "ORT_LOAD_CONFIG_FROM_MODEL"}


class MeasurementQueue:
    """The profiles of this machine and the one place to measure on it."""

    def __init__(self, profiles: Mapping[str, DeviceProfile], max_bytes: int, limit_s: float, line_s: float) -> None:
        """`limit_s`: for a measurement with its repetitions; `line_s`: how long somebody waits for others."""
        self._profiles, self._max_bytes = dict(profiles), max_bytes
        self._limit_s, self._line_s = limit_s, line_s
        self._free = threading.Semaphore(1)
        self._places = threading.Semaphore(1 + MAX_WAITING)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def names(self) -> list[str]:
        """Of the profiles."""
        return sorted(self._profiles)

    def describe(self) -> dict[str, Any]:
        """Environment, profiles and limits."""
        profiles = {name: _described(profile) for name, profile in self._profiles.items()}
        limits = {"max_bytes": self._max_bytes, "longest_s": self._limit_s + self._line_s}
        return {"nas_kd_agent": VERSION, "environment": machine(), "profiles": profiles, **limits}

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else measures inside.

        Raises:
            Refusal: too many wait already, or it took too long.
        """
        busy = Refusal(503, "busy with other measurements", {"Retry-After": str(RETRY_AFTER_S)})
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            if not self._free.acquire(timeout=self._line_s):
                raise busy
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._places.release()

    def measure(self, request: MeasureRequest, content: bytes, reference: bytes) -> dict[str, Any]:
        """Do a request, inside `turn`.

        Raises:
            Refusal: the profile or its key is not known, the file cannot be run, or it takes too long.
        """
        profile = self._profiles.get(request.profile)
        if profile is None:
            raise Refusal(404, f"there is no such profile; there are {', '.join(self.names)}")
        if request.key != profile.key():
            raise Refusal(409, "settings or environment of this device have changed since it was asked for them")
        try:
            for file in (content, reference):
                refuse_unsafe(file)
        except Unsafe as error:
            raise Refusal(422, str(error)) from error
        job = MeasurementJob(content, reference, request.batch_size, request.input_shape, profile.settings())
        try:
            return {"measured": self._measured(request, job, profile), "environment": machine()}
        except TooSlow as error:
            raise Refusal(422, f"measuring takes more than {self._limit_s:g} s here; it was given up") from error
        except TrialError as error:
            raise Refusal(422, str(error)) from error

    def _measured(self, request: MeasureRequest, job: MeasurementJob, profile: DeviceProfile) -> Any:
        ask = partial(self._ask, deadline=time.monotonic() + self._limit_s)
        match request.what:
            case "latency":
                effort = MeasurementBudget(request.seconds, request.attempts, request.tolerance)
                return asdict(measure_until_stable(job, effort, ask, history_file(request.reference, profile.key())))
            case "memory":
                return asdict(memory_of(job, ask))
            case "operators":
                return [asdict(operator) for operator in operators_of(job, ask)]

    def close(self) -> None:
        """End what is being measured."""
        process = self._process
        if process is not None:
            process.kill()

    def _ask(self, worker: str, job: Mapping[str, Any], files: bytes, doing: str, *, deadline: float) -> Any:
        return ask(worker, job, files, doing, max(0.0, deadline - time.monotonic()), start=self._start)

    @contextmanager
    def _start(self, command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """A process in an empty folder: not even a name that got past the checks finds a file."""
        given = {k: v for k, v in environment.items() if k not in KEPT_BACK}
        with (
            tempfile.TemporaryDirectory(prefix="nas-kd-agent-") as empty,
            start(command, given, empty) as process,
        ):
            self._process = process
            try:
                _first_to_go(process.pid, self._limit_s)
                yield process
            finally:
                process.kill()
                self._process = None


def _described(profile: DeviceProfile) -> dict[str, Any]:
    return {
        "summary": profile.summary,
        "key": profile.key(),
        "settings": profile.facts(),
        "batch_size": profile.batch_size,
        "precisions": profile.precisions,
        "integer_scheme": profile.integer_scheme,
    }


def _first_to_go(pid: int, limit_s: float) -> None:
    """Where memory runs out, this process ends, not the agent; and it ends by itself, should the agent be killed."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        seconds = int(limit_s) + 1  # of all its threads together
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds * (os.cpu_count() or 1),) * 2)
