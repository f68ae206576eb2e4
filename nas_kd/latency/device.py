"""Where latency is measured: on this machine, under a profile, or on another one, behind its agent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from nas_kd.latency import latency_worker
from nas_kd.latency.agent_client import is_address
from nas_kd.latency.device_profile import DeviceProfile, load_device
from nas_kd.latency.measure import Measurement, describe_device, measure_latency
from nas_kd.latency.measurement_job import OperatorTime, SessionMemory
from nas_kd.latency.remote_device import RemoteDevice, quiet
from nas_kd.latency.session_costs import measure_memory, operator_times
from nas_kd.latency.stable_timing import FULL, MeasurementBudget
from nas_kd.latency.worker_process import PrewarmedProcess
from nas_kd.results.candidate import IntegerScheme, Precision
from nas_kd.results.records import DeviceRecord

WAIT_S = 300.0


class Device(Protocol):
    """Measures files.

    `n_threads`: cores of THIS machine that a measurement takes, 0 where it runs elsewhere. `batch_size`, `precisions`,
    `integer_scheme`: see `DeviceProfile`. `input_shape` is one sample's, for a file whose input leaves more than the
    batch open.
    """

    @property
    def name(self) -> str:
        """As the user gave it."""

    @property
    def summary(self) -> str:
        """In a few words."""

    @property
    def n_threads(self) -> int:
        """See above."""

    @property
    def batch_size(self) -> int:
        """Samples a call where nobody says otherwise."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those that the search may use."""

    @property
    def integer_scheme(self) -> IntegerScheme:
        """Types of activations and weights of int8 networks."""

    def check(self) -> None:
        """Make sure that it is there, now.

        Raises:
            InputError: it is not, or lets nobody in.
        """

    def key(self) -> str:
        """sha256 (hex) of all that a cached latency depends on besides the file."""

    def measure(
        self,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None = None,
        quieter: Callable[[], None] | None = None,
        effort: MeasurementBudget = FULL,
    ) -> Measurement:
        """Latency of one call of the file with so many samples.

        `quieter`: called where this machine was not left alone, before another attempt: stops whom the caller can stop.

        Raises:
            TrialError: the file cannot be measured, or the device is gone for longer than it is waited for.
        """

    def memory(self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None) -> SessionMemory:
        """Peak memory of a session that runs the file.

        Raises:
            TrialError: as `measure`; or what comes out for random samples is not finite.
        """

    def operators(
        self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None
    ) -> tuple[OperatorTime, ...]:
        """Operators of the file by their time, the slowest first; raises as `measure`."""

    def describe(self, batch_size: int) -> DeviceRecord:
        """Settings and environment of the device, as the run's record carries them."""


@dataclass(frozen=True)
class ThisMachine:
    """A profile, applied here."""

    profile: DeviceProfile
    ahead: PrewarmedProcess = field(
        default_factory=partial(PrewarmedProcess, latency_worker.__file__), compare=False, repr=False
    )

    @property
    def name(self) -> str:
        """The profile's."""
        return self.profile.name

    @property
    def summary(self) -> str:
        """The profile's."""
        return self.profile.summary

    @property
    def n_threads(self) -> int:
        """The profile's."""
        return self.profile.n_threads

    @property
    def batch_size(self) -> int:
        """The profile's."""
        return self.profile.batch_size

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The profile's."""
        return self.profile.precisions

    @property
    def integer_scheme(self) -> IntegerScheme:
        """The profile's."""
        return self.profile.integer_scheme

    def check(self) -> None:
        """Make sure that this machine has what the profile asks for."""
        self.profile.check()

    def key(self) -> str:
        """Settings, processor and runtime."""
        return self.profile.key()

    def measure(
        self,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None = None,
        quieter: Callable[[], None] | None = None,
        effort: MeasurementBudget = FULL,
    ) -> Measurement:
        """See `measure_latency`."""
        return measure_latency(
            content,
            self.profile,
            batch_size,
            input_shape=input_shape,
            effort=effort,
            quieter=quieter,
            ahead=self.ahead,
        )

    def memory(self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None) -> SessionMemory:
        """See `measure_memory`."""
        return measure_memory(content, self.profile, batch_size, input_shape=input_shape)

    def operators(
        self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None
    ) -> tuple[OperatorTime, ...]:
        """See `operator_times`."""
        return operator_times(content, self.profile, batch_size, input_shape=input_shape)

    def describe(self, batch_size: int) -> DeviceRecord:
        """The profile and this machine."""
        return describe_device(self.profile, batch_size)


def open_device(name: str, wait_s: float = WAIT_S, tell: Callable[[str], None] = quiet) -> Device:
    """The device of this name: `http://` or `https://` leads to an agent, anything else is a profile of this machine.

    An agent is not spoken to before it is needed, or checked. Afterwards it may be down for `wait_s` seconds, which
    `tell` hears of.

    Raises:
        InputError: there is no such profile, this machine cannot provide it, or it is no address of an agent.
    """
    return RemoteDevice.at(name, wait_s, tell) if is_address(name) else ThisMachine(load_device(name))
