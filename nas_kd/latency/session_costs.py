"""What a session of an ONNX file takes on this machine besides time: memory, and where the time goes."""

from functools import partial

from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.latency.measure import LIMIT_S, exclusive_measurement
from nas_kd.latency.measurement_job import MeasurementJob, OperatorTime, SessionMemory, memory_of, operators_of
from nas_kd.latency.reference_net import reference_net
from nas_kd.latency.worker_process import ask


def measure_memory(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    limit_s: float = LIMIT_S,
) -> SessionMemory:
    """Peak memory of a session that runs the file.

    Raises:
        InputError: this machine lacks what the device profile asks for.
        TrialError: the file cannot be run, or what comes out for random samples is not finite.
    """
    job = _subject(content, device, batch_size, input_shape)
    return memory_of(job, partial(ask, limit_s=limit_s))


def operator_times(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    limit_s: float = LIMIT_S,
) -> tuple[OperatorTime, ...]:
    """Operators by their time, the slowest first; nothing else is measured on this machine meanwhile.

    Raises:
        InputError: this machine lacks what the device profile asks for.
        TrialError: the file cannot be run.
    """
    job = _subject(content, device, batch_size, input_shape)
    with exclusive_measurement(limit_s):
        return operators_of(job, partial(ask, limit_s=limit_s))


def _subject(
    content: bytes, device: DeviceProfile, batch_size: int, input_shape: tuple[int, ...] | None
) -> MeasurementJob:
    device.check()
    return MeasurementJob(content, reference_net("small"), batch_size, input_shape, device.settings())
