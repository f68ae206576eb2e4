"""A device on another machine, behind its agent (`nas-kd device-agent`), which is waited for when it is down."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from nas_kd.errors import InputError, TrialError, unknown
from nas_kd.latency.agent_client import AgentAddress, AgentUnreachable, call_agent, other_version
from nas_kd.latency.agent_protocol import DEVICE_PATH, MEASURE_PATH, MeasureRequest, Quantity
from nas_kd.latency.device_profile import INTEGER_SCHEMES, built_in_precisions
from nas_kd.latency.environment import Fact, describe_differences
from nas_kd.latency.measurement_job import OperatorTime, SessionMemory
from nas_kd.latency.reference_net import reference_net, reference_size_for
from nas_kd.latency.stable_timing import FULL, MeasurementBudget
from nas_kd.results.candidate import IntegerScheme
from nas_kd.results.latency import Latency, ReferenceSize
from nas_kd.results.run_record import DeviceRecord

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
PAUSE_GROWTH = 1.6
TRANSFER_S = 60.0  # on top of the agent's own time limit
T = TypeVar("T")


def discard_message(_text: str) -> None:
    """Ignore a message: the default where no one listens."""


@dataclass(frozen=True)
class AgentDescription:
    """How an agent describes itself and one of its profiles.

    Attributes:
        key: Key of the profile, see `DeviceProfile.key`.
        summary: What the profile is, in one line.
        facts: The profile's settings and the agent's environment.
        batch_size: Samples a call by the profile.
        precisions: Names of the precisions that the profile allows and this side knows.
        integer_scheme: Types of the activations and weights of int8 networks.
        max_bytes: Largest request that the agent takes.
        longest_s: Longest time that a measurement may take there, with waiting for others.
    """

    key: str
    summary: str
    facts: Mapping[str, Fact]
    batch_size: int
    precisions: tuple[str, ...]
    integer_scheme: IntegerScheme
    max_bytes: int
    longest_s: float

    @staticmethod
    def from_json(answer: Mapping[str, Any], address: AgentAddress) -> "AgentDescription":
        """Read the description of one profile from an agent's answer.

        Raises:
            InputError: It has no such profile, or is of another version.
        """
        try:
            profiles = answer["profiles"]
            profile = profiles.get(address.profile)
            description = None if profile is None else AgentDescription._of_profile(answer, profile)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise other_version(address) from error
        if description is None:
            raise unknown(f"profile of {address.agent_url}", address.profile, profiles)
        return description

    @staticmethod
    def _of_profile(answer: Mapping[str, Any], profile: Mapping[str, Any]) -> "AgentDescription":
        batch_size, scheme, precisions = int(profile["batch_size"]), profile["integer_scheme"], profile["precisions"]
        if batch_size < 1 or scheme not in INTEGER_SCHEMES:
            raise ValueError("not a device profile")
        return AgentDescription(
            key=str(profile["key"]),
            summary=str(profile["summary"]),
            facts=_facts(profile["settings"]) | _facts(answer["environment"]),
            batch_size=batch_size,
            precisions=tuple(str(p) for p in precisions if p in built_in_precisions() or ":" in p),
            integer_scheme=scheme,
            max_bytes=int(answer["max_bytes"]),
            longest_s=float(answer["longest_s"]),
        )


class RemoteDevice:
    """One profile of an agent; measurements there need no core of this machine."""

    n_threads = 0

    def __init__(self, name: str, address: AgentAddress, wait_s: float, on_wait: Callable[[str], None]) -> None:
        """Prepare for the agent at `address`; it is not contacted yet. See `open_device` for the arguments."""
        self.name = name
        self._address, self._wait_s, self._on_wait = address, wait_s, on_wait
        self._known: AgentDescription | None = None

    @staticmethod
    def at(url: str, wait_s: float, on_wait: Callable[[str], None]) -> "RemoteDevice":
        """Make the device at `http[s]://HOST[:PORT][/PROFILE]`; see `open_device` for the other arguments.

        Raises:
            InputError: The URL has another form.
        """
        address = AgentAddress.parse(url)
        return RemoteDevice(f"{address.agent_url}/{address.profile}", address, wait_s, on_wait)

    @property
    def summary(self) -> str:
        """What the agent's profile is, in one line; see `key` for the errors."""
        return f"the machine behind {self._address.agent_url}: {self._description.summary}"

    @property
    def batch_size(self) -> int:
        """Samples a call by the agent's profile; see `key` for the errors."""
        return self._description.batch_size

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names of the precisions that the agent's profile allows and this side knows; see `key` for the errors."""
        return self._description.precisions

    @property
    def integer_scheme(self) -> IntegerScheme:
        """Types of the activations and weights of int8 networks there; see `key` for the errors."""
        return self._description.integer_scheme

    def check(self) -> None:
        """Make sure that the agent is available now.

        Raises:
            InputError: It does not answer, does not accept the token, or has no such profile.
        """
        try:
            self._known = self._query()
        except AgentUnreachable as error:
            raise InputError(f"the device agent at {self._address.agent_url} cannot be reached: {error}") from error

    def key(self) -> str:
        """Key of the agent's profile: sha256 (hex) of settings, processor and ONNX Runtime's version there.

        Raises:
            InputError: As `check`.
            TrialError: The agent is down for too long.
        """
        return self._description.key

    def measure(
        self,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None = None,
        pause_neighbours: Callable[[], None] | None = None,
        measurement_budget: MeasurementBudget = FULL,
    ) -> Latency:
        """Measure the latency on the agent's machine; see `Device.measure` for the arguments.

        `pause_neighbours` is not called, as what runs here does not disturb the agent's machine.

        Raises:
            InputError: The agent no longer accepts the token, or its environment has changed since `key`, so that
                figures from before and after would not be comparable.
            TrialError: It cannot measure this file, or is down for too long.
        """
        return self._request(
            "latency", content, batch_size, input_shape, Latency.from_json, measurement_budget=measurement_budget
        )

    def memory(self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None) -> SessionMemory:
        """Measure the peak memory of a session on the agent's machine; arguments and errors as `measure`."""
        return self._request("memory", content, batch_size, input_shape, SessionMemory.from_json)

    def operators(
        self, content: bytes, batch_size: int, input_shape: tuple[int, ...] | None = None
    ) -> tuple[OperatorTime, ...]:
        """Profile the operators on the agent's machine, the slowest first; arguments and errors as `measure`."""
        return self._request(
            "operators", content, batch_size, input_shape, lambda rows: tuple(map(OperatorTime.from_json, rows))
        )

    def describe(self, batch_size: int) -> DeviceRecord:
        """Describe the profile's settings and the agent's environment; see `key` for the errors."""
        known = self._description
        return DeviceRecord(name=self.name, description=self.summary, batch_size=batch_size, environment=known.facts)

    def _request(
        self,
        quantity: Quantity,
        content: bytes,
        batch_size: int,
        input_shape: tuple[int, ...] | None,
        from_json: Callable[[Any], T],
        *,
        measurement_budget: MeasurementBudget = FULL,
    ) -> T:
        known = self._description
        reference_size: ReferenceSize = reference_size_for(len(content)) if quantity == "latency" else "small"
        reference = reference_net(reference_size)
        request = MeasureRequest(
            quantity=quantity,
            profile=self._address.profile,
            device_key=known.key,
            batch_size=batch_size,
            input_shape=input_shape or None,
            seconds=measurement_budget.seconds,
            attempts=measurement_budget.attempts,
            tolerance=measurement_budget.tolerance,
            reference_size=reference_size,
            candidate_bytes=len(content),
            reference_bytes=len(reference),
        )
        body = request.encode(content, reference)
        if len(body) > known.max_bytes:
            limit = f"{self._address.agent_url} takes at most {known.max_bytes / 1e6:g} MB"
            raise TrialError(f"{limit}, this file and the reference have {len(body) / 1e6:.1f} MB")
        timeout_s = known.longest_s + TRANSFER_S
        answer = self._retry(lambda: call_agent(self._address, "POST", MEASURE_PATH, body, timeout_s))
        try:
            return from_json(answer["measured"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise other_version(self._address) from error

    @property
    def _description(self) -> AgentDescription:
        if self._known is None:
            self._known = self._retry(self._query)
        return self._known

    def _query(self) -> AgentDescription:
        """Ask the agent for its description, and make sure that it is the one known so far.

        Raises:
            AgentUnreachable: It does not answer.
            InputError: It refuses access, has no such profile, or has changed.
        """
        found = AgentDescription.from_json(call_agent(self._address, "GET", DEVICE_PATH), self._address)
        if self._known is not None and found.key != self._known.key:
            changes = describe_differences(self._known.facts, found.facts) or "another profile"
            raise InputError(f"{self._address.agent_url} is not what it was when this run began: {changes}")
        return found

    def _retry(self, call: Callable[[], T]) -> T:
        """Repeat a call, after growing pauses, while the agent does not answer.

        Raises:
            TrialError: It has not answered for as long as this device waits.
        """
        agent, failed_at, pause = f"the device agent at {self._address.agent_url}", None, FIRST_PAUSE_S
        while True:
            try:
                if failed_at is not None:
                    self._query()  # small, and fails with a clear message where a large request is just cut off
                answer = call()
            except AgentUnreachable as error:
                now = time.monotonic()
                if failed_at is None:
                    failed_at = now
                    self._on_wait(f"{agent} cannot measure now: {error}; trying again for up to {self._wait_s:g} s")
                left = failed_at + self._wait_s - now
                if left <= 0:
                    raise TrialError(f"{agent} has not answered for {self._wait_s:g} s: {error}") from error
                time.sleep(min(left, max(pause, error.retry_after_s)))
                pause = min(LONGEST_PAUSE_S, pause * PAUSE_GROWTH)
            else:
                if failed_at is not None:
                    self._on_wait(f"{agent} answers again, after {time.monotonic() - failed_at:.0f} s")
                return answer


def _facts(value: Mapping[str, Any]) -> dict[str, Fact]:
    if not all(isinstance(v, Fact) for v in value.values()):
        raise TypeError("facts must be plain values")
    return {str(name): fact for name, fact in value.items()}
