"""Repeats a measurement until the machine was undisturbed, and expresses the result in milliseconds.

Needs the standard library, NumPy and ONNX Runtime only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas_kd.latency.baseline import BaselineHistory
from nas_kd.latency.measurement_job import MeasurementJob, RunWorker, time_once
from nas_kd.latency.timing_statistics import MIN_BLOCKS, TARGET_HALF_WIDTH, RelativeTiming
from nas_kd.results.latency import UNDISTURBED_SPEED, Latency, is_undisturbed_speed

# If the machine was disturbed in each of this many earlier measurements, a neighbour stays for long: repeating would be
# of no use, so there is one attempt only.
RECENT_MEASUREMENTS = 3


@dataclass(frozen=True)
class MeasurementBudget:
    """How long a latency measurement may take, and how exact a result is enough.

    Attributes:
        seconds: Longest duration of an attempt.
        attempts: Largest number of attempts.
        tolerance: An attempt is enough if its interval is within +- this share of the median and the machine was
            undisturbed.
    """

    seconds: float
    attempts: int
    tolerance: float


FULL = MeasurementBudget(seconds=2.0, attempts=3, tolerance=TARGET_HALF_WIDTH)
QUICK = MeasurementBudget(seconds=0.5, attempts=2, tolerance=0.1)


def measure_until_stable(
    job: MeasurementJob,
    measurement_budget: MeasurementBudget,
    run_worker: RunWorker,
    history: BaselineHistory,
    pause_neighbours: Callable[[], None] | None = None,
) -> Latency:
    """Measure until an attempt is good enough, and return the one that was nearest to the machine's usual speed.

    Args:
        job: The file and the reference network.
        measurement_budget: Limits of duration and attempts.
        run_worker: Starts the measuring process.
        history: The reference's times on this machine; filled by measuring the first time.
        pause_neighbours: Called before each repetition, and before the only attempt where the machine has been
            disturbed for long: pauses what the caller can pause on this machine.

    Raises:
        TrialError: The file cannot be run.
    """

    def baseline_ms() -> float:
        return history.baseline_ms(
            lambda: time_once(job.reference_job, measurement_budget.seconds, run_worker).reference_ms
        )

    slowest_undisturbed_ms, recent = baseline_ms() / UNDISTURBED_SPEED[0], history.latest(RECENT_MEASUREMENTS)
    disturbed_for_long = len(recent) == RECENT_MEASUREMENTS and min(recent) > slowest_undisturbed_ms
    timings: list[RelativeTiming] = []
    for attempt in range(1 if disturbed_for_long else measurement_budget.attempts):
        if pause_neighbours and (attempt or disturbed_for_long):
            pause_neighbours()
        timings.append(time_once(job, measurement_budget.seconds, run_worker, baseline_ms()))
        history.add(timings[-1].reference_ms)
        if _is_good_enough(_best(timings, baseline_ms()), baseline_ms(), measurement_budget.tolerance):
            break
    return _in_milliseconds(_best(timings, baseline_ms()), job, baseline_ms(), len(timings))


def _best(timings: Sequence[RelativeTiming], baseline_ms: float) -> RelativeTiming:
    """The timing nearest to the machine's usual speed, of those with a narrow interval if there are any."""
    narrow = [t for t in timings if not t.unstable] or timings
    return min(narrow, key=lambda t: abs(baseline_ms - t.reference_ms))


def _is_good_enough(timing: RelativeTiming, baseline_ms: float, tolerance: float) -> bool:
    half_width = max(timing.high - timing.p50, timing.p50 - timing.low)
    undisturbed_blocks = round(timing.blocks * (1 - timing.disturbed))
    precise = undisturbed_blocks >= MIN_BLOCKS and half_width <= tolerance * timing.p50
    return precise and is_undisturbed_speed(baseline_ms / timing.reference_ms)


def _in_milliseconds(timing: RelativeTiming, job: MeasurementJob, baseline_ms: float, attempts: int) -> Latency:
    return Latency(
        p50=timing.p50 * baseline_ms,
        p90=timing.p90 * baseline_ms,
        p99=timing.p99 * baseline_ms,
        low=timing.low * baseline_ms,
        high=timing.high * baseline_ms,
        unstable=timing.unstable or not is_undisturbed_speed(baseline_ms / timing.reference_ms),
        baseline_ms=baseline_ms,
        reference_ms=timing.reference_ms,
        reference_size=job.reference_size,
        raw_p50_ms=timing.raw_p50_ms,
        blocks=timing.blocks,
        calls=timing.calls,
        disturbed=timing.disturbed,
        seconds=timing.seconds,
        attempts=attempts,
        pinned_to=timing.pinned_to,
        steal=timing.steal,
        load_1m=timing.load_1m,
    )
