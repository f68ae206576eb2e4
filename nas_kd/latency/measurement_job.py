"""A file to be measured, and the measuring processes: what they are sent, and what they answer.

Needs the standard library, NumPy and ONNX Runtime only, as device agents use it too.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nas_kd.errors import TrialError
from nas_kd.latency import latency_worker, memory_worker, operators_worker
from nas_kd.latency.timing_statistics import RelativeTiming
from nas_kd.results.latency import ReferenceSize

# `worker_process.run_worker` with its limits: path of the worker, job, files, what it is doing.
RunWorker = Callable[[str, Mapping[str, Any], bytes, str], Any]


@dataclass(frozen=True)
class MeasurementJob:
    """A file to be measured, and the reference network that is timed in turns with it.

    Attributes:
        content: The ONNX file.
        reference: The reference network's ONNX file.
        reference_size: Which reference network that is.
        batch_size: Samples a call.
        input_shape: Shape of one sample; needed only for a file that leaves more dimensions than the batch open.
        settings: Settings of the device profile, see `DeviceProfile.settings`.
    """

    content: bytes
    reference: bytes
    reference_size: ReferenceSize
    batch_size: int
    input_shape: tuple[int, ...] | None
    settings: Mapping[str, Any]

    @property
    def reference_job(self) -> "MeasurementJob":
        """A job that measures the reference network itself, with the same settings."""
        return replace(self, content=self.reference, batch_size=1, input_shape=None)

    @property
    def files(self) -> bytes:
        """Both files one after the other, as the measuring processes read them."""
        return self.content + self.reference

    @property
    def request(self) -> dict[str, Any]:
        """The part of the JSON line that is the same for every measuring process."""
        return {
            "candidate_bytes": len(self.content),
            "reference_bytes": len(self.reference),
            "batch_size": self.batch_size,
            "input_shape": self.input_shape,
            "settings": self.settings,
        }


@dataclass(frozen=True)
class SessionMemory:
    """Bytes by which the peak of a process's resident memory rises; None where the system does not report it.

    Attributes:
        session_bytes: For the file's session, from before it is created until after some calls.
        runtime_bytes: For ONNX Runtime's own code and data, needed once a process, whatever it runs.
    """

    session_bytes: int | None
    runtime_bytes: int | None

    @staticmethod
    def from_json(value: Any) -> "SessionMemory":
        """Read what `dataclasses.asdict` gave on another machine.

        Raises:
            ValueError: A size is not a whole number >= 0 or None.
            TypeError: A name is missing or unknown.
        """
        memory = SessionMemory(**value)
        if not all(size is None or (type(size) is int and size >= 0) for size in vars(memory).values()):
            raise ValueError("memory must be whole numbers of bytes")
        return memory


@dataclass(frozen=True)
class OperatorTime:
    """The time of an operator as ONNX Runtime runs it, after its own optimisations.

    Attributes:
        kind: Type of the operator, such as "Conv".
        name: Name of the node.
        share: Share (0..1) of the time of all operators.
        microseconds: Time in one call of the file.
    """

    kind: str
    name: str
    share: float
    microseconds: float

    @staticmethod
    def from_json(value: Any) -> "OperatorTime":
        """Read what `dataclasses.asdict` gave on another machine.

        Raises:
            ValueError: A time is not a finite number.
            TypeError: A name is missing or unknown.
        """
        operator = OperatorTime(**value)
        numbers = operator.share, operator.microseconds
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError("an operator's time must be a finite number")
        return replace(operator, kind=str(operator.kind), name=str(operator.name))


def time_once(
    job: MeasurementJob, seconds: float, run_worker: RunWorker, baseline_ms: float | None = None
) -> RelativeTiming:
    """Time the file in turns with the reference network, in a process of its own.

    Args:
        job: What to time.
        seconds: Longest duration.
        run_worker: Starts the measuring process.
        baseline_ms: The reference's usual undisturbed time, if it is known; moments in which the reference takes longer
            do not count.

    Raises:
        TrialError: The file cannot be run.
    """
    request = job.request | {"seconds": seconds, "baseline_ms": baseline_ms}
    return RelativeTiming(**run_worker(latency_worker.__file__, request, job.files, "measuring latency"))


def memory_of(job: MeasurementJob, run_worker: RunWorker) -> SessionMemory:
    """Measure the peak memory of a session that runs the file; `memory_worker.py` explains how.

    Raises:
        TrialError: The file cannot be run, or its outputs on random samples are not finite.
    """
    answer = run_worker(memory_worker.__file__, job.request, job.files, "running the file")
    if not answer["finite"]:
        raise TrialError("its outputs on random samples are not finite (NaN or infinite); the file is not usable")
    return SessionMemory(session_bytes=answer["session"], runtime_bytes=answer["runtime"])


def operators_of(job: MeasurementJob, run_worker: RunWorker) -> tuple[OperatorTime, ...]:
    """Profile the operators, the slowest first; in a run of its own, as profiling takes time itself.

    Raises:
        TrialError: The file cannot be run.
    """
    with TemporaryDirectory(prefix="nas-kd-") as folder:
        request = job.request | {"profile_prefix": str(Path(folder) / "profile")}
        rows = run_worker(operators_worker.__file__, request, job.content, "profiling the file")
    total = sum(microseconds for *_, microseconds in rows) or 1.0
    return tuple(OperatorTime(kind, name, us / total, us) for kind, name, us in rows)
