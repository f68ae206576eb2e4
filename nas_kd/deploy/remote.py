"""A device behind an agent on another machine (`nas-kd device-agent`): asked over HTTP, waited for when it is down."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from nas_kd.deploy.agent_link import Address, Unreachable, request
from nas_kd.deploy.agent_words import DEVICE_PATH, MEASURE_PATH, Job
from nas_kd.deploy.environment import Fact
from nas_kd.deploy.measure import Measurement, measurement_of
from nas_kd.deploy.reference_net import reference_for, reference_net
from nas_kd.deploy.settle import Settled
from nas_kd.errors import InputError, TrialError, unknown
from nas_kd.record import DeviceRecord

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
PAUSES_GROW = 1.6
SECONDS = 2.0  # of measuring, as on this machine
TRANSFER_S = 60.0  # on top of what the agent takes to measure
T = TypeVar("T")


def quiet(_text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Description:
    """What an agent says of itself and of the profile that is meant. `settings`: of the profile."""

    key: str
    summary: str
    settings: Mapping[str, Fact]
    environment: Mapping[str, Fact]
    max_bytes: int
    longest_s: float

    @staticmethod
    def read(answer: Mapping[str, Any], address: Address) -> "Description":
        """Out of the agent's answer.

        Raises:
            InputError: it has not this profile, or is of another version.
        """
        try:
            profiles = answer["profiles"]
            if address.profile not in profiles:
                raise unknown(f"profile of {address.agent}", address.profile, profiles)
            profile = profiles[address.profile]
            return Description(
                key=str(profile["key"]),
                summary=str(profile["summary"]),
                settings=_facts(profile["settings"]),
                environment=_facts(answer["environment"]),
                max_bytes=int(answer["max_bytes"]),
                longest_s=float(answer["longest_s"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise _other_version(address) from error


class RemoteDevice:
    """One profile of an agent. No core of this machine is needed to measure there."""

    n_threads = 0

    def __init__(self, name: str, address: Address, wait_s: float, tell: Callable[[str], None]) -> None:
        self.name = name
        self._address, self._wait_s, self._tell = address, wait_s, tell
        self._known: Description | None = None

    @staticmethod
    def at(url: str, wait_s: float, tell: Callable[[str], None]) -> "RemoteDevice":
        """The device at `http[s]://HOST[:PORT][/PROFILE]`.

        Raises:
            InputError: it is no such address.
        """
        address = Address.parse(url)
        return RemoteDevice(f"{address.agent}/{address.profile}", address, wait_s, tell)

    @property
    def summary(self) -> str:
        """The profile's, as the agent tells it; see `key` for what is raised."""
        return f"the machine behind {self._address.agent}: {self._description.summary}"

    def check(self) -> None:
        """Make sure that the agent is there, now, and lets us in.

        Raises:
            InputError: it does not answer, does not accept the token, or has no such profile.
        """
        try:
            self._known = self._look()
        except Unreachable as error:
            raise InputError(f"the device agent at {self._address.agent} cannot be reached: {error}") from error

    def key(self) -> str:
        """The agent's for this profile: settings, processor and runtime there.

        Raises:
            InputError: as `check`.
            TrialError: the agent is down for too long.
        """
        return self._description.key

    def measure(self, content: bytes, batch_size: int) -> Measurement:
        """Latency on the agent's machine.

        Raises:
            InputError: the agent no longer takes the token, or its environment is no longer the one that `key` stands
                for, so that figures from before and after would not be comparable.
            TrialError: it cannot measure this file, or is down for too long.
        """
        known, size = self._description, reference_for(len(content))
        reference = reference_net(size)
        job = Job(self._address.profile, known.key, batch_size, SECONDS, size, len(content), len(reference))
        body = job.body(content, reference)
        if len(body) > known.max_bytes:
            limit = f"{self._address.agent} takes at most {known.max_bytes / 1e6:g} MB"
            raise TrialError(f"{limit}, this file and the reference have {len(body) / 1e6:.1f} MB")
        timeout_s = known.longest_s + TRANSFER_S
        answer = self._patiently(lambda: request(self._address, "POST", MEASURE_PATH, body, timeout_s))
        try:
            return measurement_of(Settled.from_json(answer["measured"]), size, _facts(answer["environment"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _other_version(self._address) from error

    def describe(self, batch_size: int) -> DeviceRecord:
        """The profile's settings and the agent's environment; see `key` for what is raised."""
        known = self._description
        environment = {**known.settings, **known.environment}
        return DeviceRecord(name=self.name, words=self.summary, batch_size=batch_size, environment=environment)

    @property
    def _description(self) -> Description:
        if self._known is None:
            self._known = self._patiently(self._look)
        return self._known

    def _look(self) -> Description:
        """What the agent says now, if it is still the one that was known.

        Raises:
            Unreachable: it does not answer.
            InputError: it lets nobody in, has no such profile, or has changed.
        """
        found = Description.read(request(self._address, "GET", DEVICE_PATH), self._address)
        if self._known is not None and found.key != self._known.key:
            raise InputError(
                f"{self._address.agent} is not what it was when this run began: {_changes(self._known, found)}"
            )
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
            except Unreachable as error:
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


def _changes(known: Description, found: Description) -> str:
    before, after = {**known.settings, **known.environment}, {**found.settings, **found.environment}
    names = [n for n in sorted({*before, *after}) if before.get(n) != after.get(n) and n != "load_1m"]
    return "; ".join(f"{n} was {before.get(n)}, is {after.get(n)}" for n in names) or "another profile"


def _other_version(address: Address) -> InputError:
    return InputError(f"{address.agent} answers as another version of nas-kd would; install the same one on both sides")
