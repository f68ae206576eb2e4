"""Measures the latency of an ONNX file on a device, so that the number survives a noisy machine.

Each measurement is a fresh process, bound to the least busy core, that times sessions of the file and of a reference
network by turns (`latency_worker.py`). The result is the median multiple of the reference's time, over the moments in
which nobody slowed that down, in milliseconds at the reference's usual undisturbed time on this machine
(`reference_speed.py`).
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from nas_kd.errors import TrialError
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.latency.environment import Fact, machine
from nas_kd.latency.measurement_job import MeasurementJob
from nas_kd.latency.reference_net import Size, reference_for, reference_net
from nas_kd.latency.stable_timing import (
    FULL,
    MeasurementBudget,
    StableTiming,
    history_file,
    is_undisturbed,
    measure_until_stable,
)
from nas_kd.latency.worker_process import PrewarmedProcess, ask, start
from nas_kd.results.records import DeviceRecord, Latency

LIMIT_S = 120.0  # for a model so large or slow that the process does not come back


@dataclass(frozen=True)
class Measurement:
    """A latency and what it rests on.

    `speed`: the machine's in its best moments during the measurement, 1 = as usual; `raw_p50_ms`: the median of all
    blocks without correction; `disturbed`: share of blocks that do not count, as another program took the core or a
    neighbour slowed it; `seconds`: of measuring, start-up left out.
    """

    latency: Latency
    raw_p50_ms: float
    speed: float
    reference: Size
    reference_ms: float
    blocks: int
    calls: int
    disturbed: float
    seconds: float
    attempts: int
    environment: Mapping[str, Fact]

    @property
    def is_undisturbed(self) -> bool:
        """Whether the machine was like itself."""
        return is_undisturbed(self.reference_ms / self.speed, self.reference_ms)


def measure_latency(
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    effort: MeasurementBudget = FULL,
    limit_s: float = LIMIT_S,
    quieter: Callable[[], None] | None = None,
    ahead: PrewarmedProcess | None = None,
) -> Measurement:
    """Latency of one call with `batch_size` samples; stops when its interval is within +-2 %, or after all `effort`.

    `input_shape` is one sample's, for a file whose input leaves more than the batch open. The median of another such
    measurement should lie in the interval. p90 and p99 are over single calls, disturbances included. One measurement at
    a time runs on a machine; another waits. Where the machine was not left alone for as long as it takes, it is
    repeated after `quieter()`, as far as the effort goes, and the one nearest to usual counts, marked `unstable` where
    that is still far off. `ahead`: may have the process ready, and is renewed.

    Raises:
        InputError: this machine lacks what the device profile asks for.
        TrialError: the file cannot be run, or the measuring process died or took more than `limit_s`.
    """
    device.check()
    size = reference_for(len(content))
    job = MeasurementJob(content, reference_net(size), batch_size, input_shape, device.settings())
    send = partial(ask, limit_s=limit_s, start=ahead.start if ahead else start)
    with exclusive_measurement(limit_s):
        remeasure_borderline = measure_until_stable(job, effort, send, history_file(size, device.key()), quieter)
    if ahead:
        ahead.renew()
    return measurement_of(remeasure_borderline, size, machine())


def measurement_of(remeasure_borderline: StableTiming, size: Size, environment: Mapping[str, Fact]) -> Measurement:
    """A latency in milliseconds out of multiples of the reference of this `size`."""
    timing, baseline_ms = remeasure_borderline.timing, remeasure_borderline.baseline_ms
    return Measurement(
        latency=Latency(
            p50=timing.p50 * baseline_ms,
            p90=timing.p90 * baseline_ms,
            p99=timing.p99 * baseline_ms,
            low=timing.low * baseline_ms,
            high=timing.high * baseline_ms,
            unstable=not remeasure_borderline.steady,
        ),
        raw_p50_ms=timing.raw_p50_ms,
        speed=baseline_ms / timing.reference_ms,
        reference=size,
        reference_ms=baseline_ms,
        blocks=timing.blocks,
        calls=timing.calls,
        disturbed=timing.disturbed,
        seconds=timing.seconds,
        attempts=remeasure_borderline.attempts,
        environment={**environment, **remeasure_borderline.facts},
    )


def describe_device(device: DeviceProfile, batch_size: int) -> DeviceRecord:
    """The profile and this machine, as the run's record carries them."""
    environment = device.facts() | machine()
    return DeviceRecord(name=device.name, description=device.summary, batch_size=batch_size, environment=environment)


@contextmanager
def exclusive_measurement(limit_s: float) -> Iterator[None]:
    """Keep this machine's other measurements waiting.

    Raises:
        TrialError: another has not ended within `limit_s`.
    """
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    lock = FileLock(Path(tempfile.gettempdir()) / f"nas-kd-latency-{owner}.lock", timeout=limit_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrialError(f"another latency measurement has kept this machine for more than {limit_s:g} s") from error
    try:
        yield
    finally:
        lock.release()
