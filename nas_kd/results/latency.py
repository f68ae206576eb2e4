"""The latency of a network on a device, and what the figure rests on.

Needs the standard library only: a device agent measures latencies on machines that have no pydantic.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

ReferenceSize = Literal["small", "large"]

# Outside this range of speeds the machine was disturbed during the whole measurement. A proportional correction is then
# doubtful, as a neighbour on the same physical core slows some networks more than others.
UNDISTURBED_SPEED = (0.9, 1.15)
FIGURES = ("p50", "p90", "p99", "low", "high", "unstable")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one call of a network, in milliseconds, with what the measurement rests on.

    A network is timed in turns with a reference network, as a multiple of the reference's time at that moment.
    Multiples are expressed in milliseconds at `baseline_ms`, so that the speed of the machine at the moment cancels.
    Files of older versions hold the first six attributes only.

    Attributes:
        p50: Median over undisturbed blocks of calls, ms.
        p90: 90th percentile of single calls, disturbed ones included, ms.
        p99: 99th percentile of single calls, ms; None in older files.
        low: Lower end of the 95 % interval of the median, ms.
        high: Upper end of the 95 % interval of the median, ms.
        unstable: The interval is wider than +-2 %, or the machine was disturbed during the whole measurement.
        baseline_ms: The reference's usual undisturbed time on this machine, which the other times are expressed in.
        reference_ms: The reference's undisturbed time during this measurement.
        reference_size: Which reference network was used.
        raw_p50_ms: Median of all blocks as the clock showed it, without any correction, ms.
        blocks: Number of blocks of calls that were timed.
        calls: Number of calls that were timed.
        disturbed: Share (0..1) of the blocks that were left out, as another process took the core or slowed it down.
        seconds: Duration of the measurement, process start excluded, s.
        attempts: Number of measurements of which this one was chosen.
        pinned_to: Cores that the measuring process ran on, such as "3" or "2,3"; None where it was not pinned.
        steal: Share (0..1) of those cores' time that the hypervisor took away; None where it is not reported.
        load_1m: The machine's load average over one minute; None where it is not reported.
    """

    p50: float
    p90: float
    p99: float | None = None
    low: float
    high: float
    unstable: bool = False
    baseline_ms: float | None = None
    reference_ms: float | None = None
    reference_size: ReferenceSize | None = None
    raw_p50_ms: float | None = None
    blocks: int | None = None
    calls: int | None = None
    disturbed: float | None = None
    seconds: float | None = None
    attempts: int | None = None
    pinned_to: str | None = None
    steal: float | None = None
    load_1m: float | None = None

    @property
    def speed(self) -> float | None:
        """Speed of the machine during the measurement, 1 = as usual; None in older files."""
        if self.baseline_ms is None or self.reference_ms is None:
            return None
        return self.baseline_ms / self.reference_ms

    @property
    def is_undisturbed(self) -> bool:
        """Whether the machine ran at its usual speed for at least a part of the measurement; True if unknown."""
        return self.speed is None or is_undisturbed_speed(self.speed)

    def figures(self) -> dict[str, float | bool | None]:
        """The percentiles, the interval and `unstable`, without what the measurement rests on."""
        return {name: getattr(self, name) for name in FIGURES}

    def basis(self) -> dict[str, Any]:
        """What the measurement rests on, and the machine's speed, without the figures."""
        return {name: value for name, value in asdict(self).items() if name not in FIGURES} | {"speed": self.speed}

    def to_json(self) -> dict[str, Any]:
        """All attributes by name; `from_json` is the inverse."""
        return asdict(self)

    @staticmethod
    def from_json(value: Any) -> "Latency":
        """Read what `to_json` gave, or an older version's `{p50, p90, p99, low, high, unstable}`.

        Raises:
            ValueError: A name is missing or unknown, a value has the wrong type, or a number is not finite.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"a latency must be an object, got {type(value).__name__}")
        try:
            latency = Latency(**value)
        except TypeError as error:
            raise ValueError(f"not a latency, or one of another version: {error}") from error
        for name, given in asdict(latency).items():
            if not _is_valid(name, given):
                raise ValueError(f"latency: {name} is not valid: {given!r}")
        return latency


def is_undisturbed_speed(speed: float) -> bool:
    """Whether a machine at this speed (1 = as usual) counts as undisturbed."""
    return UNDISTURBED_SPEED[0] <= speed <= UNDISTURBED_SPEED[1]


# `low` is missing here: the interval of a median that varies widely between sessions may begin below 0.
_POSITIVE = {"p50", "p90", "p99", "high", "baseline_ms", "reference_ms", "raw_p50_ms"}
_OPTIONAL = {field.name for field in fields(Latency) if field.default is None}


def _is_valid(name: str, value: Any) -> bool:
    if value is None:
        return name in _OPTIONAL
    if name == "unstable":
        return isinstance(value, bool)
    if name == "pinned_to":
        return isinstance(value, str)
    if name == "reference_size":
        return value in ("small", "large")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return value > 0 or name not in _POSITIVE
