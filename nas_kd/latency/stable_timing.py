"""Repeats a measurement until the machine is like itself. Needs the standard library, NumPy and ONNX Runtime only."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_kd.latency import baseline as reference_speed
from nas_kd.latency.environment import Fact
from nas_kd.latency.latency_worker import MIN_BLOCKS, TARGET, Timing
from nas_kd.latency.measurement_job import Ask, MeasurementJob, time_once

# Outside, the machine was at no moment like itself (a neighbour on the same physical core slows some networks more than
# others), so that a proportional correction is doubtful: measured again, and unstable if it stays so.
UNDISTURBED_SPEED = (0.9, 1.15)
# If none of so many runs before was left alone, one attempt is all: a neighbour that stays would make all wait in vain.
HOPELESS = 3


@dataclass(frozen=True)
class MeasurementBudget:
    """Up to so many `attempts`, each of up to so many `seconds`.

    One is enough whose interval is within +-`tolerance` of the median, if the machine was like itself.
    """

    seconds: float
    attempts: int
    tolerance: float


FULL = MeasurementBudget(2.0, 3, TARGET)
QUICK = MeasurementBudget(0.5, 2, 0.1)


@dataclass(frozen=True)
class StableTiming:
    """The run that counts, of so many `attempts`, and the reference's usual time on that machine."""

    timing: Timing
    facts: Mapping[str, Fact]
    baseline_ms: float
    attempts: int

    @property
    def steady(self) -> bool:
        """Whether the interval is narrow, and the machine was like itself."""
        return not self.timing.unstable and is_undisturbed(self.timing.reference_ms, self.baseline_ms)

    def within(self, tolerance: float) -> bool:
        """Whether the interval is no wider than this share of the median, and the machine was like itself."""
        timing = self.timing
        half, quiet = max(timing.high - timing.p50, timing.p50 - timing.low), timing.blocks * (1 - timing.disturbed)
        near = round(quiet) >= MIN_BLOCKS and half <= tolerance * timing.p50
        return near and is_undisturbed(timing.reference_ms, self.baseline_ms)

    @staticmethod
    def from_json(value: Any) -> "StableTiming":
        """Out of what `dataclasses.asdict` gave on another machine.

        Raises:
            ValueError: it is anything else, or holds a number that is not finite.
        """
        try:
            timing = Timing(**value["timing"])
            remeasure_borderline = StableTiming(timing, dict(value["facts"]), value["usual_ms"], value["attempts"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError("no measurement, or one of another version") from error
        numbers = [*vars(timing).values(), remeasure_borderline.baseline_ms, remeasure_borderline.attempts]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError("a measurement must hold finite numbers")
        if min(timing.p50, timing.raw_p50_ms, timing.reference_ms, remeasure_borderline.baseline_ms) <= 0:
            raise ValueError("a measurement must hold times above 0")
        return remeasure_borderline


def measure_until_stable(
    job: MeasurementJob, effort: MeasurementBudget, ask: Ask, history: Path, quieter: Callable[[], None] | None = None
) -> StableTiming:
    """Measure with no more than this `effort`; of its runs the steady one nearest to the usual speed counts.

    It is not repeated while repeating has been of no use for long.

    `history`: the file that keeps the reference's times on this machine; the first time it is filled by measuring.
    `quieter`: called before it is repeated, or will not be: whoever asks may know whom else to stop on this machine.

    Raises:
        TrialError: the file cannot be run.
    """

    def usual() -> float:
        exclusive_measurement = job.of_reference
        return reference_speed.baseline_ms(
            history, lambda: time_once(exclusive_measurement, effort.seconds, ask)[0].reference_ms
        )

    attempts: list[tuple[Timing, dict[str, Fact]]] = []
    baseline_ms, lately = usual(), reference_speed.latest(history, HOPELESS)
    hopeless = len(lately) == HOPELESS and min(lately) > baseline_ms / UNDISTURBED_SPEED[0]
    for attempt in range(1 if hopeless else effort.attempts):
        if quieter and (attempt or hopeless):
            quieter()
        attempts.append(time_once(job, effort.seconds, ask, usual()))
        reference_speed.remember(history, attempts[-1][0].reference_ms)
        if _best_attempt(attempts, usual()).within(effort.tolerance):
            break
    return _best_attempt(attempts, usual())


def _best_attempt(attempts: list[tuple[Timing, dict[str, Fact]]], baseline_ms: float) -> StableTiming:
    steady = [a for a in attempts if not a[0].unstable] or attempts
    timing, facts = min(steady, key=lambda a: abs(baseline_ms - a[0].reference_ms))
    return StableTiming(timing, facts, baseline_ms, len(attempts))


def history_file(size: str, device_key: str) -> Path:
    """Where the times of the reference of this size are kept, for a device profile on this machine."""
    return reference_speed.cache_folder() / f"reference-{size}-{device_key[:16]}.json"


def is_undisturbed(reference_ms: float, baseline_ms: float) -> bool:
    """Whether the machine was like itself while the reference took so long."""
    return UNDISTURBED_SPEED[0] <= baseline_ms / reference_ms <= UNDISTURBED_SPEED[1]
