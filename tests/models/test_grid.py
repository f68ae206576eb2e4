"""Dimensions: their values, their draws, and the order in which they grow."""

import pytest
from optuna.trial import FixedTrial

from nas_kd.models.grid import Dimension
from search_spaces.resnet import ResNetSpace

WIDTH = Dimension("width", 4, 16, step=4, log=True)


def test_values_and_words() -> None:
    assert WIDTH.values == (4, 8, 12, 16)
    assert WIDTH.description == "4, 8, 12, 16"
    assert Dimension("width", 8, 96, step=4).description == "8 to 96 in steps of 4"


@pytest.mark.parametrize(("drawn", "kept"), [(4, 4), (5, 4), (7, 8), (13, 12), (15, 16), (16, 16)])
def test_a_draw_on_a_log_scale_is_rounded_to_the_nearest(drawn: int, kept: int) -> None:
    assert WIDTH.suggest(FixedTrial({"s.width": drawn}), "s.") == kept


def test_growth_is_halfway_between_values() -> None:
    assert Dimension("depth", 0, 2).growth() == [(0.25, 1), (0.75, 2)]
    assert Dimension("stride", 1, 2, decreases_size=True).growth() == [(0.5, 1)]
    assert Dimension("only", 3, 3).growth() == []
    times = [at for at, _ in Dimension("width", 1, 4, log=True).growth()]
    assert times == pytest.approx([0.25, 0.646, 0.896], abs=1e-3)


@pytest.mark.parametrize("n", [-1, 0, 1])
def test_a_ladder_has_at_least_two_rungs(n: int) -> None:
    with pytest.raises(ValueError, match=r"a ladder of space 'resnet' has at least 2 sizes, got"):
        ResNetSpace().size_ladder(n)


def test_the_longest_ladder_still_climbs() -> None:
    space = ResNetSpace()
    longest = space.size_ladder(len(space._growth_path))
    assert space.size_ladder(10_000) == longest
    assert len(set(longest)) == len(longest)
