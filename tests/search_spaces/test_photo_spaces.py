"""The spaces for photographs: sizes of pictures, resolution inside the network, compact filters, nesting."""

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.blocks import ConcatenatedReLU, GhostFeatures
from nas_kd.models.grid import GridSpace
from nas_kd.models.search_space import usual_space
from nas_kd.models.subnetwork import cut_weights
from nas_kd.models.supernet import Supernet
from nas_kd.results.candidate import Architecture
from search_spaces import mobilenet, mobilenet_photo, resnet, resnet_photo

SPACES: Mapping[str, GridSpace] = {"mobilenet_photo": mobilenet_photo.PLUGIN, "resnet_photo": resnet_photo.PLUGIN}
SHAPE = (3, 64, 64)

each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
Pair = tuple[GridSpace, Architecture, Architecture]


def middle(space: GridSpace, **changed: int) -> Architecture:
    return space.canonical({**space.size_ladder(3)[1].choices, **changed})  # type: ignore[dict-item]


def logits(network: torch.nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(x)  # type: ignore[no-any-return]


@st.composite
def pairs(draw: Callable[[st.SearchStrategy[int]], int]) -> Pair:
    """A space, a network of it, and a larger relative: no choice makes it smaller."""
    space = list(SPACES.values())[draw(st.integers(0, len(SPACES) - 1))]
    first, second = (
        {d.name: d.values[draw(st.integers(0, len(d.values) - 1))] for d in space.dimensions} for _ in range(2)
    )
    larger = {d.name: (min if d.decreases_size else max)(first[d.name], second[d.name]) for d in space.dimensions}
    return space, space.canonical(first), space.canonical(larger)


@settings(max_examples=15, deadline=None)
@given(pairs())
def test_smaller_networks_are_sub_networks(pair: Pair) -> None:
    space, small, large = pair
    smaller = space.build(small, SHAPE, 10)
    cut = cut_weights(space.build(large, SHAPE, 10).state_dict(), smaller)
    assert {name: t.shape for name, t in cut.items()} == {n: t.shape for n, t in smaller.state_dict().items()}


@each_space
def test_any_network_runs_in_the_elastic_one(space: GridSpace) -> None:
    smallest, largest = space.size_ladder(2)
    supernet = Supernet(lambda a: space.build(a, SHAPE, 10), largest, smallest)
    assert supernet(torch.randn(2, *SHAPE)).shape == (2, 10)


def test_descriptions() -> None:
    smallest, largest = mobilenet_photo.PLUGIN.size_ladder(2)
    assert mobilenet_photo.PLUGIN.describe(smallest) == (
        "5 stages, 4-4-4-8-16 wide, 5 blocks, expansions 2-2, kernel 3, at 5/8, stride 32, CReLU, ghost"
    )
    assert mobilenet_photo.PLUGIN.describe(largest) == (
        "5 stages, 16-24-40-96-160 wide, 14 blocks, expansions 6-6, kernel 5, at 8/8, stride 16, SE"
    )
    assert resnet_photo.PLUGIN.describe(resnet_photo.PLUGIN.size_ladder(2)[1]) == (
        "4 stages, 32-64-128-256 wide, 9 blocks, inner 4/4-4/4, kernels 3-3, at 8/8, stride 16"
    )


@pytest.mark.parametrize("space", [mobilenet.PLUGIN, resnet.PLUGIN])
def test_spaces_for_small_images_name_the_one_for_photographs(space: GridSpace) -> None:
    architecture = space.size_ladder(2)[0]
    space.build(architecture, (3, 95, 200), 10)
    with pytest.raises(InputError) as refused:
        space.build(architecture, (3, 96, 128), 10)
    assert str(refused.value) == (
        f"space '{space.name}' is for images of up to 95 pixels, these have 96x128; "
        f"use '{space.name}_photo' in its place"
    )


@each_space
def test_spaces_for_photographs_name_the_one_for_small_images(space: GridSpace) -> None:
    with pytest.raises(InputError) as refused:
        space.build(space.size_ladder(2)[0], (3, 300, 63), 10)
    assert str(refused.value) == (
        f"space '{space.name}' is for images of 64 pixels and more, these have 300x63; "
        f"use '{space.elsewhere}' in its place"
    )


def test_teachers_come_from_a_space_for_their_pictures() -> None:
    assert [usual_space(s).name for s in ((3, 32, 32), (3, 95, 300), (3, 96, 96), (500,))] == [
        "resnet",
        "resnet",
        "resnet_photo",
        "resnet",
    ]


@each_space
def test_half_the_resolution_sees_the_mean_of_every_two_by_two_pixels(space: GridSpace) -> None:
    whole, half = (space.build(middle(space, resolution=r), (3, 128, 128), 10) for r in (8, 4))
    half.load_state_dict(whole.state_dict())
    x = torch.randn(2, 3, 128, 128)
    assert torch.allclose(logits(half, x), logits(whole, F.avg_pool2d(x, 2)), atol=1e-4)
    assert count_macs(half, (3, 128, 128)) == count_macs(whole, (3, 64, 64))
    assert count_parameters(half) == count_parameters(whole)


@each_space
@pytest.mark.parametrize("changed", [{"resolution": 5}, {"resolution": 7}], ids=str)
def test_onnx_runtime_resizes_odd_pictures_alike(space: GridSpace, changed: dict[str, int]) -> None:
    shape = 3, 71, 99
    network = space.build(middle(space, stride=16, **changed), shape, 10)
    x = torch.randn(3, *shape)
    session = onnxruntime.InferenceSession(export_onnx(network.eval(), shape), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], logits(network, x).numpy(), atol=2e-5)


@each_space
@pytest.mark.parametrize(("stride", "side"), [(16, 8), (32, 4)])
def test_stages_end_at_the_resolutions_asked_for(space: GridSpace, stride: int, side: int) -> None:
    network = space.build(middle(space, resolution=8, stride=stride), (3, 128, 128), 10)
    points = find_feature_points(network, torch.randn(2, 3, 128, 128))
    sides = []
    for path in points.features:
        network.get_submodule(path).register_forward_hook(lambda _m, _x, y: sides.append(y.shape[-1]))
    network(torch.randn(2, 3, 128, 128))
    assert sides == [s for s in (64, 32, 16, 8, 4) if s >= side]
    assert points.classifier == "classifier"


@pytest.mark.parametrize("choice", ["crelu_early", "ghost_late"])
def test_compact_filters_save_weights_and_work(choice: str) -> None:
    space = mobilenet_photo.PLUGIN
    plain, compact = (space.build(middle(space, **{choice: on}), SHAPE, 10) for on in (0, 1))
    assert count_parameters(compact) < count_parameters(plain)
    assert count_macs(compact, SHAPE) < 0.9 * count_macs(plain, SHAPE)


def test_concatenated_relu_by_hand() -> None:
    layer = ConcatenatedReLU(2, 4).eval()
    layer.norm.eps = 0.0
    torch.nn.init.eye_(layer.conv.weight.data[:, :, 0, 0])
    assert layer(torch.tensor([2.0, -3.0]).view(1, 2, 1, 1)).flatten().tolist() == [2, 0, 0, 3]


@pytest.mark.parametrize("stride", [1, 2])
def test_ghost_features_are_the_input_and_what_is_made_of_each(stride: int) -> None:
    layer, x = GhostFeatures(8, 5, stride).eval(), torch.rand(2, 4, 9, 11)
    out = logits(layer, x)
    kept = x if stride == 1 else F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
    assert torch.allclose(out[:, :4], kept)
    changed = x.clone()
    changed[:, 1] += 1
    moved = (logits(layer, changed) != out).flatten(2).any(2).any(0)
    assert moved.tolist() == [False, True, False, False, False, True, False, False]
