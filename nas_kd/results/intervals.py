"""Intervals for shares and for means over seeds, and rank correlation; closed forms, no scipy."""

from collections.abc import Sequence
from math import hypot, sqrt
from statistics import fmean, stdev

import numpy as np

from nas_kd.results.records import Accuracy

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
T_95 = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
    *(2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963),
    *(2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272),
)


def t_quantile(df: int) -> float:
    """The 97.5 % quantile of Student's t: half a two-sided 95 % interval, in standard errors.

    Tabulated up to 30 degrees of freedom, then the first terms around the normal quantile (Abramowitz & Stegun 26.7.5),
    right to 1e-4.

    Raises:
        ValueError: `df` is below 1.
    """
    if df < 1:
        raise ValueError(f"degrees of freedom must be >= 1, got {df}")
    if df <= len(T_95):
        return T_95[df - 1]
    z = Z_95
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)


def wilson_interval(share: float, samples: int) -> tuple[float, float]:
    """Low and high end of the 95 % interval of a `share` (0..1) seen on so many samples (Wilson 1927).

    Raises:
        ValueError: the share is not in 0..1, or there are no samples.
    """
    _check_shares([share], samples)
    z2 = Z_95**2 / samples
    centre = (share + z2 / 2) / (1 + z2)
    half = Z_95 / (1 + z2) * sqrt(share * (1 - share) / samples + z2 / (4 * samples))
    # At 0 and 1 rounding could leave the share just outside its own interval.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def accuracy_over_seeds(shares: Sequence[float], samples: int) -> Accuracy:
    """Mean accuracy over seeds, all judged on the same `samples`, with its 95 % interval.

    Two independent errors add in quadrature, low and high side apart: that of the sampled test split (Wilson), which
    more seeds do not reduce, and that of the mean over seeds (Student's t). One seed: the first alone.

    Raises:
        ValueError: no shares, one outside 0..1, or no samples.
    """
    _check_shares(shares, samples)
    mean = min(max(fmean(shares), min(shares)), max(shares))  # rounding must not leave 0..1
    low, high = wilson_interval(mean, samples)
    spread = _t_half_width(shares)
    return Accuracy(
        mean=mean,
        low=max(0.0, mean - hypot(mean - low, spread)),
        high=min(1.0, mean + hypot(high - mean, spread)),
        samples=samples,
        seeds=len(shares),
    )


def paired_gain(a: Sequence[float], b: Sequence[float], samples: int) -> Accuracy:
    """Mean of `a - b`, shares (0..1) paired by seed and judged on the same `samples`, with its 95 % interval (-1..1).

    Student's t over the pairs, and in quadrature the least that the sampled test split can add: the two nets disagree
    on at least `|mean|` of the samples (on one, where that is less), at best all in the same direction. Seeds that
    happen to agree to the digit therefore do not claim an exact gain. With one pair: the difference of two independent
    shares (Newcombe 1998, method 10), which is wider than a paired one.

    Raises:
        ValueError: not as many of one as of the other, none, a share outside 0..1, or no samples.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs must match: got {len(a)} and {len(b)} shares")
    _check_shares([*a, *b], samples)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean = fmean(differences)
    if len(a) == 1:
        below, above = _newcombe(a[0], b[0], samples)
    else:
        disagreeing = max(abs(mean), 1 / samples)
        sampling = Z_95 * sqrt(max(disagreeing - mean**2, 0.0) / samples)
        below = above = hypot(_t_half_width(differences), sampling)
    return Accuracy(mean=mean, low=max(-1.0, mean - below), high=min(1.0, mean + above), samples=samples, seeds=len(a))


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation tau-b (Kendall 1945) in -1..1; None where it is not defined: fewer than two pairs, or all equal.

    Raises:
        ValueError: not as many of one as of the other.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs must match: got {len(a)} and {len(b)} values")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    concordance = pairs_x = pairs_y = 0
    for i in range(len(x) - 1):  # a row at a time: 5,000 values would need 200 MB as a matrix
        sign_x, sign_y = np.sign(x[i + 1 :] - x[i]), np.sign(y[i + 1 :] - y[i])
        concordance += int((sign_x * sign_y).sum())
        pairs_x += int(np.count_nonzero(sign_x))
        pairs_y += int(np.count_nonzero(sign_y))
    if pairs_x == 0 or pairs_y == 0:
        return None
    return concordance / sqrt(pairs_x * pairs_y)


def _t_half_width(values: Sequence[float]) -> float:
    if len(values) < 2:  # one value says nothing about the spread
        return 0.0
    return t_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))


def _newcombe(a: float, b: float, samples: int) -> tuple[float, float]:
    """Widths below and above `a - b`."""
    (a_low, a_high), (b_low, b_high) = wilson_interval(a, samples), wilson_interval(b, samples)
    return hypot(a - a_low, b_high - b), hypot(a_high - a, b - b_low)


def _check_shares(shares: Sequence[float], samples: int) -> None:
    if not shares:
        raise ValueError("no shares given")
    if samples < 1:
        raise ValueError(f"samples must be >= 1, got {samples}")
    if wrong := [s for s in shares if not 0 <= s <= 1]:
        raise ValueError(f"a share must be in 0..1, got {wrong[0]}")
