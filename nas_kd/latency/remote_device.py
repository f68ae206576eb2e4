"""A device behind an agent on another machine (`nas-kd device-agent`): asked over HTTP, waited for when it is down."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from nas_kd.errors import InputError, TrialError, unknown
from nas_kd.latency.agent_client import AgentAddress, AgentUnreachable, request
from nas_kd.latency.agent_protocol import DEVICE_PATH, MEASURE_PATH, MeasureRequest, What
from nas_kd.latency.environment import Fact, differences
from nas_kd.latency.measure import Measurement, measurement_of
from nas_kd.latency.measurement_job import OperatorTime, SessionMemory
from nas_kd.latency.reference_net import Size, reference_for, reference_net
from nas_kd.latency.stable_timing import FULL, MeasurementBudget, StableTiming
from nas_kd.results.candidate import IntegerScheme, Precision
from nas_kd.results.records import DeviceRecord

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
PAUSES_GROW = 1.6
TRANSFER_S = 60.0  # on top of what the agent takes to measure
T = TypeVar("T")


def quiet(_text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class AgentDescription:
    """What an agent says of itself and of the profile that is meant. `facts`: the profile's settings, the machine."""

    key: str
    summary: str
    facts: Mapping[str, Fact]
    batch_size: int
    precisions: tuple[Precision, ...]
    integer_scheme: IntegerScheme
    max_bytes: int
    longest_s: float

    @staticmethod
    def read(answer: Mapping[str, Any], address: AgentAddress) -> "AgentDescription":
        """Out of the agent's answer.

        Raises:
            InputError: it has not this profile, or is of another version.
        """
        try:
            profiles = answer["profiles"]
            profile = profiles.get(address.profile)
            described = None if profile is None else AgentDescription._of(answer, profile)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _other_version(address) from error
        if described is None:
            raise unknown(f"profile of {address.agent}", address.profile, profiles)
        return described

    @staticmethod
    def _of(answer: Mapping[str, Any], profile: Mapping[str, Any]) -> "AgentDescription":
        batch_size, scheme = int(profile["batch_size"]), profile["integer_scheme"]
        if batch_size < 1 or scheme not in get_args(IntegerScheme):
            raise ValueError("no profile")
        return AgentDescription(
            key=str(profile["key"]),
            summary=str(profile["summary"]),
            facts=_facts(profile["settings"]) | _facts(answer["environment"]),
            batch_size=batch_size,
            precisions=tuple(map(str, profile["precisions"])),
            integer_scheme=scheme,
            max_bytes=int(answer["max_bytes"]),
            longest_s=float(answer["longest_s"]),
        )


class RemoteDevice:
    """One profile of an agent. No core of this machine is needed to measure there."""

    n_threads = 0

    def __init__(self, name: str, address: AgentAddress, wait_s: float, tell: Callable[[str], None]) -> None:
        self.name = name
        self._address, self._wait_s, self._tell = address, wait_s, tell
        self._known: AgentDescription | None = None

    @staticmethod
    def at(url: str, wait_s: float, tell: Callable[[str], None]) -> "RemoteDevice":
        """The device at `http[s]://HOST[:PORT][/PROFILE]`.

        Raises:
            InputError: it is no such address.
        """
        address = AgentAddress.parse(url)
        return RemoteDevice(f"{address.agent}/{address.profile}", address, wait_s, tell)

    @property
    def summary(self) -> str:
        """The profile's, as the agent tells it; see `key` for what is raised."""
        return f"the machine behind {self._address.agent}: {self._description.summary}"

    @property
    def batch_size(self) -> int:
        """The profile's; see `key` for what is raised."""
        return self._description.batch_size

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those that the profile allows and this side knows; see `key` for what is raised."""
        return self._description.precisions

    @property
    def integer_scheme(self) -> IntegerScheme:
        """The profile's; see `key` for what is raised."""
        return self._description.integer_scheme

    def check(self) -> None:
        """Make sure that the agent is there, now, and lets us in.

        Raises:
            InputError: it does not answer, does not accept the token, or has no such profile.
        """
        try:
            self._known = self._look()
        except AgentUnreachable as error:
            raise InputError(f"the device agent at {self._address.agent} cannot be reached: {error}") from error

    def key(self) -> str:
        """The agent's for this profile: settings, processor and runtime there.

        Raises:
            InputError: as `check`.
            TrialError: the agent is down for too long.
        """
        return self._description.key

    def measure(
        self,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None = None,
        quieter: Callable[[], None] | None = None,
        effort: MeasurementBudget = FULL,
    ) -> Measurement:
        """Latency on the agent's machine, where `quieter` is of no use.

        Raises:
            InputError: the agent no longer takes the token, or its environment is no longer the one that `key` stands
                for, so that figures from before and after would not be comparable.
            TrialError: it cannot measure this file, or is down for too long.
        """
        size = reference_for(len(content))

        def read(measured: Any, environment: Mapping[str, Fact]) -> Measurement:
            return measurement_of(StableTiming.from_json(measured), size, environment)

        return self._do("latency", content, batch_size, input_shape, read, effort=effort)

    def memory(self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None) -> SessionMemory:
        """Peak memory on the agent's machine; raises as `measure`."""
        return self._do(
            "memory", content, batch_size, input_shape, lambda measured, _: SessionMemory.from_json(measured)
        )

    def operators(
        self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None
    ) -> tuple[OperatorTime, ...]:
        """Operators on the agent's machine, the slowest first; raises as `measure`."""

        def read(measured: Any, _: Mapping[str, Fact]) -> tuple[OperatorTime, ...]:
            return tuple(map(OperatorTime.from_json, measured))

        return self._do("operators", content, batch_size, input_shape, read)

    def _do(
        self,
        what: What,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None,
        read: Callable[[Any, Mapping[str, Fact]], T],
        *,
        effort: MeasurementBudget = FULL,
    ) -> T:
        known = self._description
        size: Size = reference_for(len(content)) if what == "latency" else "small"
        reference = reference_net(size)
        job = MeasureRequest(
            what=what,
            profile=self._address.profile,
            key=known.key,
            batch_size=batch_size,
            input_shape=input_shape or None,
            seconds=effort.seconds,
            attempts=effort.attempts,
            tolerance=effort.tolerance,
            reference=size,
            candidate_bytes=len(content),
            reference_bytes=len(reference),
        )
        body = job.body(content, reference)
        if len(body) > known.max_bytes:
            limit = f"{self._address.agent} takes at most {known.max_bytes / 1e6:g} MB"
            raise TrialError(f"{limit}, this file and the reference have {len(body) / 1e6:.1f} MB")
        timeout_s = known.longest_s + TRANSFER_S
        answer = self._patiently(lambda: request(self._address, "POST", MEASURE_PATH, body, timeout_s))
        try:
            return read(answer["measured"], _facts(answer["environment"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _other_version(self._address) from error

    def describe(self, batch_size: int) -> DeviceRecord:
        """The profile's settings and the agent's environment; see `key` for what is raised."""
        known = self._description
        return DeviceRecord(name=self.name, description=self.summary, batch_size=batch_size, environment=known.facts)

    @property
    def _description(self) -> AgentDescription:
        if self._known is None:
            self._known = self._patiently(self._look)
        return self._known

    def _look(self) -> AgentDescription:
        """What the agent says now, if it is still the one that was known.

        Raises:
            Unreachable: it does not answer.
            InputError: it lets nobody in, has no such profile, or has changed.
        """
        found = AgentDescription.read(request(self._address, "GET", DEVICE_PATH), self._address)
        if self._known is not None and found.key != self._known.key:
            changes = differences(self._known.facts, found.facts) or "another profile"
            raise InputError(f"{self._address.agent} is not what it was when this run began: {changes}")
        return found

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again, after growing pauses, while the agent does not answer.

        Raises:
            TrialError: it has not answered for as long as it is waited for.
        """
        agent, failed_at, pause = f"the device agent at {self._address.agent}", None, FIRST_PAUSE_S
        while True:
            try:
                if failed_at is not None:
                    self._look()  # small: says clearly what a large request that is cut off does not
                answer = ask()
            except AgentUnreachable as error:
                now = time.monotonic()
                if failed_at is None:
                    failed_at = now
                    self._tell(f"{agent} cannot measure now: {error}; trying again for up to {self._wait_s:g} s")
                left = failed_at + self._wait_s - now
                if left <= 0:
                    raise TrialError(f"{agent} has not answered for {self._wait_s:g} s: {error}") from error
                time.sleep(min(left, max(pause, error.retry_after_s)))
                pause = min(LONGEST_PAUSE_S, pause * PAUSES_GROW)
            else:
                if failed_at is not None:
                    self._tell(f"{agent} answers again, after {time.monotonic() - failed_at:.0f} s")
                return answer


def _facts(value: Mapping[str, Any]) -> dict[str, Fact]:
    if not all(isinstance(v, Fact) for v in value.values()):
        raise TypeError("facts must be plain values")
    return {str(name): fact for name, fact in value.items()}


def _other_version(address: AgentAddress) -> InputError:
    return InputError(f"{address.agent} answers as another version of nas-kd would; install the same one on both sides")
