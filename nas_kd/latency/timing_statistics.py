"""Statistics of timed blocks of calls: medians over undisturbed blocks and their intervals.

Needs NumPy only, as the measuring process loads it by path. All times are multiples of the reference network's time at
the same moment, so that what slows both alike (clock, heat) cancels. A neighbour on the same physical core does not
slow both alike: it may slow one network by a quarter and another by two thirds. Where the reference's undisturbed time
is known, only moments count in which the reference takes no longer than that.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Call = Callable[[], Any]

MIN_BLOCKS = 11  # undisturbed ones that a median rests on
TARGET_HALF_WIDTH = 0.02  # of the interval, relative to the median
UNDISTURBED_GROUP = 1.1  # times the fastest: what else belongs to the group of undisturbed times
# Times the baseline: a reference that takes longer was disturbed. Its blocks scatter by 2 %, and what costs the
# reference 7 % may cost other networks 36 %.
UNDISTURBED_MARGIN = 1.05
RESAMPLES = 400  # of the bootstrap
SEGMENTS = 20  # resampled as wholes, because neighbouring blocks are alike
PROCESS_SD = 0.005  # relative standard deviation of medians between processes, beyond the noise within one
STUDENT_T = {3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantile, by the number of values


@dataclass(frozen=True)
class RelativeTiming:
    """What the measuring process answers: a network's time in multiples of the reference's.

    Attributes:
        p50: Median over undisturbed blocks, as a multiple of the reference's time; p90 and p99 are over single calls.
        low: Lower end of the median's 95 % interval, as a multiple; `high` is the upper end.
        unstable: There were too few undisturbed blocks, or the interval is wider than the target.
        raw_p50_ms: Median of all blocks by the clock, ms.
        reference_ms: Undisturbed time of the reference during this measurement, ms.
        blocks: Number of blocks of calls.
        calls: Number of calls.
        disturbed: Share (0..1) of blocks in which another process took the core, or a neighbour slowed it down.
        seconds: Duration of the measurement, s.
        pinned_to: Cores that the process ran on, such as "2,3"; None where it was not pinned.
        steal: Share (0..1) of those cores' time that the hypervisor took away; None where it is not reported.
        load_1m: Load average over one minute; None where it is not reported.
    """

    p50: float
    p90: float
    p99: float
    low: float
    high: float
    unstable: bool
    raw_p50_ms: float
    reference_ms: float
    blocks: int
    calls: int
    disturbed: float
    seconds: float
    pinned_to: str | None = None
    steal: float | None = None
    load_1m: float | None = None


class Blocks:
    """Times of blocks of calls so far, in nanoseconds a call, by turns of the reference and of the candidate.

    A block of the reference is timed before, between and after the candidate's blocks, so there is one more of them.
    """

    def __init__(self, sessions: int = 1) -> None:
        """Start with no blocks; `sessions`: number of the candidate's sessions, which take turns."""
        self.sessions = sessions
        self.reference: list[float] = []  # median of each of the reference's blocks
        self.calls: list[NDArray[np.int64]] = []
        self.reference_switches: list[int] = []  # forced context switches during each block
        self.switches: list[int] = []

    def add_reference(self, times: NDArray[np.int64], switches: int) -> None:
        """Append a block of the reference: nanoseconds of each call, and forced context switches meanwhile."""
        self.reference.append(float(np.median(times)))
        self.reference_switches.append(switches)

    def add(self, times: NDArray[np.int64], switches: int) -> None:
        """Append a block of the candidate: nanoseconds of each call, and forced context switches meanwhile."""
        self.calls.append(times)
        self.switches.append(switches)

    def ratios(self) -> Floats:
        """Median of each block, as a multiple of the reference's time around it."""
        medians: Floats = np.array([np.median(c) for c in self.calls])
        return medians / self.reference_around()

    def reference_around(self) -> Floats:
        """Mean time of the reference before and after each block, ns."""
        reference: Floats = np.array(self.reference)
        return np.add(reference[:-1], reference[1:]) / 2

    def uninterrupted(self) -> NDArray[np.bool_]:
        """Mask of the blocks in which no other process took the core, nor in the reference's blocks beside them."""
        around = np.add(self.reference_switches[:-1], self.reference_switches[1:])
        return np.equal(np.add(self.switches, around), 0)

    def last_was_disturbed(self, baseline_ms: float | None) -> bool:
        """Whether the last block, or the reference's block after it, was slowed or interrupted."""
        fastest = UNDISTURBED_GROUP * min(self.reference)
        limit = fastest if baseline_ms is None else UNDISTURBED_MARGIN * baseline_ms * 1e6
        return self.reference[-1] > limit or self.reference_switches[-1] + self.switches[-1] > 0

    def undisturbed(self, baseline_ms: float | None) -> NDArray[np.bool_]:
        """Mask of the blocks between references that took no longer than the baseline; all if it is not known."""
        slowest = np.maximum(self.reference[:-1], self.reference[1:])
        limit = math.inf if baseline_ms is None else UNDISTURBED_MARGIN * baseline_ms * 1e6
        return np.less_equal(slowest, limit)


def summarize(blocks: Blocks, seconds: float, baseline_ms: float | None = None) -> RelativeTiming:
    """Compute the median over undisturbed blocks with its interval, and p90 and p99 over all calls.

    Args:
        blocks: What was timed.
        seconds: How long that took.
        baseline_ms: The reference's usual undisturbed time on this machine, if it is known.
    """
    ratios, uninterrupted = blocks.ratios(), blocks.uninterrupted()
    undisturbed = uninterrupted & blocks.undisturbed(baseline_ms)
    enough = int(undisturbed.sum()) >= MIN_BLOCKS
    fallback = uninterrupted if int(uninterrupted.sum()) >= MIN_BLOCKS else np.ones_like(uninterrupted)
    chosen = undisturbed if enough else fallback
    used, session = ratios[chosen], np.arange(len(ratios))[chosen] % blocks.sessions
    p50 = float(np.median(used))
    low, high = median_interval(used)
    half = math.hypot(session_half_width(used, session), 1.96 * math.sqrt(2) * PROCESS_SD * p50)
    low, high = min(low, p50 - half), max(high, p50 + half)
    calls = np.concatenate([c / around for c, around in zip(blocks.calls, blocks.reference_around(), strict=True)])
    p90, p99 = (max(p50, float(value)) for value in np.percentile(calls, [90, 99]))
    return RelativeTiming(
        p50=p50,
        p90=p90,
        p99=p99,
        low=low,
        high=high,
        unstable=not enough or max(high - p50, p50 - low) > TARGET_HALF_WIDTH * p50,
        raw_p50_ms=float(np.median([np.median(c) for c in blocks.calls])) / 1e6,
        reference_ms=undisturbed_time(blocks.reference) / 1e6,
        blocks=len(ratios),
        calls=len(calls),
        disturbed=1 - float(undisturbed.mean()),
        seconds=round(seconds, 3),
    )


def median_interval(values: Floats) -> tuple[float, float]:
    """95 % interval of the median by the circular block bootstrap (Politis & Romano 1992).

    Args:
        values: (n,) in order of time; runs of neighbours are resampled together, as neighbours are alike.
    """
    n = len(values)
    length = max(1, n // SEGMENTS)
    starts = np.random.default_rng(0).integers(0, n, (RESAMPLES, -(-n // length), 1))
    picked = (starts + np.arange(length)).reshape(RESAMPLES, -1)[:, :n] % n
    low, high = np.percentile(np.median(values[picked], axis=1), [2.5, 97.5])
    return float(low), float(high)


def session_half_width(values: Floats, session: NDArray[np.int64]) -> float:
    """Half-width of the 95 % interval in which the median of one more session falls (Student's t).

    A median repeats within this, not within what the noise of one session's blocks suggests.

    Args:
        values: (n,) medians of blocks.
        session: (n,) number of the session that each block belongs to.

    Returns:
        0 if there are too few sessions to tell.
    """
    medians = [float(np.median(values[session == s])) for s in np.unique(session)]
    if len(medians) not in STUDENT_T:
        return 0.0
    return float(STUDENT_T[len(medians)] * np.std(medians, ddof=1) * math.sqrt(1 + 1 / len(medians)))


def undisturbed_time(times: Sequence[float]) -> float:
    """Median of the fastest group of times: the usual time in the moments when the machine was undisturbed.

    Neighbours make times fall into groups tens of per cent apart; the fastest group reaches up to a tenth above the
    10th percentile.
    """
    values: Floats = np.array(times)
    return float(np.median(values[values <= UNDISTURBED_GROUP * np.percentile(values, 10)]))
