"""The numbers of a search: epochs of its rungs, and how many candidates reach them."""

from dataclasses import replace

import pytest

from nas_kd.config.options import SearchSection
from nas_kd.nas.search_plan import SearchPlan, epochs_through_rungs, rung_epochs


@pytest.mark.parametrize(
    ("epochs", "steps", "rungs", "reduction", "expected"),
    [
        (30, 90, 3, 3, (3, 10, 30)),
        (30, 18, 3, 3, (10, 30)),
        (30, 90, 1, 3, (30,)),
        (4, 90, 3, 3, (1, 4)),
        (4, 10, 3, 3, (4,)),
        (1, 90, 8, 2, (1,)),
        (16, 45, 4, 2, (2, 4, 8, 16)),
    ],
)
def test_epochs_of_the_rungs(epochs: int, steps: int, rungs: int, reduction: int, expected: tuple[int, ...]) -> None:
    assert rung_epochs(epochs, steps, SearchSection(rungs=rungs, reduction=reduction)) == expected


def test_how_many_are_promoted_or_trained_in_full_anyway() -> None:
    plan = SearchPlan(trials=24, n_initial=6, rungs=(1, 3, 9), reduction=3, n_edge_sizes=8)
    assert [plan.promoted(n) for n in (4, 6, 7, 24)] == [4, 6, 7, 6 + 6]
    assert [plan.trained_in_full(n) for n in (5, 6)] == [True, False]
    one_rung = replace(plan, rungs=(9,))
    assert one_rung.promoted(24) == 24
    assert one_rung.trained_in_full(23)


def test_epochs_of_the_rungs_by_hand() -> None:
    assert epochs_through_rungs(9, (1, 3, 9), 3) == (9 * 1 + 3 * 2 + 1 * 6, 1)
    assert epochs_through_rungs(10, (5,), 3) == (50, 10)
    assert epochs_through_rungs(2, (1, 2), 3) == (2 + 1, 1)
    assert epochs_through_rungs(0, (1, 2), 3) == (0, 0)
    assert epochs_through_rungs(12, (1, 3, 9), 3, n_initial=3) == (3 * 9 + 9 * 1 + 3 * 2 + 1 * 6, 3 + 1)
    assert epochs_through_rungs(2, (1, 2), 3, n_initial=6) == (2 * 2, 2)
