"""Aligns feature maps of two networks that differ in depth, width and resolution."""

from collections.abc import Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError

TOKEN_DIMS = 3


def paired_stages(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pair the stages of two networks, counted from the last (which have the largest receptive fields).

    Args:
        student: one feature tensor per stage, first to last.
        teacher: the same of the teacher.

    Returns:
        (student's, teacher's) feature tensor of as many stages as the shallower network has, first to last.

    Raises:
        InputError: one of the networks has no feature map.
    """
    for network, features in (("student", student), ("teacher", teacher)):
        if not features:
            raise InputError(
                f"this method compares feature maps, and the {network} has none; take one that needs logits"
            )
    n = min(len(student), len(teacher))
    return list(zip(student[-n:], teacher[-n:], strict=True))


def as_feature_map(features: Tensor) -> Tensor:
    """View features as a map: (B, c, h, w) stays, tokens (B, t, d) become (B, d, t, 1)."""
    return features.transpose(1, 2).unsqueeze(-1) if features.dim() == TOKEN_DIMS else features


def flatten_positions(features: Tensor) -> Tensor:
    """Flatten a map (B, c, h, w) to (B, h w, c); free of copies in channels-last memory, as in training."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def sum_of_squares(x: Tensor, dim: int) -> Tensor:
    """Sum of squares along `dim`; forward and backward take a third of the time of `x.square().sum(dim)`."""
    half: Tensor = torch.linalg.vecdot(x.detach(), x, dim=dim)  # its gradient is x, half of the square's
    return 2 * half - half.detach()


def n_channels(features: Tensor) -> int:
    """Number of channels of a map (B, c, h, w), or width of tokens (B, t, d)."""
    return as_feature_map(features).shape[1]


def channel_adapter(student: Tensor, teacher: Tensor) -> nn.Module:
    """Module that maps the student's channels to the teacher's: a 1x1 convolution, or nothing if they agree."""
    c_s, c_t = n_channels(student), n_channels(teacher)
    return nn.Identity() if c_s == c_t else nn.Conv2d(c_s, c_t, 1, bias=False)


def hint_regressor(student: Tensor, hint: Tensor) -> nn.Module:
    """Regressor of FitNets: a 1x1 convolution with batch normalisation, and a ReLU where the hint stands behind one.

    Args:
        student: (B, c, h, w) or tokens (B, t, c), the features that the regressor reads.
        hint: the teacher's features for an example; those without negative values stand behind a ReLU.
    """
    width = n_channels(hint)
    layers: list[nn.Module] = [nn.Conv2d(n_channels(student), width, 1, bias=False), nn.BatchNorm2d(width)]
    if bool((hint >= 0).all()):
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def linear_adapter(student: Tensor, teacher: Tensor) -> nn.Module:
    """The same map as `channel_adapter`, applied to the last dimension: for products of channels."""
    c_s, c_t = n_channels(student), n_channels(teacher)
    return nn.Identity() if c_s == c_t else nn.Linear(c_s, c_t, bias=False)


def pool_to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool two maps to the smaller height and width of the two.

    Args:
        a: (B, c, h, w), or tokens (B, t, c).
        b: (B, d, k, l), or tokens (B, t, d); tokens beside a map are taken as a square grid of patches.

    Returns:
        (B, c, min(h, k), min(w, l)) and (B, d, min(h, k), min(w, l)).
    """
    if a.dim() != b.dim():
        a, b = _tokens_to_grid(a), _tokens_to_grid(b)
    a, b = as_feature_map(a), as_feature_map(b)
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return _pool(a, size), _pool(b, size)


def _tokens_to_grid(features: Tensor) -> Tensor:
    """Patches in row order, (B, n n, d) -> (B, d, n, n); a class token in front of them is dropped."""
    if features.dim() != TOKEN_DIMS:
        return features
    side = isqrt(features.shape[1])
    extra = features.shape[1] - side**2
    return features[:, extra:].transpose(1, 2).reshape(len(features), -1, side, side) if extra <= 1 else features


def _pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    down, across = x.shape[2] / size[0], x.shape[3] / size[1]
    if down.is_integer() and across.is_integer():  # equals the general case below in a third of its time
        return _pool_evenly(_pool_evenly(x.permute(0, 2, 3, 1), 1, int(down)), 2, int(across)).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(x, size)


def _pool_evenly(x: Tensor, dim: int, factor: int) -> Tensor:
    """Means over groups of `factor` neighbours along `dim`."""
    if factor == 1:
        return x
    first, *others = x.unflatten(dim, (x.shape[dim] // factor, factor)).unbind(dim + 1)  # type: ignore[no-untyped-call]
    total: Tensor = sum(others, first)
    return total / factor
