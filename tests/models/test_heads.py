"""Spaces of backbones behind heads: the contract of spaces, what they refuse, and which features methods see."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from nas_kd.engine.feature_extractor import FeatureExtractor, find_feature_points
from nas_kd.errors import InputError
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.models.heads.base import load_head
from nas_kd.models.heads.headed_space import HeadedSpace, with_head
from nas_kd.models.search_space import load_space
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import available
from nas_kd.results.candidate import Architecture
from nas_kd.tasks.base import load_task
from nas_kd.testing import check_space

OF_MASKS = load_task("segmentation").heads


@pytest.mark.parametrize("name", [f"resnet+{head}" for head in OF_MASKS] + ["mobilenet_photo+pyramid"])
def test_spaces_with_heads_keep_the_contract(name: str) -> None:
    side = max(32, load_space(name).sides[0])  # type: ignore[attr-defined]
    check_space(load_space(name), input_shapes=((3, side, side), (1, side, side + 6)), task="segmentation")


def test_every_head_is_listed() -> None:
    assert set(OF_MASKS) <= set(available("head"))
    assert all(head.summary for head in available("head").values())


def test_a_task_s_usual_head_stands_behind_a_plain_space() -> None:
    segmentation, classification = load_task("segmentation"), load_task("classification")
    plain = load_space("resnet")
    assert with_head(plain, classification) is plain
    assert with_head(plain, segmentation).name == "resnet+lraspp"
    chosen = load_space("resnet+pyramid")
    assert with_head(chosen, segmentation) is chosen
    with pytest.raises(InputError, match=r"ends in head 'pyramid'; classification needs none"):
        with_head(chosen, classification)
    with pytest.raises(InputError, match="unknown head 'pyramids'; did you mean 'pyramid'"):
        load_space("resnet+pyramids")


class Flat(GridSpace):
    """Networks without maps."""

    name, summary = "flat", "one linear layer"

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes))

    def describe(self, architecture: Architecture) -> str:
        return "flat"


def test_networks_without_maps_get_no_head() -> None:
    flat = Flat([Dimension("width", 1, 2)])
    assert with_head(flat, load_task("segmentation")) is flat
    with pytest.raises(InputError, match="space 'flat': its networks have no stages of maps"):
        HeadedSpace(flat, load_head("pyramid"))


def test_elsewhere_and_sizes_are_the_backbones() -> None:
    space = load_space("resnet+pyramid")
    assert isinstance(space, HeadedSpace)
    assert space.elsewhere == "resnet_photo+pyramid"
    with pytest.raises(InputError, match=r"use 'resnet_photo\+pyramid' in its place"):
        space.check_size((3, 128, 128))


def test_a_choice_without_effect_in_the_backbone_is_canonical() -> None:
    space = load_space("resnet+lraspp")
    assert isinstance(space, HeadedSpace)
    choices = {d.name: d.high for d in space.dimensions} | {"depth_1": 0}
    assert space.canonical(choices).choices["kernel_1"] == 1
    assert space.canonical(choices).choices["head_width"] == 64


def test_methods_read_stages_and_the_head_s_last_map() -> None:
    """Also where a stage has no layers, and inside of the normalisation."""
    space = load_space("resnet+pyramid")
    assert isinstance(space, HeadedSpace)
    choices = {d.name: d.low for d in space.dimensions} | {"depth_1": 0, "stem_stride": 1, "head_width": 24}
    network = space.build(space.canonical(choices), (3, 32, 32), 4)
    model = Normalized(network, torch.zeros(3), torch.ones(3)).eval()
    points = find_feature_points(model, torch.zeros(2, 3, 32, 32))
    assert points.features == (*(f"body.backbone.stages.{i}" for i in range(3)), "body.head.blocks")
    with FeatureExtractor(model, points, frozenset({"features"})) as extractor:
        outputs = extractor(torch.randn(2, 3, 32, 32))
    assert [tuple(f.shape[1:]) for f in outputs.features] == [(4, 32, 32), (4, 16, 16), (8, 8, 8), (24, 32, 32)]
    assert outputs.logits.shape == (2, 4, 32, 32)
