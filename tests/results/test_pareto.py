"""Dominance and hypervolume: closed forms, and the same results as moocore on random points."""

import time
from typing import Any

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_kd.results.pareto import contribution, hypervolume, non_dominated


def tables(columns: int) -> st.SearchStrategy[Any]:
    """Tables with many ties (a coarse grid) as well as without."""
    coarse = st.integers(0, 5).map(float)
    fine = st.floats(0, 5, allow_subnormal=False)
    return st.integers(1, 25).flatmap(
        lambda rows: st.one_of(*(arrays(np.float64, (rows, columns), elements=e) for e in (coarse, fine)))
    )


def test_front_by_hand() -> None:
    points = [[1, 3], [2, 2], [3, 1], [3, 3], [2, 2], [2, 3]]
    assert non_dominated(points).tolist() == [True, True, True, False, True, False]


def test_areas_and_volumes_by_hand() -> None:
    assert hypervolume([[1, 3], [2, 2], [3, 1]], [4, 4]) == 6.0
    assert hypervolume([[0, 0, 0]], [2, 3, 4]) == 24.0
    assert hypervolume([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [2, 2, 2]) == 4.0


def test_points_beyond_the_reference_contribute_nothing() -> None:
    assert hypervolume([[1, 1], [-9, 2], [2, 0.5]], [2, 2]) == 1.0
    assert hypervolume([[-9, -9, 2]], [2, 2, 2]) == 0.0
    assert contribution([-9, -9, 2], [], [2, 2, 2]) == 0.0


@pytest.mark.parametrize("empty", [[], np.zeros((0, 3))])
def test_no_points(empty: Any) -> None:
    assert hypervolume(empty, [1, 1, 1]) == 0.0
    assert non_dominated(empty).tolist() == []
    assert contribution([0, 0, 0], empty, [1, 1, 2]) == 2.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_infinite_numbers_are_rejected(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        non_dominated([[0, bad]])
    with pytest.raises(ValueError, match="finite"):
        hypervolume([[0, bad]], [1, 1])
    with pytest.raises(ValueError, match="finite"):
        hypervolume([[0, 0]], [1, bad])


def test_wrong_shapes_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"shape \(n, d\), got \(3,\)"):
        non_dominated([1, 2, 3])
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(1, 2\)"):
        hypervolume([[1, 2]], [3, 3, 3])
    with pytest.raises(ValueError, match="2 or 3 coordinates"):
        hypervolume([[1]], [2])


@given(st.integers(1, 4).flatmap(tables))
def test_membership_follows_the_definition(table: Any) -> None:
    dominated = [bool(((table <= p).all(axis=1) & (table < p).any(axis=1)).any()) for p in table]
    assert non_dominated(table).tolist() == [not d for d in dominated]


@given(st.integers(2, 3).flatmap(tables))
def test_same_front_and_hypervolume_as_moocore(table: Any) -> None:
    reference = np.full(table.shape[1], 4.5)
    expected = moocore.is_nondominated(table, keep_weakly=True)
    assert non_dominated(table).tolist() == expected.tolist()
    assert hypervolume(table, reference) == pytest.approx(moocore.hypervolume(table, ref=reference), rel=1e-9)


@given(st.integers(2, 3).flatmap(tables))
def test_contributions_add_up(table: Any) -> None:
    reference = np.full(table.shape[1], 4.5)
    total = sum(contribution(table[i], table[:i], reference) for i in range(len(table)))
    assert total == pytest.approx(hypervolume(table, reference), rel=1e-9)


@given(st.integers(2, 3).flatmap(tables), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_order_does_not_matter(table: Any, random: Any) -> None:
    order = list(range(len(table)))
    random.shuffle(order)
    reference = np.full(table.shape[1], 4.5)
    assert hypervolume(table[order], reference) == pytest.approx(hypervolume(table, reference), rel=1e-9)
    assert non_dominated(table[order]).tolist() == non_dominated(table)[order].tolist()


def test_front_of_five_thousand_points_is_fast() -> None:
    rng = np.random.default_rng(0)
    sphere = np.abs(rng.normal(size=(5000, 3)))
    points = 1 - sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    start = time.process_time()
    assert non_dominated(points).all()
    volume = hypervolume(points, [1, 1, 1])
    assert time.process_time() - start < 2  # 0.2 s on an idle machine
    assert volume == pytest.approx(moocore.hypervolume(points, ref=[1, 1, 1]), rel=1e-12)


def test_contributions_to_a_large_front_add_up() -> None:
    rng = np.random.default_rng(1)
    sphere = np.abs(rng.normal(size=(300, 3)))
    points = 1 - sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    total = sum(contribution(points[i], points[:i], [1, 1, 1]) for i in range(len(points)))
    assert total == pytest.approx(hypervolume(points, [1, 1, 1]), rel=1e-9)
