"""The built-in spaces hold the contract of `nas_kd.testing`, and what is asked of spaces of convolutions beside it."""

import io
import math
from collections import Counter
from itertools import pairwise
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.search_space import SearchSpace, SpaceOfTeacher
from nas_kd.plugins import available
from nas_kd.testing import check_space
from nas_kd.testing.space_case import SpaceCase

SPACES = {name: s for name, s in available("space").items() if not isinstance(s, SpaceOfTeacher)}
N_CLASSES = 5

pytestmark = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def shape_for(space: SearchSpace) -> tuple[int, int, int]:
    """The smallest images that the space is for, from 8x8 pixels on."""
    least = max(8, getattr(space, "sides", (1, None))[0])
    return 1, least, least


def weights(space: SearchSpace, architecture: Any) -> int:
    return sum(p.numel() for p in space.build(architecture, shape_for(space), N_CLASSES).parameters())


def test_contract(space: SearchSpace) -> None:
    check_space(type(space), n_classes=N_CLASSES)  # a new one, which has counted no weights yet


def test_there_are_enough_students_and_not_too_many_dimensions(space: SearchSpace) -> None:
    case = SpaceCase(space, (shape_for(space),), N_CLASSES, nested=True)
    assert 6 <= len(case.dimensions) <= (18 if space.name.endswith("_photo") else 12)
    assert space.cardinality() >= 100_000
    assert len({draw.architecture for draw in case.draws}) > 30
    assert all("stages" in space.describe(draw.architecture) for draw in case.draws)


def test_the_ladder_climbs_evenly_from_tiny_to_small(space: SearchSpace) -> None:
    ladder = space.size_ladder(12)
    assert len(ladder) == 12
    sizes = [weights(space, a) for a in ladder]
    step = (math.log(sizes[-1]) - math.log(sizes[0])) / 11
    assert all(0 < math.log(above / below) < 2 * step for below, above in pairwise(sizes))
    smallest, largest = ((500, 2_000), (2e6, 4e6)) if space.name.endswith("_photo") else ((500, 1_000), (125e3, 400e3))
    assert smallest[0] <= sizes[0] <= smallest[1]
    assert largest[0] <= sizes[-1] <= largest[1]


def test_resolution_changes_and_the_classifier_is_last(space: SearchSpace) -> None:
    for architecture in space.size_ladder(4):
        network = space.build(architecture, shape_for(space), N_CLASSES)
        sides: list[tuple[int, ...]] = []

        def note(_: nn.Module, __: Any, output: Tensor, sides: list[tuple[int, ...]] = sides) -> None:
            sides.append(tuple(output.shape[2:]))

        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
        network.eval()(torch.randn(1, *shape_for(space)))
        assert len(set(sides)) >= 2
        assert all(min(side) >= 1 for side in sides)
        assert isinstance(list(network.modules())[-1], nn.Linear)


def test_only_images_are_taken(space: SearchSpace) -> None:
    for shape in ((64,), (1, 8), (3, 0, 8), (1, 2, 3, 4)):
        with pytest.raises(InputError, match=rf"space '{space.name}' needs images \(C, H, W\); the data has shape"):
            space.build(space.size_ladder(2)[0], shape, N_CLASSES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exports_as_convolutions_and_little_else(space: SearchSpace) -> None:
    for architecture in space.size_ladder(3):
        network = space.build(architecture, shape_for(space), N_CLASSES)
        for tensor in network.state_dict().values():  # all different, as trained ones are: equal ones would be shared
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1)
        kinds = Counter(node.op_type for node in exported(network, shape_for(space)).graph.node)
        convolutions = sum(isinstance(m, nn.Conv2d) for m in network.modules())
        assert kinds.pop("Conv") == convolutions
        assert kinds.pop("Gemm") == kinds.pop("Flatten") == 1
        assert kinds.pop("Resize", 0) == kinds.pop("Constant", 0) <= 1  # with its scales
        compact = {"Concat", "Neg", "AveragePool", "MaxPool"}
        assert set(kinds) <= {"Relu", "Add", "GlobalAveragePool", "HardSigmoid", "Mul"} | compact
        assert sum(kinds.values()) <= 2 + 1.5 * convolutions


def exported(network: nn.Module, shape: tuple[int, int, int]) -> onnx.ModelProto:
    """The network as ONNX."""
    file: Any = io.BytesIO()
    torch.onnx.export(network.eval(), (torch.randn(2, *shape),), file, dynamo=False, dynamic_axes={"x": {0: "b"}},
                      input_names=["x"])  # fmt: skip
    return onnx.load_from_string(file.getvalue())
