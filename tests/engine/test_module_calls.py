"""Stages of transformers are blocks at shares of their depth."""

import pytest
import torch
from torch import Tensor, nn

from nas_kd.engine.feature_extractor import FeatureExtractor, find_feature_points
from nas_kd.methods.depth import place_at_depth

X = torch.randn(2, 3, 16, 16)
WIDTH = 8


class Block(nn.Module):
    """Tokens (B, t, d) -> (B, t, d); `packed`: in a tuple, as libraries of transformers return them."""

    def __init__(self, *, packed: bool = False) -> None:
        super().__init__()
        self.norm1, self.mlp, self.norm2 = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.packed = packed

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        y = x + torch.relu(self.norm2(self.mlp(self.norm1(x))))
        return (y, None) if self.packed else y


class Transformer(nn.Module):
    """Patches of 4x4 pixels behind a class token, then `blocks`."""

    def __init__(self, blocks: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = embed or nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.blocks, self.norm, self.head = blocks, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        if isinstance(self.blocks, nn.ModuleList):
            for block in self.blocks:
                given = block(tokens)
                tokens = given[0] if isinstance(given, tuple) else given
        else:
            tokens = self.blocks(tokens)
        out: Tensor = self.head(self.norm(tokens)[:, 0])
        return out


def listed(n: int, *, packed: bool = False) -> nn.ModuleList:
    return nn.ModuleList(Block(packed=packed) for _ in range(n))


@pytest.mark.parametrize(
    ("n", "expected"), [(2, [0, 1]), (3, [0, 1, 2]), (4, [0, 2, 3]), (5, [1, 2, 4]), (6, [1, 3, 5]), (12, [3, 7, 11])]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_transformer_is_read_after_thirds_of_its_blocks(n: int, expected: list[int], packed: bool) -> None:
    net = Transformer(listed(n, packed=packed))
    points = find_feature_points(net, X)
    assert points.features == tuple(f"blocks.{i}" for i in expected)
    assert (points.stem, points.classifier) == (None, "head")
    with FeatureExtractor(net, points, frozenset({"features", "embedding"})) as extractor:
        shown = extractor(X)
    assert [tuple(f.shape) for f in shown.features] == [(2, 17, WIDTH)] * len(expected)
    assert torch.equal(net.head(shown.embedding), shown.logits)


def test_blocks_of_torch_are_found_in_their_container() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
    net = Transformer(nn.TransformerEncoder(layer, 6, enable_nested_tensor=False))
    assert find_feature_points(net, X).features == ("blocks.layers.1", "blocks.layers.3", "blocks.layers.5")


def test_maps_of_a_convolutional_part_with_stages_of_its_own_stay() -> None:
    embed = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, WIDTH, 3, 2, 1))
    assert find_feature_points(Transformer(listed(3), embed), X).features == (
        "embed.1", "embed.2", "blocks.0", "blocks.1", "blocks.2",
    )  # fmt: skip


class Pyramid(nn.Module):
    """Two stages of token blocks; the second has a quarter of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = listed(2), listed(2), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).unflatten(2, (32, WIDTH)).mean(1)
        for block in self.first:
            tokens = block(tokens)
        tokens = tokens[:, ::4]
        for block in self.second:
            tokens = block(tokens)
        out: Tensor = self.head(tokens.mean(1))
        return out


def test_tokens_that_become_fewer_are_told_by_their_number() -> None:
    assert find_feature_points(Pyramid(), X).features == ("first.1", "second.1")


class Signal(nn.Module):
    """Convolutions along a signal, whose maps (B, c, t) have the dimensions of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv1d(3, 3, 3, 1, 1), nn.ReLU()) for _ in range(4)))
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(x.flatten(2)).mean(2))
        return out


def test_signals_are_no_tokens() -> None:
    assert find_feature_points(Signal(), X).features == ("blocks.3.1",)


@pytest.mark.parametrize("batch", [3, 16])
def test_tokens_that_come_before_the_samples_are_turned(batch: int) -> None:
    """(t, B, d), as torch's own layers have by default, also where there are as many tokens as samples."""

    class Swapped(Transformer):
        def forward(self, x: Tensor) -> Tensor:
            tokens = self.embed(x).flatten(2).permute(2, 0, 1)
            for block in self.blocks:
                tokens = block(tokens)
            out: Tensor = self.head(tokens.mean(0))
            return out

    net, x = Swapped(listed(3)), torch.randn(batch, 3, 16, 16)
    points = find_feature_points(net, X)
    assert points.features == ("blocks.0", "blocks.1", "blocks.2")
    with FeatureExtractor(net, points, frozenset({"features"})) as extractor:
        last = extractor(x).features[-1]
    assert last.shape == (batch, 16, WIDTH)
    assert torch.allclose(net.head(last.mean(1)), net(x), atol=1e-6)


def test_masked_tokens_of_torch_are_read() -> None:
    """Its fast path would pack them into a nested tensor, which has no shape."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, WIDTH), nn.Linear(WIDTH, 5)
            layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=True)

        def forward(self, ids: Tensor) -> Tensor:
            out: Tensor = self.head(self.encoder(self.embed(ids), src_key_padding_mask=ids == 0)[:, 0])
            return out

    net, ids = Masked().eval(), torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]])
    points = find_feature_points(net, ids)
    assert points.features == tuple(f"encoder.layers.{i}" for i in range(3))
    with torch.no_grad(), FeatureExtractor(net, points, frozenset({"features"})) as extractor:
        assert [f.shape for f in extractor(ids).features] == [(2, 4, WIDTH)] * 3


def test_stages_are_told_by_resolution_where_maps_follow_on_tokens() -> None:
    class Sandwiched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.blocks = nn.Conv2d(3, WIDTH, 3, 2, 1), listed(3)
            self.last, self.head = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.Linear(WIDTH, 5)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.first(x)
            tokens = maps.flatten(2).transpose(1, 2)
            for block in self.blocks:
                tokens = block(tokens)
            out: Tensor = self.head(self.last(tokens.transpose(1, 2).view_as(maps)).mean((2, 3)))
            return out

    assert find_feature_points(Sandwiched(), X).features == ("first", "blocks.2", "last")


def test_blocks_that_return_tuples_can_be_named() -> None:
    assert find_feature_points(Transformer(listed(3, packed=True)), X, ["blocks.1"]).features == ("blocks.1",)


@pytest.mark.parametrize("deep", range(1, 30))
def test_steps_at_a_share_of_the_depth_differ_and_end_with_the_last(deep: int) -> None:
    for n in range(1, deep + 1):
        places = [place_at_depth(i, n, deep) for i in range(n)]
        assert places == sorted(set(places))
        assert (places[-1], places[0] >= 0) == (deep - 1, True)
        assert all(2 * abs((p + 1) * n - (i + 1) * deep) <= n for i, p in enumerate(places))
