"""Measures for clients, one at a time, each in a process of its own with few rights and a time limit."""

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

from nas_kd.agent.onnx_scan import UnsafeModel, check_model
from nas_kd.agent.request_refused import RequestRefused
from nas_kd.errors import TrialError
from nas_kd.latency.agent_protocol import PROTOCOL_VERSION, TOKEN_VARIABLE, MeasureRequest
from nas_kd.latency.baseline import BaselineHistory
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.latency.environment import machine_facts
from nas_kd.latency.measurement_job import MeasurementJob, memory_of, operators_of
from nas_kd.latency.stable_timing import MeasurementBudget, measure_until_stable
from nas_kd.latency.worker_process import WorkerTimeout, run_worker, start_process

RETRY_AFTER_S = 5
MAX_WAITING = 4
# The token is not the measuring process's business; the other one lets a model bring its own settings of ONNX Runtime.
WITHHELD_VARIABLES = {TOKEN_VARIABLE, "ORT_LOAD_CONFIG_FROM_MODEL"}


class MeasurementQueue:
    """The device profiles of this machine, and the lock that lets one client at a time measure on it."""

    def __init__(
        self, profiles: Mapping[str, DeviceProfile], max_bytes: int, time_limit_s: float, queue_timeout_s: float
    ) -> None:
        """Prepare to measure under these profiles.

        Args:
            profiles: By name.
            max_bytes: Largest request that clients may send.
            time_limit_s: Longest time of a measurement, repetitions included.
            queue_timeout_s: How long a client waits for others before it is refused.
        """
        self._profiles, self._max_bytes = dict(profiles), max_bytes
        self._time_limit_s, self._queue_timeout_s = time_limit_s, queue_timeout_s
        self._measuring = threading.Semaphore(1)
        self._places = threading.Semaphore(1 + MAX_WAITING)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the profiles, sorted."""
        return sorted(self._profiles)

    def describe(self) -> dict[str, Any]:
        """Describe environment, profiles and limits for a client."""
        profiles = {name: _describe_profile(profile) for name, profile in self._profiles.items()}
        limits = {"max_bytes": self._max_bytes, "longest_s": self._time_limit_s + self._queue_timeout_s}
        return {"nas_kd_agent": PROTOCOL_VERSION, "environment": machine_facts(), "profiles": profiles, **limits}

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no other client measures, and keep others waiting inside.

        Raises:
            RequestRefused: Too many clients wait already, or it took too long.
        """
        busy = RequestRefused(503, "busy with other measurements", {"Retry-After": str(RETRY_AFTER_S)})
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            if not self._measuring.acquire(timeout=self._queue_timeout_s):
                raise busy
            try:
                yield
            finally:
                self._measuring.release()
        finally:
            self._places.release()

    def measure(self, request: MeasureRequest, content: bytes, reference: bytes) -> dict[str, Any]:
        """Measure a file as requested; to be called inside `exclusive`.

        Args:
            request: What to measure, and under which profile.
            content: The ONNX file.
            reference: The reference network's ONNX file.

        Raises:
            RequestRefused: The profile is unknown or its key has changed, a file is not safe or cannot be run, or it
                takes too long.
        """
        profile = self._profiles.get(request.profile)
        if profile is None:
            raise RequestRefused(404, f"there is no such profile; there are {', '.join(self.names)}")
        if request.device_key != profile.key():
            raise RequestRefused(409, "settings or environment of this device have changed since the run began")
        try:
            for file in (content, reference):
                check_model(file)
        except UnsafeModel as error:
            raise RequestRefused(422, str(error)) from error
        job = MeasurementJob(
            content=content,
            reference=reference,
            reference_size=request.reference_size,
            batch_size=request.batch_size,
            input_shape=request.input_shape,
            settings=profile.settings(),
        )
        try:
            return {"measured": self._measure(request, job, profile)}
        except WorkerTimeout as error:
            raise RequestRefused(422, f"measuring takes more than {self._time_limit_s:g} s here; given up") from error
        except TrialError as error:
            raise RequestRefused(422, str(error)) from error

    def _measure(self, request: MeasureRequest, job: MeasurementJob, profile: DeviceProfile) -> Any:
        run = partial(self._run_worker, deadline=time.monotonic() + self._time_limit_s)
        match request.quantity:
            case "latency":
                measurement_budget = MeasurementBudget(request.seconds, request.attempts, request.tolerance)
                history = BaselineHistory.of_device(request.reference_size, profile.key())
                return measure_until_stable(job, measurement_budget, run, history).to_json()
            case "memory":
                return asdict(memory_of(job, run))
            case "operators":
                return [asdict(operator) for operator in operators_of(job, run)]

    def close(self) -> None:
        """End the measurement that is running, if there is one."""
        process = self._process
        if process is not None:
            process.kill()

    def _run_worker(self, worker: str, job: Mapping[str, Any], files: bytes, activity: str, *, deadline: float) -> Any:
        timeout_s = max(0.0, deadline - time.monotonic())
        return run_worker(worker, job, files, activity, timeout_s, start=self._start)

    @contextmanager
    def _start(self, command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process in an empty folder, where even a file name that got past the checks finds no file."""
        given = {k: v for k, v in environment.items() if k not in WITHHELD_VARIABLES}
        with (
            tempfile.TemporaryDirectory(prefix="nas-kd-agent-") as empty,
            start_process(command, given, empty) as process,
        ):
            self._process = process
            try:
                _limit_process(process.pid, self._time_limit_s)
                yield process
            finally:
                process.kill()
                self._process = None


def _describe_profile(profile: DeviceProfile) -> dict[str, Any]:
    return {
        "summary": profile.summary,
        "key": profile.key(),
        "settings": profile.facts(),
        "batch_size": profile.batch_size,
        "precisions": profile.precisions,
        "integer_scheme": profile.integer_scheme,
    }


def _limit_process(pid: int, time_limit_s: float) -> None:
    """Let the process be the first to end if memory runs out, and end by itself if the agent is killed."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        cpu_seconds = (int(time_limit_s) + 1) * (os.cpu_count() or 1)  # of all its threads together
        resource.prlimit(pid, resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
