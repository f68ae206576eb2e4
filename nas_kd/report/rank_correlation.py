"""How well one figure ranks candidates as another does: Kendall's tau with its interval, and two of them compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atanh, hypot, sqrt, tanh

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.intervals import Z_95, t_quantile

FEWEST = 8  # pairs below which an interval would be a guess
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Rank:
    """Kendall's tau-b with its 95 % interval. `influence`: what one more of each candidate would add to it."""

    tau: float
    low: float
    high: float
    influence: Values


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> Rank | None:
    """Tau-b of two figures of the same candidates; None below eight of them, or where all are equal in one.

    The interval is Student's t on the infinitesimal jackknife's standard error (Efron 1982), which is the bootstrap's
    to first order and needs no draws, of atanh(tau); it is never narrower than that of Fieller, Hartley and Pearson
    (1957) for independent pairs, so that eight candidates in perfect order do not claim certainty.
    """
    n = len(a)
    if n < FEWEST:
        return None
    concordant, pairs_a, pairs_b = _rows(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    in_a, in_b = pairs_a.sum(), pairs_b.sum()
    if not in_a or not in_b:
        return None
    tau = float(concordant.sum() / sqrt(in_a * in_b))
    influence = 2 * concordant / sqrt(in_a * in_b) - tau * (pairs_a / in_a + pairs_b / in_b)
    most = 1 - 4 / (n * (n - 1))  # one pair of all the other way round: atanh(1) is infinite
    inner = min(max(tau, -most), most)
    spread = t_quantile(n - 1) * _error(influence) / (1 - inner**2)
    half = max(spread, Z_95 * sqrt(0.437 / (n - 4)))
    return Rank(tau, min(tau, tanh(atanh(inner) - half)), max(tau, tanh(atanh(inner) + half)), influence)


def lead(first: Rank, second: Rank) -> tuple[float, float]:
    """The 95 % interval of `first.tau - second.tau`, both over the same candidates."""
    n, difference = len(first.influence), first.tau - second.tau
    # As above, a perfect order is not a certain one: at least what one pair the other way round would change.
    half = hypot(t_quantile(n - 1) * _error(first.influence - second.influence), 4 / (n * (n - 1)))
    return difference - half, difference + half


def _rows(x: Values, y: Values) -> tuple[Values, Values, Values]:
    """Of each candidate: concordant less discordant pairs, pairs that differ in `x`, and in `y`."""
    table = np.empty((3, len(x)))
    for i in range(len(x)):  # a row at a time: 5,000 values would need 200 MB as a matrix
        sign_x, sign_y = np.sign(x - x[i]), np.sign(y - y[i])
        table[:, i] = (sign_x * sign_y).sum(), np.count_nonzero(sign_x), np.count_nonzero(sign_y)
    return table[0], table[1], table[2]


def _error(influence: Values) -> float:
    n = len(influence)
    return float(sqrt((influence**2).sum() * n / (n - 1)))
