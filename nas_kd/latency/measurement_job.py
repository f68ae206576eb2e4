"""An ONNX file that is measured: what the measuring processes are asked about it, and what they answer.

Needs the standard library, NumPy and ONNX Runtime only: a board's agent asks as this machine does.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nas_kd.errors import TrialError
from nas_kd.latency import latency_worker, memory_worker, operators_worker
from nas_kd.latency.environment import Fact
from nas_kd.latency.latency_worker import Timing

# `worker_process.ask` with its limits: path of the worker, job, files, what it is doing.
Ask = Callable[[str, Mapping[str, Any], bytes, str], Any]


@dataclass(frozen=True)
class MeasurementJob:
    """A file as it is to be run, and the reference network that is run beside it.

    `input_shape`: one sample's, for a file whose input leaves more than the batch open; `settings`: of the profile, see
    `DeviceProfile.settings`.
    """

    content: bytes
    reference: bytes
    batch_size: int
    input_shape: tuple[int, ...] | None
    settings: Mapping[str, Any]

    @property
    def of_reference(self) -> "MeasurementJob":
        """The reference itself, on the same terms."""
        return replace(self, content=self.reference, batch_size=1, input_shape=None)

    @property
    def files(self) -> bytes:
        """As they are sent to the processes."""
        return self.content + self.reference

    @property
    def request(self) -> dict[str, Any]:
        """What every process is told."""
        return {
            "candidate_bytes": len(self.content),
            "reference_bytes": len(self.reference),
            "batch_size": self.batch_size,
            "input_shape": self.input_shape,
            "settings": self.settings,
        }


@dataclass(frozen=True)
class SessionMemory:
    """Bytes by which the peak of a process's resident memory rises; None where the system does not tell.

    `session_bytes`: for the file's session, from before it is created until after some calls. `runtime_bytes`: for ONNX
    Runtime's own code and data, once a process, whatever it runs.
    """

    session_bytes: int | None
    runtime_bytes: int | None

    @staticmethod
    def from_json(value: Any) -> "SessionMemory":
        """Out of what `dataclasses.asdict` gave on another machine.

        Raises:
            ValueError, TypeError: it is anything else.
        """
        memory = SessionMemory(**value)
        if not all(size is None or (type(size) is int and size >= 0) for size in vars(memory).values()):
            raise ValueError("memory must be whole numbers of bytes")
        return memory


@dataclass(frozen=True)
class OperatorTime:
    """An operator as ONNX Runtime runs it, after its own optimisations. `share`: of the time of all (0..1)."""

    kind: str
    name: str
    share: float
    microseconds: float

    @staticmethod
    def from_json(value: Any) -> "OperatorTime":
        """Out of what `dataclasses.asdict` gave on another machine.

        Raises:
            ValueError, TypeError: it is anything else, or holds a number that is not finite.
        """
        operator = OperatorTime(**value)
        numbers = operator.share, operator.microseconds
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError("an operator's time must be a finite number")
        return replace(operator, kind=str(operator.kind), name=str(operator.name))


def time_once(
    job: MeasurementJob, seconds: float, ask: Ask, baseline_ms: float | None = None
) -> tuple[Timing, dict[str, Fact]]:
    """The file's timing by turns with the reference's, for at most `seconds`, and facts about this one run.

    `usual_ms`: of the reference, where it is known; moments in which it takes longer do not count.

    Raises:
        TrialError: the file cannot be run.
    """
    answer = ask(
        latency_worker.__file__,
        job.request | {"seconds": seconds, "usual_ms": baseline_ms},
        job.files,
        "measuring latency",
    )
    pinned = ",".join(map(str, answer["cores"])) or None
    return Timing(**answer["timing"]), {"pinned_to": pinned, "steal": answer["steal"]}


def memory_of(job: MeasurementJob, ask: Ask) -> SessionMemory:
    """Peak memory of a session that runs the file; `memory_worker.py` says how.

    Raises:
        TrialError: the file cannot be run, or what comes out for random samples is not finite.
    """
    answer = ask(memory_worker.__file__, job.request, job.files, "running the file")
    if not answer["finite"]:
        raise TrialError("its outputs on random samples are not finite (NaN or infinite); the file is not usable")
    return SessionMemory(session_bytes=answer["session"], runtime_bytes=answer["runtime"])


def operators_of(job: MeasurementJob, ask: Ask) -> tuple[OperatorTime, ...]:
    """Operators by their time, the slowest first; never part of a measured latency, as profiling takes time itself.

    Raises:
        TrialError: the file cannot be run.
    """
    with TemporaryDirectory(prefix="nas-kd-") as folder:
        settings = job.request | {"profile_to": str(Path(folder) / "profile")}
        rows = ask(operators_worker.__file__, settings, job.content, "profiling the file")
    total = sum(microseconds for *_, microseconds in rows) or 1.0
    return tuple(OperatorTime(kind, name, us / total, us) for kind, name, us in rows)
