"""Rank correlation with its interval, by hand and by how often it holds the truth."""

from math import asin, pi, sqrt, tanh

import numpy as np
import pytest

from nas_kd.report.rank_correlation import lead, rank_correlation
from nas_kd.results.intervals import kendall_tau


def test_tau_is_kendalls_with_ties() -> None:
    rng = np.random.default_rng(0)
    for n in (8, 9, 30):
        a, b = rng.integers(5, size=(2, n)).astype(float)
        rank = rank_correlation(a.tolist(), b.tolist())
        assert rank is not None
        assert rank.tau == pytest.approx(kendall_tau(a.tolist(), b.tolist()))
        assert rank.low <= rank.tau <= rank.high


def test_a_perfect_order_of_eight_is_not_certain() -> None:
    rank = rank_correlation(range(8), range(8))
    assert rank is not None
    assert (rank.tau, rank.high) == (1.0, 1.0)
    # The jackknife sees no spread: Fieller, Hartley and Pearson's, from one discordant pair of 28: 26 / 28.
    most, half = 26 / 28, 1.959964 * sqrt(0.437 / 4)
    assert rank.low == pytest.approx(tanh(np.arctanh(most) - half), abs=1e-6)


def test_too_few_or_all_equal_have_no_rank_correlation() -> None:
    assert rank_correlation(range(7), range(7)) is None
    assert rank_correlation([1.0] * 9, range(9)) is None


@pytest.mark.parametrize(("n", "rho"), [(8, 0.0), (8, 0.8), (20, 0.5), (60, 0.9)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(n: int, rho: float) -> None:
    rng = np.random.default_rng(n)
    true = 2 / pi * asin(rho)  # of two normal variables
    drawn = [rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=n).T.tolist() for _ in range(300)]
    ranks = [rank_correlation(a, b) for a, b in drawn]
    held = [r is not None and r.low <= true <= r.high for r in ranks]
    assert 0.92 <= np.mean(held) <= 1


def test_a_lead_is_judged_over_the_same_candidates() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=60)
    near, far = truth + rng.normal(0, 0.2, 60), truth + rng.normal(0, 2, 60)
    first, second = (rank_correlation(x.tolist(), truth.tolist()) for x in (near, far))
    assert first is not None
    assert second is not None
    low, high = lead(first, second)
    assert 0 < low < first.tau - second.tau < high
    assert lead(first, first)[0] < 0 < lead(first, first)[1]
