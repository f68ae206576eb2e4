"""Intervals and rank correlation against closed forms, published values and simulated coverage."""

from itertools import combinations
from math import acos, asin, cos, hypot, pi, sqrt, tan, tanh

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.results.intervals import (
    Z_95,
    accuracy_over_seeds,
    kendall_tau,
    kendall_tau_interval,
    paired_gain,
    t_quantile,
    tau_difference_interval,
    wilson_interval,
)

SHARES = st.floats(0, 1)
SAMPLES = st.integers(1, 10**6)


def test_t_quantiles_with_a_closed_form() -> None:
    assert t_quantile(1) == pytest.approx(tan(pi * 0.475), abs=1e-6)
    assert t_quantile(2) == pytest.approx(0.95 * sqrt(2 / (1 - 0.95**2)), abs=1e-6)
    # Four degrees of freedom: the cubic's solution by cosines.
    alpha = 4 * 0.975 * 0.025
    assert t_quantile(4) == pytest.approx(2 * sqrt(cos(acos(sqrt(alpha)) / 3) / sqrt(alpha) - 1), abs=1e-6)


def test_t_quantiles_beyond_the_table() -> None:
    assert t_quantile(40) == pytest.approx(2.021075, abs=2e-4)
    assert t_quantile(100) == pytest.approx(1.983972, abs=2e-5)
    assert t_quantile(10**7) == pytest.approx(Z_95, abs=1e-6)
    quantiles = [t_quantile(df) for df in range(1, 60)]
    assert quantiles == sorted(quantiles, reverse=True)


def test_wilson_by_hand() -> None:
    # Ten samples, all right: 1 / (1 + z^2 / n).
    assert wilson_interval(1, 10) == (pytest.approx(1 / (1 + Z_95**2 / 10)), 1)
    # Newcombe 1998a, table I: 81 of 263.
    assert wilson_interval(81 / 263, 263) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


@given(SHARES, SAMPLES)
def test_wilson_contains_its_share_and_is_symmetric(share: float, samples: int) -> None:
    low, high = wilson_interval(share, samples)
    assert 0 <= low <= share <= high <= 1
    assert low < high
    complement = wilson_interval(1 - share, samples)
    assert (1 - complement[1], 1 - complement[0]) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_one_seed_has_only_the_sampling_error() -> None:
    value = accuracy_over_seeds([0.9], 500)
    assert (value.low, value.high) == pytest.approx(wilson_interval(0.9, 500))
    assert (value.mean, value.samples, value.seeds) == (0.9, 500, 1)


def test_both_errors_add_in_quadrature() -> None:
    value = accuracy_over_seeds([0.88, 0.90, 0.92], 500)
    low, high = wilson_interval(0.9, 500)
    spread = 4.302653 * 0.02 / sqrt(3)
    assert value.mean == pytest.approx(0.9)
    assert value.low == pytest.approx(0.9 - hypot(0.9 - low, spread))
    assert value.high == pytest.approx(0.9 + hypot(high - 0.9, spread))


@given(st.lists(SHARES, min_size=1, max_size=6), SAMPLES)
def test_accuracy_interval_stays_in_its_bounds(shares: list[float], samples: int) -> None:
    value = accuracy_over_seeds(shares, samples)
    assert 0 <= value.low <= value.mean <= value.high <= 1
    low, high = wilson_interval(value.mean, samples)
    assert value.low <= low + 1e-12
    assert value.high >= high - 1e-12


def test_one_pair_is_the_difference_of_two_shares() -> None:
    gain = paired_gain([0.9], [0.8], 100)
    (low_a, high_a), (low_b, high_b) = wilson_interval(0.9, 100), wilson_interval(0.8, 100)
    assert gain.low == pytest.approx(0.1 - hypot(0.9 - low_a, high_b - 0.8))
    assert gain.high == pytest.approx(0.1 + hypot(high_a - 0.9, 0.8 - low_b))


def test_gain_over_seeds_by_hand() -> None:
    gain = paired_gain([0.95, 0.96, 0.97], [0.92, 0.94, 0.96], 10_000)
    sampling = Z_95 * sqrt((0.02 - 0.02**2) / 10_000)
    assert gain.mean == pytest.approx(0.02)
    assert gain.high - gain.mean == pytest.approx(hypot(4.302653 * 0.01 / sqrt(3), sampling))
    assert gain.seeds == 3


def test_agreeing_seeds_are_no_proof_on_a_small_test_split() -> None:
    one_sample_better = paired_gain([351 / 360] * 3, [350 / 360] * 3, 360)
    assert one_sample_better.low < 0 < one_sample_better.high
    nothing = paired_gain([0.5] * 3, [0.5] * 3, 360)
    assert nothing.low == pytest.approx(-Z_95 / 360)
    assert nothing.high == pytest.approx(Z_95 / 360)
    ten_better = paired_gain([355 / 360] * 3, [345 / 360] * 3, 360)
    assert ten_better.low > 0


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=5), SAMPLES)
def test_gain_is_the_negated_loss(pairs: list[tuple[float, float]], samples: int) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    gain, loss = paired_gain(a, b, samples), paired_gain(b, a, samples)
    assert -1 <= gain.low <= gain.mean <= gain.high <= 1
    assert (gain.low, gain.mean) == (pytest.approx(-loss.high, abs=1e-9), pytest.approx(-loss.mean, abs=1e-9))


def test_invalid_shares_are_rejected() -> None:
    with pytest.raises(ValueError, match="no shares"):
        accuracy_over_seeds([], 10)
    with pytest.raises(ValueError, match=r"in 0\.\.1, got 1\.5"):
        accuracy_over_seeds([1.5], 10)
    with pytest.raises(ValueError, match=r"in 0\.\.1, got nan"):
        wilson_interval(float("nan"), 10)
    with pytest.raises(ValueError, match="samples must be >= 1, got 0"):
        wilson_interval(0.5, 0)
    with pytest.raises(ValueError, match="got 2 and 1 shares"):
        paired_gain([0.5, 0.5], [0.5], 10)
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_quantile(0)


def test_kendall_by_hand() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    # Five pairs agree and one does not; with a tie in b: 5 / sqrt(6 * 5).
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 3]) == pytest.approx(5 / sqrt(30))


def test_undefined_kendall_tau() -> None:
    assert kendall_tau([], []) is None
    assert kendall_tau([1], [2]) is None
    assert kendall_tau([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="got 1 and 2 values"):
        kendall_tau([1], [1, 2])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_kendall_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    both = list(combinations(pairs, 2))
    products = [(p[0] - q[0]) * (p[1] - q[1]) for p, q in both]
    untied = [sum(p[k] != q[k] for p, q in both) for k in (0, 1)]
    found = kendall_tau([p[0] for p in pairs], [p[1] for p in pairs])
    if 0 in untied:
        assert found is None
    else:
        signs = sum((v > 0) - (v < 0) for v in products)
        assert found == pytest.approx(signs / sqrt(untied[0] * untied[1]))


def test_tau_with_ties_equals_kendall_tau() -> None:
    rng = np.random.default_rng(0)
    for n in (8, 9, 30):
        a, b = rng.integers(5, size=(2, n)).astype(float)
        found = kendall_tau_interval(a.tolist(), b.tolist())
        assert found is not None
        assert found.tau == pytest.approx(kendall_tau(a.tolist(), b.tolist()))
        assert found.low <= found.tau <= found.high


def test_perfect_order_of_eight_is_not_certain() -> None:
    found = kendall_tau_interval(range(8), range(8))
    assert found is not None
    assert (found.tau, found.high) == (1.0, 1.0)
    # The jackknife sees no spread: Fieller, Hartley and Pearson's, from one discordant pair of 28: 26 / 28.
    most, half = 26 / 28, 1.959964 * sqrt(0.437 / 4)
    assert found.low == pytest.approx(tanh(np.arctanh(most) - half), abs=1e-6)


def test_few_or_equal_values_have_no_tau_interval() -> None:
    assert kendall_tau_interval(range(7), range(7)) is None
    assert kendall_tau_interval([1.0] * 9, range(9)) is None


@pytest.mark.parametrize(("n", "rho"), [(8, 0.0), (8, 0.8), (20, 0.5), (60, 0.9)])
def test_tau_intervals_have_their_nominal_coverage(n: int, rho: float) -> None:
    rng = np.random.default_rng(n)
    true = 2 / pi * asin(rho)  # of two normal variables
    drawn = [rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=n).T.tolist() for _ in range(300)]
    intervals = [kendall_tau_interval(a, b) for a, b in drawn]
    held = [r is not None and r.low <= true <= r.high for r in intervals]
    assert 0.92 <= np.mean(held) <= 1


def test_tau_difference_is_over_the_same_candidates() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=60)
    near, far = truth + rng.normal(0, 0.2, 60), truth + rng.normal(0, 2, 60)
    first, second = (kendall_tau_interval(x.tolist(), truth.tolist()) for x in (near, far))
    assert first is not None
    assert second is not None
    low, high = tau_difference_interval(first, second)
    assert 0 < low < first.tau - second.tau < high
    assert tau_difference_interval(first, first)[0] < 0 < tau_difference_interval(first, first)[1]
