"""Device profiles with one fault each, and the fault's name in the message that refuses them.

Other processes import this file to read the profiles, so it imports little.
"""

import os
from dataclasses import dataclass
from typing import Any

from nas_kd.errors import InputError
from nas_kd.latency.device_profile import DeviceProfile

FULL_SENTENCE = "this machine's CPU, one thread"


@dataclass(frozen=True)
class Right(DeviceProfile):
    """One thread: what all the others are but for their fault."""

    name: str = "mine"
    summary: str = FULL_SENTENCE


@dataclass(frozen=True)
class NoThreads(Right):
    @property
    def n_threads(self) -> int:
        return 0


@dataclass(frozen=True)
class ListsAFact(Right):
    def settings(self) -> dict[str, Any]:
        return super().settings() | {"cores": [0, 1]}


@dataclass(frozen=True)
class ShortKey(Right):
    def key(self) -> str:
        return super().key()[:12]


@dataclass(frozen=True)
class NamedKey(Right):
    def key(self) -> str:
        return f"{hash_of(self.name)}{super().key()[8:]}"


@dataclass(frozen=True)
class SummaryKey(Right):
    def key(self) -> str:
        return f"{hash_of(self.summary)}{super().key()[8:]}"


@dataclass(frozen=True)
class FixedKey(Right):
    def key(self) -> str:
        return "0" * 64


@dataclass(frozen=True)
class RandomKey(Right):
    def key(self) -> str:
        return os.urandom(32).hex()


@dataclass(frozen=True)
class ProcessKey(Right):
    def key(self) -> str:
        return f"{os.getpid():08x}{super().key()[8:]}"


@dataclass(frozen=True)
class FallsBack(Right):
    """Takes any provider for granted."""

    def check(self) -> None:
        """Nothing to check, it says."""


@dataclass(frozen=True)
class AnyVersion(Right):
    def check(self) -> None:
        if self.provider != "CPUExecutionProvider":
            super().check()


@dataclass(frozen=True)
class FailsUnclearly(Right):
    def check(self) -> None:
        try:
            super().check()
        except InputError as error:
            raise RuntimeError("no") from error


@dataclass(frozen=True)
class RefusesNamelessly(Right):
    """Is never there, and does not say which device it is."""

    def check(self) -> None:
        super().check()
        raise InputError("the board is not connected")


@dataclass(frozen=True)
class ForgetsToCheck(Right):
    """Says that it is there, with settings that ONNX Runtime does not take."""

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"provider": "NoSuchExecutionProvider"}


def hash_of(text: str) -> str:
    """Eight hexadecimal digits of a text, the same in every process."""
    return f"{sum(i * ord(c) for i, c in enumerate(text, 1)):08x}"


# The profile, the rule that it breaks (its first words) and what is seen.
WRONG: list[tuple[Any, str, str]] = [
    ("cpu-1t", "The device is a DeviceProfile", "str is no nas_kd.latency.device_profile.DeviceProfile"),
    (Right(name=" "), "The device is a DeviceProfile", "name must be one line of text, got ' '"),
    (Right(summary="a\nb"), "The device is a DeviceProfile", "summary must be one line of text, got 'a"),
    (NoThreads(), "Settings are what", "n_threads is 0"),
    (Right(provider_options=(("device_id", 0),)), "Settings are what", "('device_id', 0) is no pair of texts"),  # type: ignore[arg-type]
    (ListsAFact(), "Settings are what", "fact 'cores' is [0, 1]"),
    (ShortKey(), "The key is a sha256", "no 64 hexadecimal digits"),
    (NamedKey(), "The key is a sha256", "another name changes the key"),
    (SummaryKey(), "The key is a sha256", "another summary changes the key"),
    (FixedKey(), "The key is a sha256", "another optimisation leaves the key"),
    (RandomKey(), "The key is a sha256", "the key differs between two calls"),
    (ProcessKey(), "Another process sees", "the key is another one in another process"),
    (FallsBack(), "What this machine lacks", "asked for a provider that does not exist, check accepts it"),
    (
        AnyVersion(),
        "What this machine lacks",
        "asked for a version of ONNX Runtime that does not exist, check accepts it",
    ),
    (FailsUnclearly(), "What this machine lacks", "check raises RuntimeError: no"),
    (RefusesNamelessly(), "A file is measured", "check raises InputError: the board is not connected"),
    (ForgetsToCheck(), "A file is measured", "TrialError: "),
]
