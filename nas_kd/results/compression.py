"""One metric of task and compression: for a network the compression score, for a family of networks a hypervolume.

    retention r = max(0, (score - chance) / (teacher's score - chance)), on test
    compression score = r x mean over the costs of log2(teacher's cost / cost)

The costs are size and latency, so the second factor is log2 of the geometric mean of times smaller and times faster. A
hypervolume is taken in (r - 1/2) / (1 - 1/2) and log10(teacher's cost / cost): one network with the teacher's score at
a tenth of both costs gives 1. What keeps half of the score or less, or does not cost less than the teacher, gives 0.

Arrays have the draws first: row 0 is what was measured, the others are drawn from its errors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import comb, log2

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.compression_record import Difference, Estimate

REFERENCE_RETENTION = 0.5
TEACHER_FACTORS = (0.25, 0.5, 2.0, 4.0)  # times the teacher's costs, for which orders are checked
MIN_MARGIN = 1e-9  # of a drawn teacher over chance
CELLS_AT_ONCE = 300_000
Draws = NDArray[np.float64]


@dataclass(frozen=True)
class CompressionDraws:
    """Networks in the coordinates that are compared.

    Attributes:
        retention: (D, n) share of the teacher's score above chance that each keeps, not below 0.
        savings: (D, n, c) log2 of times less than the teacher, for each of c costs.
    """

    retention: Draws
    savings: Draws

    @staticmethod
    def of(scores: Draws, teacher: Draws, chance: float, costs: Draws, teacher_costs: Draws) -> "CompressionDraws":
        """Relate networks to their teacher.

        Args:
            scores: (D, n) of the networks.
            teacher: (D,) the teacher's.
            chance: what guessing gets.
            costs: (D, n, c) of the networks, > 0.
            teacher_costs: (D, c) the teacher's, > 0.
        """
        margin = np.maximum(teacher - chance, MIN_MARGIN)[:, np.newaxis]
        retention = np.maximum((scores - chance) / margin, 0.0)
        return CompressionDraws(retention, np.log2(teacher_costs[:, np.newaxis] / costs))

    @property
    def scores(self) -> Draws:
        """Compression score of each network in each draw, (D, n)."""
        return np.asarray(self.retention * self.savings.mean(axis=2))

    def hypervolumes(self, members: Sequence[int]) -> Draws:
        """(D, m) mean hypervolume of 1, 2, ... m of these m networks, over all choices of that number."""
        kept = (self.retention[:, members] - REFERENCE_RETENTION) / (1 - REFERENCE_RETENTION)
        saved = self.savings[:, members] / log2(10)
        return expected_hypervolumes(np.concatenate([kept[..., np.newaxis], saved], axis=2))

    def with_teacher_costs(self, factor: float) -> "CompressionDraws":
        """What was measured, without draws, beside a teacher of other costs and the same score."""
        return replace(self, retention=self.retention[:1], savings=self.savings[:1] + log2(factor))


def expected_hypervolumes(gains: Draws) -> Draws:
    """Compute the mean volume that k points dominate above the origin, over all choices of k points.

    The coordinates cut space into cells. A cell that m of the n points dominate is dominated by k of them with the
    probability 1 - C(n - m, k) / C(n, k).

    Args:
        gains: (D, n, d) points, more is better; those not above 0 everywhere dominate nothing.

    Returns:
        (D, n): for k = 1 ... n; the last is the volume of all points.
    """
    draws, n, dimensions = gains.shape
    step = max(1, CELLS_AT_ONCE // n**dimensions)
    volumes = np.concatenate([_volumes_by_count(gains[i : i + step]) for i in range(0, draws, step)])
    share = [[1 - comb(n - m, k) / comb(n, k) for k in range(1, n + 1)] for m in range(1, n + 1)]
    return np.asarray(volumes @ np.array(share))


def _volumes_by_count(gains: Draws) -> Draws:
    """(D, n) volume of what exactly 1, 2, ... n of the points (D, n, d) dominate."""
    draws, n, dimensions = gains.shape
    inside = np.maximum(gains, 0.0)
    ends = np.sort(inside, axis=1)  # (D, n, d) upper ends of the cells
    widths = np.diff(ends, axis=1, prepend=0.0)
    dominated, volume = np.ones((draws, n, 1), dtype=np.bool_), np.ones((draws, 1))
    for axis in range(dimensions):
        reached = inside[:, :, np.newaxis, axis] >= ends[:, np.newaxis, :, axis]
        dominated = (dominated[..., np.newaxis] & reached[:, :, np.newaxis]).reshape(draws, n, -1)
        volume = (volume[..., np.newaxis] * widths[:, np.newaxis, :, axis]).reshape(draws, -1)
    count = dominated.sum(axis=1)
    return np.stack([(volume * (count == m)).sum(axis=1) for m in range(1, n + 1)], axis=1)


def estimate(drawn: Draws, least: float = -np.inf) -> Estimate:
    """What was measured with the 95 % interval of its draws, around it.

    Args:
        drawn: (D,) what was measured, and its draws.
        least: the figure cannot be below this.
    """
    below, above = _half_widths(drawn)
    value = float(drawn[0])
    return Estimate(value=value, low=max(least, value - below), high=value + above)


def difference(drawn: Draws, others: Iterable[float], fewer: Iterable[float] = ()) -> Difference:
    """A difference with its interval, and whether its sign holds elsewhere.

    Args:
        drawn: (D,) what was measured, and its draws.
        others: the difference beside teachers of other costs.
        fewer: the difference for fewer members.
    """
    found, sign = estimate(drawn), np.sign(drawn[0])
    return Difference(
        **found.model_dump(),
        holds_for_fewer=all(np.sign(v) == sign for v in fewer),
        holds_for_teachers=all(np.sign(v) == sign for v in others),
    )


def _half_widths(drawn: Draws) -> tuple[float, float]:
    low, middle, high = np.percentile(drawn[1:] if len(drawn) > 1 else drawn, [2.5, 50, 97.5])
    return float(middle - low), float(high - middle)
