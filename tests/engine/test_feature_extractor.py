"""Features are found at changes of resolution, in networks of any make."""

import pytest
import torch
from torch import nn

from nas_kd.engine.feature_extractor import FeatureExtractor, find_feature_points
from nas_kd.errors import InputError

from .conftest import net

X = torch.randn(2, 1, 8, 8)


class Inverted(nn.Module):
    """Expands at the input's resolution: its inner maps are not a stage's end."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c_in, 4 * c_in, 1), nn.Conv2d(4 * c_in, c_out, 3, stride, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out


def sequential() -> nn.Sequential:
    features = nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), Inverted(4, 4, 1), Inverted(4, 6, 2), Inverted(6, 6, 1), Inverted(6, 8, 2)
    )
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def test_features_are_read_at_the_last_block_of_each_resolution() -> None:
    points = find_feature_points(sequential(), X)
    assert points.features == ("0.1", "0.3", "0.4")
    assert points.classifier == "3"


def test_a_list_of_stages() -> None:
    points = find_feature_points(net(4), X)
    assert points.features == ("stages.0", "stages.1")
    assert points.classifier == "head"


def test_features_are_read_from_tokens_too() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix, self.head = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.mix(self.embed(x.squeeze(1))).mean(dim=1))
            return out

    points = find_feature_points(Tokens(), X)
    assert points.features == ("mix",)
    assert points.classifier == "head"


class Mixer(nn.Module):
    """Attention by hand: inside there are maps (B, heads, t, t) and tokens by channels (B, d, t)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.drop, self.across, self.along = nn.Dropout(0.1), nn.Linear(8, 8), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.drop((x @ x.transpose(1, 2)).softmax(dim=2).unsqueeze(1))
        x = x + (weights[:, 0] @ x) + self.across(x.transpose(1, 2)).transpose(1, 2)
        return x + torch.relu(self.along(x))


def test_what_keeps_the_resolution_is_one_block_whatever_it_does_inside() -> None:
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(8, 6), nn.Linear(6, 3)
            self.blocks = nn.ModuleList([Mixer(6), Mixer(6)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embed(x.squeeze(1))
            for block in self.blocks:
                x = block(x)
            out: torch.Tensor = self.head(x.mean(dim=1))
            return out

    assert find_feature_points(Transformer(), X).features == ("blocks.0", "blocks.1")


def test_outputs_are_what_the_modules_gave_and_hooks_come_off() -> None:
    model = net(4).eval()
    extractor = FeatureExtractor(model, find_feature_points(model, X), frozenset({"features", "embedding"}))
    shown = extractor(X)
    extractor.close()
    assert [tuple(f.shape) for f in shown.features] == [(2, 4, 8, 8), (2, 8, 4, 4)]
    assert torch.equal(shown.embedding, shown.features[-1].mean(dim=(2, 3)))
    assert torch.equal(model.head(shown.embedding), shown.logits)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_only_what_the_method_needs_is_kept() -> None:
    model = net(4).eval()
    extractor = FeatureExtractor(model, find_feature_points(model, X), frozenset({"logits"}))
    shown = extractor(X)
    assert (shown.features, shown.embedding.numel()) == ((), 0)


def test_paths_of_the_config_are_checked() -> None:
    assert find_feature_points(net(4), X, ("stem",)).features == ("stem",)
    with pytest.raises(InputError, match=r"teacher.features: 'stage' gives no feature map; modules that do: stages.0"):
        find_feature_points(net(4), X, ("stage",))


def test_finding_feature_points_leaves_the_model_as_it_was() -> None:
    model = net(4).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    find_feature_points(model, X)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class Blocks(nn.Module):
    """A stem that is made of single layers, and two blocks of two convolutions."""

    def __init__(self, stride: int, *, normalised: bool = False) -> None:
        super().__init__()
        self.scale = nn.BatchNorm2d(1, affine=False) if normalised else nn.Identity()
        self.conv, self.norm, self.act = nn.Conv2d(1, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.layers = nn.Sequential(Inverted(4, 4, stride), Inverted(4, 6, 2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers(self.act(self.norm(self.conv(self.scale(x)))))
        out: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return out


@pytest.mark.parametrize("normalised", [False, True])
def test_the_stem_is_the_last_of_the_single_layers_in_front_of_the_first_stage(normalised: bool) -> None:
    points = find_feature_points(Blocks(1, normalised=normalised), X)
    assert (points.features, points.stem) == (("layers.0", "layers.1"), "act")


def test_a_layer_that_is_called_again_later_is_no_stem() -> None:
    """Its hook would keep what it returns last."""

    class Shared(Blocks):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layers(self.act(self.norm(self.conv(x))))
            out: torch.Tensor = self.head(self.act(x).mean(dim=(2, 3)))
            return out

    assert find_feature_points(Shared(1), X).stem == "norm"


def test_a_block_in_front_of_the_first_stage_is_its_stem() -> None:
    assert find_feature_points(net(4), X).stem == "stem"


def test_a_stem_of_a_resolution_of_its_own_is_a_stage() -> None:
    points = find_feature_points(Blocks(2), X)
    assert (points.features, points.stem) == (("act", "layers.0", "layers.1"), None)


def test_stages_that_are_named_have_a_stem_at_the_networks_first_resolution_alone() -> None:
    assert find_feature_points(Blocks(1), X, ["layers.0", "layers.1"]).stem == "act"
    assert find_feature_points(Blocks(1), X, ["layers.1"]).stem is None
    assert find_feature_points(Blocks(1), X, ["act"]).stem is None


@pytest.mark.parametrize("stride", [1, 2])
def test_the_stem_is_read_where_it_is_needed_and_there(stride: int) -> None:
    network = Blocks(stride).eval()
    points = find_feature_points(network, X)
    with FeatureExtractor(network, points, frozenset({"features", "stem"})) as extractor:
        shown = extractor(X).stem
    expected = network.act(network.norm(network.conv(X)))
    assert shown is None if stride == 2 else shown is not None and torch.equal(shown, expected)
    with FeatureExtractor(network, points, frozenset({"features"})) as extractor:
        assert extractor(X).stem is None
