"""Large layers as products of two: the closest ones of their rank, with fewer weights."""

import pytest
import torch
from torch import nn

from nas_kd.models.derived.low_rank import low_rank


@pytest.mark.parametrize(
    "layer", [nn.Linear(96, 64), nn.Linear(64, 128, bias=False), nn.Conv2d(16, 64, 3, 2, 1), nn.Conv2d(64, 64, 1)]
)
def test_a_layer_of_low_rank_stays_exact(layer: nn.Linear | nn.Conv2d) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        rows = layer.weight.flatten(1)
        rows.copy_(torch.randn(len(rows), 5) @ torch.randn(5, rows.shape[1]))
    network = nn.Sequential(layer)
    smaller = low_rank(network, 0.5)
    x = torch.randn(3, *((layer.in_features,) if isinstance(layer, nn.Linear) else (layer.in_channels, 8, 8)))
    torch.testing.assert_close(smaller(x), network(x), rtol=1e-3, atol=1e-3)
    assert sum(p.numel() for p in smaller.parameters()) < 0.55 * sum(p.numel() for p in network.parameters()) + 128


def test_what_is_lost_are_the_smallest_singular_values() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(80, 64, bias=False)
    smaller = low_rank(nn.Sequential(layer), 0.25)[0]  # type: ignore[index]
    rank = smaller[0].out_features
    assert rank == 8
    lost = layer.weight - smaller[1].weight @ smaller[0].weight
    values = torch.linalg.svdvals(layer.weight)
    torch.testing.assert_close(lost.square().sum(), values[rank:].square().sum(), rtol=1e-4, atol=1e-4)


def test_small_and_foreign_layers_stay() -> None:
    network = nn.Sequential(nn.Linear(16, 128), nn.MultiheadAttention(64, 4), nn.Conv2d(64, 64, 3, groups=64))
    smaller = low_rank(network, 0.5)
    assert [type(m) for m in smaller] == [type(m) for m in network]  # type: ignore[attr-defined]
    assert smaller is not network
