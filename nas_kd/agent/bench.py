"""Measures for whoever asks: one at a time, each in a process of its own that is given little and is ended in time."""

import contextlib
import json
import os
import subprocess
import sys
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
from nas_kd.deploy import latency_worker
from nas_kd.deploy.agent_words import TOKEN_VARIABLE, VERSION, Job
from nas_kd.deploy.device import DeviceProfile
from nas_kd.deploy.environment import Fact, machine
from nas_kd.deploy.latency_worker import Timing
from nas_kd.deploy.settle import history_file, read_answer, settle

RETRY_AFTER_S = 5
MAX_WAITING = 4
# The token is not the worker's business; the other one lets a model bring settings of ONNX Runtime along.
KEPT_BACK = {TOKEN_VARIABLE, "ORT_LOAD_CONFIG_FROM_MODEL"}


class Bench:
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
        profiles = {
            name: {"summary": p.summary, "key": p.key(), "settings": p.facts()} for name, p in self._profiles.items()
        }
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

    def measure(self, job: Job, content: bytes, reference: bytes) -> dict[str, Any]:
        """Do a job, inside `turn`.

        Raises:
            Refusal: the profile or its key is not known, the file cannot be run, or it takes too long.
        """
        profile = self._profiles.get(job.profile)
        if profile is None:
            raise Refusal(404, f"there is no such profile; there are {', '.join(self.names)}")
        if job.key != profile.key():
            raise Refusal(409, "settings or environment of this device have changed since it was asked for them")
        try:
            for file in (content, reference):
                refuse_unsafe(file)
        except Unsafe as error:
            raise Refusal(422, str(error)) from error
        run = partial(
            self._run,
            reference=reference,
            settings=profile.settings(),
            seconds=job.seconds,
            deadline=time.monotonic() + self._limit_s,
        )
        settled = settle(run, content, job.batch_size, reference, history_file(job.reference, profile.key()))
        return {"measured": asdict(settled), "environment": machine()}

    def close(self) -> None:
        """End what is being measured."""
        process = self._process
        if process is not None:
            process.kill()

    def _run(
        self,
        content: bytes,
        *,
        batch_size: int,
        reference: bytes,
        settings: Mapping[str, Any],
        seconds: float,
        deadline: float,
    ) -> tuple[Timing, dict[str, Fact]]:
        head = {
            "candidate_bytes": len(content),
            "reference_bytes": len(reference),
            "batch_size": batch_size,
            "seconds": seconds,
            "settings": settings,
        }
        return read_answer(self._ask(json.dumps(head).encode() + b"\n" + content + reference, deadline))

    def _ask(self, job: bytes, deadline: float) -> Any:
        """Give a job to a fresh process, in an empty folder: not even a name that got past the checks finds a file."""
        command = [sys.executable, "-P", str(Path(latency_worker.__file__).resolve())]
        environment = {k: v for k, v in os.environ.items() if k not in KEPT_BACK}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        with (
            tempfile.TemporaryDirectory(prefix="nas-kd-agent-") as empty,
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=empty) as process,
        ):
            self._process = process
            try:
                _first_to_go(process.pid, self._limit_s)
                out, err = process.communicate(job, timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise Refusal(422, f"measuring takes more than {self._limit_s:g} s here; it was given up") from error
            finally:
                process.kill()
                self._process = None
        if process.returncode < 0:
            raise Refusal(422, f"the measuring process was killed by signal {-process.returncode} (out of memory?)")
        if process.returncode:
            lines = err.decode(errors="replace").strip().splitlines()
            raise Refusal(422, f"latency cannot be measured: {lines[-1][:300] if lines else 'the process failed'}")
        return json.loads(out)


def _first_to_go(pid: int, limit_s: float) -> None:
    """Where memory runs out, this process ends, not the agent; and it ends by itself, should the agent be killed."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        seconds = int(limit_s) + 1  # of all its threads together
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds * (os.cpu_count() or 1),) * 2)
