"""95 % intervals for shares, means over seeds, paired gains and rank correlation; closed forms, no SciPy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import atanh, hypot, sqrt, tanh
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.finalist_record import Accuracy

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
T_95 = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
    *(2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963),
    *(2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272),
)
MIN_RANKED = 8  # candidates below which an interval of tau would be a guess
Values = NDArray[np.float64]


def t_quantile(df: int) -> float:
    """Return the 97.5 % quantile of Student's t: half a two-sided 95 % interval, in standard errors.

    Tabulated up to 30 degrees of freedom, then the first terms around the normal quantile (Abramowitz & Stegun 26.7.5),
    right to 1e-4.

    Args:
        df: degrees of freedom.

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
    """Compute the 95 % interval of an observed share (Wilson 1927).

    Args:
        share: observed share of samples, 0..1.
        samples: how many samples it was observed on.

    Returns:
        Lower and upper end, both in 0..1.

    Raises:
        ValueError: the share is not in 0..1, or there are no samples.
    """
    _check_shares([share], samples)
    z2 = Z_95**2 / samples
    centre = (share + z2 / 2) / (1 + z2)
    half = Z_95 / (1 + z2) * sqrt(share * (1 - share) / samples + z2 / (4 * samples))
    # At 0 and 1 rounding could leave the share just outside its own interval.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def measured_accuracy(share: float, samples: int) -> Accuracy:
    """The accuracy of one network, a share (0..1) of a split's samples, with its 95 % interval (Wilson 1927)."""
    low, high = wilson_interval(share, samples)
    return Accuracy(mean=share, low=low, high=high, samples=samples)


def accuracy_over_seeds(shares: Sequence[float], samples: int) -> Accuracy:
    """Compute the mean accuracy over seeds with its 95 % interval.

    Two independent errors add in quadrature, on the lower and the upper side separately: that of the sampled split
    (Wilson), which more seeds do not reduce, and that of the mean over seeds (Student's t), which a single seed lacks.

    Args:
        shares: accuracy (0..1) of each seed, all on the same split.
        samples: size of that split.

    Raises:
        ValueError: no shares, one outside 0..1, or no samples.
    """
    return interval_over_seeds(shares, samples, lambda mean: wilson_interval(mean, samples))


def interval_over_seeds(
    values: Sequence[float], samples: int, of_split: Callable[[float], tuple[float, float]]
) -> Accuracy:
    """Compute the mean of a score over seeds with its 95 % interval, see `accuracy_over_seeds`.

    Args:
        values: score (0..1) of each seed, all on the same split.
        samples: size of that split.
        of_split: gives the interval around the mean that the sampled split alone leaves.

    Raises:
        ValueError: no values, one outside 0..1, or no samples.
    """
    _check_shares(values, samples)
    mean = min(max(fmean(values), min(values)), max(values))  # rounding must not leave 0..1
    low, high = of_split(mean)
    spread = _t_half_width(values)
    return Accuracy(
        mean=mean,
        low=max(0.0, mean - hypot(mean - low, spread)),
        high=min(1.0, mean + hypot(high - mean, spread)),
        samples=samples,
        seeds=len(values),
    )


def paired_gain(a: Sequence[float], b: Sequence[float], samples: int) -> Accuracy:
    """Compute the mean of `a - b`, paired by seed, with its 95 % interval (-1..1).

    Student's t over the pairs, and in quadrature the least that the sampled split can add: the two networks disagree on
    at least `|mean|` of the samples (at least one), at best all in the same direction. Seeds that happen to agree to
    the last digit therefore do not claim an exact gain. With one pair, it is the difference of two independent shares
    (Newcombe 1998, method 10), which is wider than a paired one.

    Args:
        a: accuracy (0..1) of one network by seed.
        b: accuracy (0..1) of the other by seed, in the same order.
        samples: size of the split that both were evaluated on.

    Raises:
        ValueError: `a` and `b` differ in length or are empty, a share is outside 0..1, or there are no samples.
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


def paired_interval(a: Sequence[float], b: Sequence[float], least: Accuracy, *, below: float, above: float) -> Accuracy:
    """Compute the 95 % interval of the mean of `a - b` from the error that the sampled split leaves.

    Args:
        a: score (0..1) of one network by seed.
        b: score of the other by seed, in the same order.
        least: the mean with an interval that this one is not narrower than.
        below: half-width that the sampled split leaves, on the lower side.
        above: on the upper side.
    """
    spread = _t_half_width([x - y for x, y in zip(a, b, strict=True)])
    low, high = least.mean - hypot(below, spread), least.mean + hypot(above, spread)
    return least.model_copy(update={"low": max(-1.0, min(low, least.low)), "high": min(1.0, max(high, least.high))})


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Compute the rank correlation tau-b (Kendall 1945), in -1..1.

    Args:
        a: one figure of each candidate.
        b: another figure of the same candidates.

    Returns:
        Tau, or None if it is undefined: fewer than two candidates, or one figure is the same for all.

    Raises:
        ValueError: `a` and `b` differ in length.
    """
    concordance, untied_a, untied_b = _count_pairs(a, b)
    if not untied_a.sum() or not untied_b.sum():
        return None
    return float(concordance.sum() / sqrt(untied_a.sum() * untied_b.sum()))


@dataclass(frozen=True)
class KendallTau:
    """Kendall's tau-b with its 95 % interval. `influence`: (n,) what one more copy of each candidate would add."""

    tau: float
    low: float
    high: float
    influence: Values


def kendall_tau_interval(a: Sequence[float], b: Sequence[float]) -> KendallTau | None:
    """Compute tau-b with a 95 % interval.

    The interval is Student's t on the infinitesimal jackknife's standard error (Efron 1982) of atanh(tau): to first
    order the bootstrap's, without drawing. It is never narrower than that of Fieller, Hartley and Pearson (1957) for
    independent pairs, so that eight candidates in perfect order do not claim certainty.

    Args:
        a: one figure of each candidate.
        b: another figure of the same candidates.

    Returns:
        Tau with its interval, or None below `MIN_RANKED` candidates or if one figure is the same for all.

    Raises:
        ValueError: `a` and `b` differ in length.
    """
    n = len(a)
    concordance, untied_a, untied_b = _count_pairs(a, b)
    total_a, total_b = untied_a.sum(), untied_b.sum()
    if n < MIN_RANKED or not total_a or not total_b:
        return None
    tau = float(concordance.sum() / sqrt(total_a * total_b))
    influence = 2 * concordance / sqrt(total_a * total_b) - tau * (untied_a / total_a + untied_b / total_b)
    most = 1 - 4 / (n * (n - 1))  # tau with a single discordant pair: atanh(1) is infinite
    inner = min(max(tau, -most), most)
    spread = t_quantile(n - 1) * _jackknife_error(influence) / (1 - inner**2)
    half = max(spread, Z_95 * sqrt(0.437 / (n - 4)))
    return KendallTau(tau, min(tau, tanh(atanh(inner) - half)), max(tau, tanh(atanh(inner) + half)), influence)


def tau_difference_interval(first: KendallTau, second: KendallTau) -> tuple[float, float]:
    """Compute the 95 % interval of `first.tau - second.tau`, both over the same candidates."""
    n, difference = len(first.influence), first.tau - second.tau
    # As above, a perfect order is not a certain one: at least what a single discordant pair would change.
    half = hypot(t_quantile(n - 1) * _jackknife_error(first.influence - second.influence), 4 / (n * (n - 1)))
    return difference - half, difference + half


def _count_pairs(a: Sequence[float], b: Sequence[float]) -> tuple[Values, Values, Values]:
    """For each candidate, count concordant less discordant pairs, pairs that differ in `a`, and in `b`: (n,) each."""
    if len(a) != len(b):
        raise ValueError(f"pairs must match: got {len(a)} and {len(b)} values")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    table = np.empty((3, len(x)))
    for i in range(len(x)):  # a row at a time: 5,000 values would need 200 MB as a matrix
        sign_x, sign_y = np.sign(x - x[i]), np.sign(y - y[i])
        table[:, i] = (sign_x * sign_y).sum(), np.count_nonzero(sign_x), np.count_nonzero(sign_y)
    return table[0], table[1], table[2]


def _jackknife_error(influence: Values) -> float:
    n = len(influence)
    return float(sqrt((influence**2).sum() * n / (n - 1)))


def _t_half_width(values: Sequence[float]) -> float:
    if len(values) < 2:  # one value does not show the spread
        return 0.0
    return t_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))


def _newcombe(a: float, b: float, samples: int) -> tuple[float, float]:
    """Half-widths of the interval of `a - b`, below and above (Newcombe 1998, method 10)."""
    (a_low, a_high), (b_low, b_high) = wilson_interval(a, samples), wilson_interval(b, samples)
    return hypot(a - a_low, b_high - b), hypot(a_high - a, b - b_low)


def _check_shares(shares: Sequence[float], samples: int) -> None:
    if not shares:
        raise ValueError("no shares given")
    if samples < 1:
        raise ValueError(f"samples must be >= 1, got {samples}")
    if wrong := [s for s in shares if not 0 <= s <= 1]:
        raise ValueError(f"a share must be in 0..1, got {wrong[0]}")
