"""The spaces for small images: descriptions, refusals, cardinality, smaller networks as parts of larger ones."""

from collections.abc import Callable, Mapping
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_kd.errors import InputError
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.models.subnetwork import cut_weights
from nas_kd.results.candidate import Architecture
from search_spaces import mobilenet, resnet

SPACES: Mapping[str, GridSpace] = {"resnet": resnet.PLUGIN, "mobilenet": mobilenet.PLUGIN}
SHAPE = (1, 8, 8)

each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
Pair = tuple[GridSpace, Architecture, Architecture]


@st.composite
def pairs(draw: Callable[[st.SearchStrategy[int]], int]) -> Pair:
    """A space, a network of it, and a larger relative: no choice is smaller."""
    space = list(SPACES.values())[draw(st.integers(0, len(SPACES) - 1))]
    first, second = (
        {d.name: d.values[draw(st.integers(0, len(d.values) - 1))] for d in space.dimensions} for _ in range(2)
    )
    larger = {name: max(value, second[name]) for name, value in first.items()}
    return space, space.canonical(first), space.canonical(larger)


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_smaller_networks_are_sub_networks(pair: Pair) -> None:
    space, small, large = pair
    larger = space.build(large, SHAPE, 10).state_dict()
    smaller = space.build(small, SHAPE, 10)
    cut = cut_weights(larger, smaller)
    smaller.load_state_dict(cut)
    for name, tensor in cut.items():
        assert tensor.shape == smaller.state_dict()[name].shape
        assert all(have >= want for have, want in zip(larger[name].shape, tensor.shape, strict=True))


@each_space
def test_a_cut_of_equal_architecture_is_the_identity(space: GridSpace) -> None:
    for architecture in space.size_ladder(3):
        larger = space.build(architecture, SHAPE, 10).state_dict()
        cut = cut_weights(larger, space.build(architecture, SHAPE, 10))
        assert cut.keys() == larger.keys()
        assert all(torch.equal(value, larger[name]) for name, value in cut.items())


def choices(space: GridSpace, **changed: object) -> Architecture:
    return Architecture(space.name, {**space.size_ladder(2)[0].choices, **changed})  # type: ignore[dict-item]


@each_space
@pytest.mark.parametrize("wrong", [5, 0, 1_000, -4, "8", 8.0, True, None])
def test_a_choice_out_of_range_is_refused_with_what_is_allowed(space: GridSpace, wrong: object) -> None:
    with pytest.raises(InputError, match=r"width_2 must be one of \d+ to \d+ in steps of 4; got"):
        space.build(choices(space, width_2=wrong), SHAPE, 10)


@each_space
def test_unknown_and_missing_choices_are_named(space: GridSpace) -> None:
    with pytest.raises(InputError, match="did you mean 'width_2'"):
        space.build(choices(space, widht_2=8), SHAPE, 10)
    complete = dict(space.size_ladder(2)[0].choices)
    del complete["depth_2"]
    with pytest.raises(InputError, match="depth_2 is missing; allowed: 1, 2"):
        space.build(Architecture(space.name, complete), SHAPE, 10)
    with pytest.raises(InputError, match="space 'vgg' was given to space"):
        space.describe(Architecture("vgg", complete))


def test_descriptions() -> None:
    smallest, largest = resnet.PLUGIN.size_ladder(2)
    assert resnet.PLUGIN.describe(smallest) == "3 stages, 4-4-8 wide, 2 blocks, kernel 1, stride 2"
    assert resnet.PLUGIN.describe(largest) == "3 stages, 16-48-96 wide, 6 blocks, kernel 3, stride 1"
    mixed = choices(resnet.PLUGIN, depth_1=1, kernel_3=3)
    assert resnet.PLUGIN.describe(mixed) == "3 stages, 4-4-8 wide, 3 blocks, kernels 1-1-3, stride 2"
    mixed = choices(mobilenet.PLUGIN, squeeze_2=1, expansion_2=6)
    assert mobilenet.PLUGIN.describe(mixed) == (
        "2 stages, 4-4-8 wide, 2 blocks, expansions 2-6, kernel 3, squeeze-excite in 2, stride 2"
    )


def test_a_stage_without_blocks_forgets_its_kernel() -> None:
    drawn = dict(choices(resnet.PLUGIN, depth_1=0, kernel_1=3).choices)
    assert resnet.PLUGIN.canonical({k: int(v) for k, v in drawn.items()}) == choices(resnet.PLUGIN)


@each_space
def test_cardinality_counts_what_enumeration_finds(space: GridSpace) -> None:
    few = [
        Dimension(d.name, d.low, min(d.high, d.low + d.step), d.step, d.log, d.conditional_on) for d in space.dimensions
    ]
    reduced = type(space)(few)
    names = [d.name for d in few]
    every = {reduced.canonical(dict(zip(names, c, strict=True))) for c in product(*(d.values for d in few))}
    assert reduced.cardinality() == len(every)


def test_cardinality_of_the_whole_spaces() -> None:
    # stem 2, stage 1: 4 widths x (no block, or 2 depths x 2 kernels), stage 2: 12 x 2 x 2, stage 3: 23 x 2 x 2
    assert resnet.PLUGIN.cardinality() == 2 * (4 * (1 + 2 * 2)) * (12 * 4) * (23 * 4)
    # stem 2 x 4, stage 1: 8 widths x 3 depths x 3 expansions x 2 x 2, stage 2: 15 x 3 x 5 x 2 x 2
    assert mobilenet.PLUGIN.cardinality() == (2 * 4) * (8 * 3 * 3 * 4) * (15 * 3 * 5 * 4)
