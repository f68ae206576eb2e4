"""Low rank: large layers as products of two smaller ones, by singular values of their trained weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from nas_kd.models.low_rank_factors import low_rank_factors

SMALLEST = 32  # outputs and inputs of a layer, from which it is worth two calls


def low_rank(network: nn.Module, share: float) -> nn.Module:
    """Replace large linear layers and convolutions by two each, of as high a rank as a share of their weights allows.

    A convolution of k x k becomes one of k x k to `rank` channels and one of 1 x 1 behind it. Denton et al. 2014
    (arXiv:1404.0736), Jaderberg et al. 2014 (arXiv:1405.3866).

    Args:
        network: any; not changed. Layers whose weights are read by other modules, such as those of attention modules of
            torch, stay.
        share: of a layer's weights that its two parts have together, above 0 and below 1.

    Returns:
        A copy in evaluation mode; equal to the network where no layer is large enough.
    """
    model = deepcopy(network).eval()
    for parent in list(model.modules()):
        if isinstance(parent, nn.MultiheadAttention):
            continue
        for name, child in list(parent.named_children()):
            if (pair := _pair(child, share)) is not None:
                setattr(parent, name, pair)
    return model


def _pair(layer: nn.Module, share: float) -> nn.Sequential | None:
    """The two layers in the place of one; None: it stays."""
    if type(layer) is nn.Linear:
        matrix = layer.weight
    elif type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros":
        matrix = layer.weight.flatten(1)
    else:
        return None
    outputs, inputs = matrix.shape
    rank = int(share * outputs * inputs / (outputs + inputs))
    if min(outputs, inputs) < SMALLEST or rank < 1:
        return None
    return _product(layer, matrix, rank).eval()


def factorised(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Make two thin linear layers of one: inputs -> rank -> outputs, the closest of that rank.

    Args:
        layer: not changed.
        rank: up to the narrower of its sides, at which the two give what the one gives.
    """
    return _product(layer, layer.weight, rank).train(layer.training)


def _product(layer: nn.Linear | nn.Conv2d, matrix: Tensor, rank: int) -> nn.Sequential:
    left, right = low_rank_factors(matrix.detach(), rank)
    with torch.device(matrix.device):
        first, second = _layers(layer, rank)
    with torch.no_grad():
        first.weight.copy_(right.reshape(first.weight.shape))
        second.weight.copy_(left.reshape(second.weight.shape))
        if second.bias is not None:
            second.bias.copy_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(first, second)


def _layers(layer: nn.Linear | nn.Conv2d, rank: int) -> tuple[nn.Linear | nn.Conv2d, nn.Linear | nn.Conv2d]:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias)
    first = nn.Conv2d(
        layer.in_channels,
        rank,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=False,
    )
    return first, nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
