"""What a session of an ONNX file takes besides time: memory, and where the time goes. Each in a process of its own."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nas_kd.deploy import memory_worker, operators_worker
from nas_kd.deploy.device import DeviceProfile
from nas_kd.deploy.measure import LIMIT_S, alone, session_settings
from nas_kd.deploy.reference_net import reference_net
from nas_kd.deploy.worker_process import ask
from nas_kd.errors import TrialError


@dataclass(frozen=True)
class Memory:
    """Bytes by which the peak of a process's resident memory rises; None where the system does not tell.

    `session_bytes`: for the file's session, from before it is created until after some calls. `runtime_bytes`: for ONNX
    Runtime's own code and data, once a process, whatever it runs.
    """

    session_bytes: int | None
    runtime_bytes: int | None


@dataclass(frozen=True)
class Operator:
    """An operator as ONNX Runtime runs it, after its own optimisations. `share`: of the time of all (0..1)."""

    kind: str
    name: str
    share: float
    microseconds: float


def measure_memory(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    limit_s: float = LIMIT_S,
) -> Memory:
    """Peak memory of a session that runs the file; `memory_worker.py` says how.

    Raises:
        InputError: this machine lacks what the device profile asks for.
        TrialError: the file cannot be run, or what comes out for random samples is not finite.
    """
    device.check()
    reference = reference_net("small")
    job = _job(content, device, batch_size, input_shape) | {"reference_bytes": len(reference)}
    answer = ask(memory_worker.__file__, job, content + reference, limit_s, "running the file")
    if not answer["finite"]:
        raise TrialError("its outputs on random samples are not finite (NaN or infinite); the file is not usable")
    return Memory(session_bytes=answer["session"], runtime_bytes=answer["runtime"])


def operator_times(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    limit_s: float = LIMIT_S,
) -> tuple[Operator, ...]:
    """Operators by their time, the slowest first; never part of a measured latency, as profiling takes time itself.

    Raises:
        InputError: this machine lacks what the device profile asks for.
        TrialError: the file cannot be run.
    """
    device.check()
    with alone(limit_s), TemporaryDirectory(prefix="nas-kd-") as folder:
        job = _job(content, device, batch_size, input_shape) | {"profile_to": str(Path(folder) / "profile")}
        rows = ask(operators_worker.__file__, job, content, limit_s, "profiling the file")
    total = sum(microseconds for *_, microseconds in rows) or 1.0
    return tuple(Operator(kind, name, us / total, us) for kind, name, us in rows)


def _job(content: bytes, device: DeviceProfile, batch_size: int, input_shape: tuple[int, ...] | None) -> dict[str, Any]:
    return {
        "candidate_bytes": len(content),
        "batch_size": batch_size,
        "input_shape": input_shape,
        "settings": session_settings(device),
    }
