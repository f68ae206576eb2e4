"""Measures an ONNX file on this machine: latency, memory, and where the time goes.

Each latency measurement is a fresh process, bound to the least busy core, that times sessions of the file in turns with
a reference network (`latency_worker.py`). The result is the median multiple of the reference's time, over the moments
in which the machine was undisturbed, in milliseconds at the reference's usual undisturbed time (`baseline.py`).
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from nas_kd.errors import TrialError
from nas_kd.latency.baseline import BaselineHistory
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.latency.environment import machine_facts
from nas_kd.latency.measurement_job import MeasurementJob, OperatorTime, SessionMemory, memory_of, operators_of
from nas_kd.latency.reference_net import reference_net, reference_size_for
from nas_kd.latency.stable_timing import FULL, MeasurementBudget, measure_until_stable
from nas_kd.latency.worker_process import PrewarmedProcess, run_worker, start_process
from nas_kd.results.latency import Latency, ReferenceSize
from nas_kd.results.run_record import DeviceRecord

TIMEOUT_S = 120.0  # for a model so large or slow that the process does not come back


def measure_latency(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    measurement_budget: MeasurementBudget = FULL,
    timeout_s: float = TIMEOUT_S,
    pause_neighbours: Callable[[], None] | None = None,
    prewarmed: PrewarmedProcess | None = None,
) -> Latency:
    """Measure the latency of one call, until its interval is narrow or the measurement budget is used up.

    The median of another such measurement should lie in the interval. One measurement at a time runs on a machine; a
    second one waits. Where the machine was disturbed the measurement is repeated, and the attempt nearest to the usual
    speed counts; it is marked `unstable` if that is still far off.

    Args:
        content: The ONNX file.
        device: Settings of ONNX Runtime and of the measuring process.
        batch_size: Samples a call.
        input_shape: Shape of one sample; needed only for a file that leaves more dimensions than the batch open.
        measurement_budget: Limits of duration and attempts.
        timeout_s: After this time a measuring process is ended.
        pause_neighbours: Called before a measurement is repeated; pauses what the caller can pause on this machine.
        prewarmed: Processes that are ready; refilled afterwards.

    Raises:
        InputError: This machine lacks what the device profile needs.
        TrialError: The file cannot be run, or the measuring process died or took longer than `timeout_s`.
    """
    device.check()
    job = _job(content, device, batch_size, input_shape, reference_size_for(len(content)))
    run = partial(run_worker, timeout_s=timeout_s, start=prewarmed.start if prewarmed else start_process)
    history = BaselineHistory.of_device(job.reference_size, device.key())
    with exclusive_measurement(timeout_s):
        latency = measure_until_stable(job, measurement_budget, run, history, pause_neighbours)
    if prewarmed:
        prewarmed.refill()
    return latency


def measure_memory(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> SessionMemory:
    """Measure the peak memory of a session that runs the file; see `measure_latency` for the arguments.

    Raises:
        InputError: This machine lacks what the device profile needs.
        TrialError: The file cannot be run, or its outputs on random samples are not finite.
    """
    device.check()
    return memory_of(_job(content, device, batch_size, input_shape), partial(run_worker, timeout_s=timeout_s))


def operator_times(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[OperatorTime, ...]:
    """Profile the operators of the file, the slowest first; see `measure_latency` for the arguments.

    Raises:
        InputError: This machine lacks what the device profile needs.
        TrialError: The file cannot be run.
    """
    device.check()
    job = _job(content, device, batch_size, input_shape)
    with exclusive_measurement(timeout_s):
        return operators_of(job, partial(run_worker, timeout_s=timeout_s))


def describe_device(device: DeviceProfile, batch_size: int) -> DeviceRecord:
    """Describe the profile and this machine for a run's record."""
    environment = device.facts() | machine_facts()
    return DeviceRecord(name=device.name, description=device.summary, batch_size=batch_size, environment=environment)


@contextmanager
def exclusive_measurement(timeout_s: float) -> Iterator[None]:
    """Hold this machine's measurement lock, so that other measurements wait.

    Raises:
        TrialError: Another measurement has held it for `timeout_s`.
    """
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    lock = FileLock(Path(tempfile.gettempdir()) / f"nas-kd-latency-{owner}.lock", timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrialError(f"another latency measurement has kept this machine for more than {timeout_s:g} s") from error
    try:
        yield
    finally:
        lock.release()


def _job(
    content: bytes,
    device: DeviceProfile,
    batch_size: int,
    input_shape: tuple[int, ...] | None,
    reference_size: ReferenceSize = "small",
) -> MeasurementJob:
    return MeasurementJob(
        content=content,
        reference=reference_net(reference_size),
        reference_size=reference_size,
        batch_size=batch_size,
        input_shape=input_shape,
        settings=device.settings(),
    )
