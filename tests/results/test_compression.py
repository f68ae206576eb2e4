"""Compression scores and hypervolumes of families by hand, and what their orders survive."""

from itertools import combinations
from math import log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas_kd.results.compression import CompressionDraws, difference, estimate, expected_hypervolumes
from nas_kd.results.pareto import hypervolume

CHANCE = 0.1
TEACHER = (0.9, 1_000_000.0, 1.0)  # score, bytes, ms
Network = tuple[float, float, float]


def measured(
    networks: list[Network], teacher: Network = TEACHER, units: tuple[float, float] = (1, 1)
) -> CompressionDraws:
    """Networks of known scores and costs beside a teacher, without errors."""
    table = np.array(networks)
    return CompressionDraws.of(
        table[np.newaxis, :, 0],
        np.array([teacher[0]]),
        CHANCE,
        table[np.newaxis, :, 1:] * units,
        np.array([teacher[1:]]) * units,
    )


def scores(networks: list[Network], **other: object) -> list[float]:
    return list(measured(networks, **other).scores[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (TEACHER, 0.0),
        ((0.9, 250_000, 0.25), 2.0),  # all of the score, a quarter of both costs
        ((0.9, 62_500, 1.0), 2.0),  # the geometric mean: a sixteenth of the size at the same latency
        ((0.5, 250_000, 0.25), 1.0),  # half of the score above chance
        ((0.98, 500_000, 0.5), 1.1),  # better than the teacher
        ((0.9, 2_000_000, 1.0), -0.5),  # larger than the teacher
        ((0.9, 500_000, 2.0), 0.0),  # what is gained in size is lost in time
        ((0.1, 1_000, 0.001), 0.0),  # guessing
        ((0.02, 4_000_000, 4.0), 0.0),  # worse than guessing: not a positive score of two negative factors
    ],
)
def test_scores_by_hand(network: Network, expected: float) -> None:
    assert scores([network]) == pytest.approx([expected], abs=1e-12)


def test_beside_a_teacher_of_unknown_latency_the_size_counts_alone() -> None:
    sizes = CompressionDraws.of(
        np.array([[0.9]]), np.array([0.9]), CHANCE, np.array([[[250_000.0]]]), np.array([[1_000_000.0]])
    )
    assert sizes.scores[0] == pytest.approx([2.0])
    assert sizes.hypervolumes([0])[0] == pytest.approx([log10(4)])


def test_hypervolumes_by_hand() -> None:
    """The teacher's score at a tenth of both costs is 1; three quarters of its score are half of that."""
    draws = measured([(0.9, 100_000, 0.1), (0.7, 100_000, 0.1), (0.5, 1_000, 0.001), (0.9, 1_000, 1.0)])
    assert draws.hypervolumes([0])[0] == pytest.approx([1.0])
    assert draws.hypervolumes([1])[0] == pytest.approx([0.5])
    assert draws.hypervolumes([2])[0] == pytest.approx([0.0])  # at the reference retention
    assert draws.hypervolumes([3])[0] == pytest.approx([0.0])  # as slow as the teacher
    assert draws.hypervolumes([0, 1])[0] == pytest.approx([0.75, 1.0])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_expected_hypervolumes_are_the_mean_over_all_choices(dimensions: int) -> None:
    generator = np.random.default_rng(dimensions)
    gains = generator.normal(0.4, 0.5, (3, 6, dimensions))
    gains[0, 1] = gains[0, 0]  # the same network twice
    found = expected_hypervolumes(gains)
    for draw, points in enumerate(gains):
        for k in range(1, 7):
            volumes = [hypervolume(-points[list(c)], np.zeros(dimensions)) for c in combinations(range(6), k)]
            assert found[draw, k - 1] == pytest.approx(np.mean(volumes))


some_networks = st.lists(
    st.tuples(st.floats(0.11, 1), st.floats(1e3, 9e5), st.floats(1e-3, 0.9)), min_size=2, max_size=5
)


@given(some_networks, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_units_change_nothing(networks: list[Network], size: float, time: float) -> None:
    here, there = measured(networks), measured(networks, units=(size, time))
    assert there.scores == pytest.approx(here.scores, rel=1e-6, abs=1e-9)
    members = range(len(networks))
    assert there.hypervolumes(members) == pytest.approx(here.hypervolumes(members), rel=1e-6, abs=1e-9)


@given(some_networks, st.floats(1.0, 100.0))
def test_the_better_network_that_is_ahead_stays_ahead_beside_any_larger_teacher(
    networks: list[Network], factor: float
) -> None:
    """A network with the higher score that keeps at least as much is ahead beside every larger teacher."""
    here, there = measured(networks), measured(networks).with_teacher_costs(factor)
    larger = (TEACHER[0], TEACHER[1] * factor, TEACHER[2] * factor)
    assert there.scores == pytest.approx(measured(networks, teacher=larger).scores, abs=1e-9)
    for a in range(len(networks)):
        for b in range(len(networks)):
            if here.scores[0, a] > here.scores[0, b] and here.retention[0, a] >= here.retention[0, b]:
                assert there.scores[0, a] > there.scores[0, b] - 1e-9


def test_a_small_network_that_keeps_less_falls_behind_beside_a_large_teacher() -> None:
    """Where the order does change, it changes at the factor that the formula says."""
    networks = [(0.7, 100_000.0, 0.1), (0.9, 200_000.0, 0.2)]  # 0.75 x log2 10, 1 x log2 5
    small, accurate = scores(networks)
    assert small > accurate
    at = 2 ** ((small - accurate) / (1 - 0.75))
    for factor, ahead in ((at * 0.99, True), (at * 1.01, False)):
        found = measured(networks).with_teacher_costs(factor).scores[0]
        assert (found[0] > found[1]) == ahead


def test_one_more_network_never_lowers_a_family_and_a_copy_adds_nothing() -> None:
    networks = [(0.8, 100_000.0, 0.1), (0.9, 300_000.0, 0.4), (0.6, 10_000.0, 0.01)]
    draws = measured([*networks, networks[0]])
    volumes = draws.hypervolumes([0, 1, 2])[0]
    assert list(volumes) == sorted(volumes)
    assert draws.hypervolumes([0, 3])[0, -1] == pytest.approx(draws.hypervolumes([0])[0, -1])


def drawn(mean: float, spread: float) -> NDArray[np.float64]:
    return np.concatenate([[mean], np.random.default_rng(0).normal(mean, spread, 20_000)])


def test_intervals_are_those_of_the_draws() -> None:
    found = estimate(drawn(1.0, 0.1))
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1 - 0.196, 1 + 0.196), abs=0.01)
    assert estimate(drawn(0.05, 0.1), least=0.0).low == 0.0
    assert estimate(np.array([2.0])).low == 2.0


@pytest.mark.parametrize(
    ("mean", "others", "fewer", "expected"),
    [
        (1.0, [2.0, 0.5], [0.1], (True, True, True)),
        (-1.0, [-2.0], [-0.1], (True, True, True)),
        (1.0, [2.0, -0.5], [], (True, False, True)),
        (1.0, [], [0.1, -0.1], (True, True, False)),
        (0.1, [1.0], [1.0], (False, True, True)),
    ],
)
def test_differences_are_certain_if_their_interval_excludes_0(
    mean: float, others: list[float], fewer: list[float], expected: tuple[bool, bool, bool]
) -> None:
    found = difference(drawn(mean, 0.1), others, fewer)
    assert (found.certain, found.holds_for_teachers, found.holds_for_fewer) == expected
