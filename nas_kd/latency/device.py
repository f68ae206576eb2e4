"""The device that latency is measured on: this machine under a profile, or another machine behind its agent."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from nas_kd.config.options import EngineOptions
from nas_kd.errors import InputError
from nas_kd.latency import latency_worker
from nas_kd.latency.agent_client import is_agent_url
from nas_kd.latency.device_profile import DeviceProfile, load_device
from nas_kd.latency.measure import describe_device, measure_latency, measure_memory, operator_times
from nas_kd.latency.measurement_job import OperatorTime, SessionMemory
from nas_kd.latency.remote_device import RemoteDevice, discard_message
from nas_kd.latency.stable_timing import FULL, MeasurementBudget
from nas_kd.latency.worker_process import PrewarmedProcess
from nas_kd.plugins import available
from nas_kd.results.candidate import IntegerScheme
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import DeviceRecord

WAIT_S = 300.0
TORCH_DEVICE = re.compile(r"(auto|cpu|cuda|gpu|mps|hip|rocm|xpu|hpu|npu|tpu|xla|mlu|privateuseone|meta)(:\d+)?")


class Device(Protocol):
    """Measures ONNX files under one device profile, on this machine or on another."""

    @property
    def name(self) -> str:
        """What reports call the device."""

    @property
    def summary(self) -> str:
        """What the device is, in one line."""

    @property
    def n_threads(self) -> int:
        """Number of cores of THIS machine that a measurement takes; 0 if it runs on another."""

    @property
    def batch_size(self) -> int:
        """Samples a call, unless the config sets another number."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names of the precisions that the search may use on this device."""

    @property
    def integer_scheme(self) -> IntegerScheme:
        """Types of the activations and weights of int8 networks."""

    def check(self) -> None:
        """Make sure that the device is available now.

        Raises:
            InputError: It is not, or it refuses access.
        """

    def key(self) -> str:
        """sha256 (hex) of everything that a cached latency depends on besides the file."""

    def measure(
        self,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None = None,
        pause_neighbours: Callable[[], None] | None = None,
        measurement_budget: MeasurementBudget = FULL,
    ) -> Latency:
        """Measure the latency of one call of a file.

        Args:
            content: The ONNX file.
            batch_size: Samples a call.
            input_shape: Shape of one sample; needed only for a file that leaves more dimensions than the batch open.
            pause_neighbours: Called before a disturbed measurement is repeated; pauses what the caller can pause on
                this machine.
            measurement_budget: Limits of duration and attempts.

        Raises:
            TrialError: The file cannot be measured, or the device is not available for too long.
        """

    def memory(self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None) -> SessionMemory:
        """Measure the peak memory of a session that runs the file; see `measure` for the arguments.

        Raises:
            TrialError: As `measure`, or the outputs for random samples are not finite.
        """

    def operators(
        self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None
    ) -> tuple[OperatorTime, ...]:
        """Profile the operators of the file, the slowest first; arguments and errors as `measure`."""

    def describe(self, batch_size: int) -> DeviceRecord:
        """Describe settings and environment of the device for the run's record."""


@dataclass(frozen=True)
class LocalDevice:
    """A device profile, applied on this machine."""

    profile: DeviceProfile
    prewarmed: PrewarmedProcess = field(
        default_factory=partial(PrewarmedProcess, latency_worker.__file__), compare=False, repr=False
    )

    @property
    def name(self) -> str:
        """What the profile is called."""
        return self.profile.name

    @property
    def summary(self) -> str:
        """What the profile is, in one line."""
        return self.profile.summary

    @property
    def n_threads(self) -> int:
        """Number of cores that a measurement takes."""
        return self.profile.n_threads

    @property
    def batch_size(self) -> int:
        """Samples a call by the profile."""
        return self.profile.batch_size

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names of the precisions that the profile allows."""
        return self.profile.precisions

    @property
    def integer_scheme(self) -> IntegerScheme:
        """Types of the activations and weights of int8 networks by the profile."""
        return self.profile.integer_scheme

    def check(self) -> None:
        """Make sure that this machine has what the profile needs.

        Raises:
            InputError: Something is missing; the message names it.
        """
        self.profile.check()

    def key(self) -> str:
        """sha256 (hex) of settings, processor and ONNX Runtime's version."""
        return self.profile.key()

    def measure(
        self,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None = None,
        pause_neighbours: Callable[[], None] | None = None,
        measurement_budget: MeasurementBudget = FULL,
    ) -> Latency:
        """Measure the latency of one call on this machine; see `measure_latency`."""
        return measure_latency(
            content,
            self.profile,
            batch_size,
            input_shape=input_shape,
            measurement_budget=measurement_budget,
            pause_neighbours=pause_neighbours,
            prewarmed=self.prewarmed,
        )

    def memory(self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None) -> SessionMemory:
        """Measure the peak memory of a session on this machine; see `measure_memory`."""
        return measure_memory(content, self.profile, batch_size, input_shape=input_shape)

    def operators(
        self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None
    ) -> tuple[OperatorTime, ...]:
        """Profile the operators on this machine; see `operator_times`."""
        return operator_times(content, self.profile, batch_size, input_shape=input_shape)

    def describe(self, batch_size: int) -> DeviceRecord:
        """Describe the profile and this machine for the run's record."""
        return describe_device(self.profile, batch_size)


def open_device(
    device: str | DeviceProfile, wait_s: float = WAIT_S, on_wait: Callable[[str], None] = discard_message
) -> Device:
    """Open a device by its name, or from a profile.

    Args:
        device: The URL of an agent (`http://` or `https://`), or what `load_device` takes: a profile of this machine.
            An agent is not contacted before it is needed, or checked.
        wait_s: How long an agent may be unreachable after its first answer, in seconds.
        on_wait: Called with a message when waiting for an agent begins and ends.

    Raises:
        InputError: There is no such profile, this machine cannot provide it, or the URL is not valid.
    """
    if isinstance(device, str) and is_agent_url(device):
        return RemoteDevice.at(device, wait_s, on_wait)
    if isinstance(device, str):
        _refuse_torch_device(device)
    return LocalDevice(load_device(device))


def _refuse_torch_device(name: str) -> None:
    """Explain devices to a user who gives one of torch's, where networks are trained.

    Raises:
        InputError: says what a device is here, and how the place of training is chosen.
    """
    if TORCH_DEVICE.fullmatch(name.strip().lower()) is None or name in (profiles := sorted(available("device"))):
        return
    trains = "trainings run on the CPU of this machine"
    if "device" in EngineOptions.model_fields:
        trains = "where trainings run is chosen by the option engine.device"
    raise InputError(
        f"device {name!r}: here the device is where latency is measured, not where networks are trained; this machine "
        f"has {', '.join(profiles)} (`nas-kd list devices`), and yours is a .toml file or http://AGENT:PORT/PROFILE; "
        f"{trains}"
    )
