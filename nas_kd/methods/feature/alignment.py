"""Aligns features of two networks that differ in depth, width and resolution, or in kind: maps and tokens.

Beside a map (B, c, h, w), the tokens of a transformer (B, t, d) are patches in row order: where t patches make a grid
of the map's shape they are a map (B, d, n, m), n / m = h / w, behind a class token (t - 1 patches) and a distillation
token (t - 2), which are dropped, as in One-for-All (Hao et al. 2023, arXiv:2310.19444). Other tokens have no place in
an image and are averaged: (B, d, 1, 1). Beside other tokens, a grid is taken to be square.
Stages of networks of different kinds are paired by their share of the depth, as counting them from the last would pair
the first map of one with the middle of the other.
"""

from collections.abc import Sequence
from math import gcd, isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.depth import place_at_depth

TOKEN_DIMS = 3
MAX_EXTRA_TOKENS = 2  # in front of the patches: of the class, and of distillation
MIN_PATCHES = 4  # of a grid
SQUARE = (1, 1)


def paired_stages(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pair the stages of two networks, counted from the last (which have the largest receptive fields).

    If one of them ends with maps and the other with tokens, each stage of the network that has fewer is paired with the
    one of the other that is nearest in its share of the depth.

    Args:
        student: one feature tensor per stage, first to last.
        teacher: the same of the teacher.

    Returns:
        (student's, teacher's) feature tensor of as many stages as the shallower network has, first to last.

    Raises:
        InputError: one of the networks has no feature map.
    """
    return [(student[i], teacher[k]) for i, k in stage_pairs(student, teacher)]


def stage_pairs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Number the stages that `paired_stages` pairs: (student's, teacher's), from 0, first to last.

    Raises:
        InputError: one of the networks has no feature map.
    """
    for network, features in (("student", student), ("teacher", teacher)):
        if not features:
            raise InputError(
                f"this method compares feature maps, and the {network} has none; take one that needs logits"
            )
    n, lengths = min(len(student), len(teacher)), (len(student), len(teacher))
    by_depth = student[-1].dim() != teacher[-1].dim()
    mine, theirs = ([place_at_depth(i, n, of) if by_depth else of - n + i for i in range(n)] for of in lengths)
    return list(zip(mine, theirs, strict=True))


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
        b: (B, d, k, l), or tokens (B, t, d); beside a map, tokens are a map of patches or one position. So are the
            tokens of two transformers which both have a class token, if they differ in number.

    Returns:
        (B, c, min(h, k), min(w, l)) and (B, d, min(h, k), min(w, l)).
    """
    grids = [_grid(tokens, SQUARE) if tokens.dim() == TOKEN_DIMS else None for tokens in (a, b)]
    class_tokens = a.dim() == b.dim() == TOKEN_DIMS and all(grid is not None and grid.extra for grid in grids)
    if a.dim() != b.dim() or (class_tokens and a.shape[1] != b.shape[1]):
        a, b = _tokens_as_map(a, _shape_of(b)), _tokens_as_map(b, _shape_of(a))
    a, b = as_feature_map(a), as_feature_map(b)
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return _pool(a, size), _pool(b, size)


def require_positions(name: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Refuse tokens that are no grid of patches beside maps: for methods that compare the positions of a map.

    Args:
        name: of the method.
        pairs: of the student's and the teacher's features.

    Raises:
        InputError: the tokens of one network have no place in the other's maps.
    """
    for student, teacher in pairs:
        if student.dim() == teacher.dim():
            continue
        first = student.dim() == TOKEN_DIMS
        whose, tokens, maps = ("student", student, teacher) if first else ("teacher", teacher, student)
        if _grid(tokens, _shape_of(maps)) is None:
            h, w = _shape_of(maps)
            raise InputError(
                f"method {name!r} compares positions of feature maps, and the {whose}'s {tokens.shape[1]} tokens are "
                f"no grid of patches of the shape of the other network's maps, {h}x{w}; use one that compares whole "
                "samples, such as similarity, rkd or crd"
            )


class _Grid(NamedTuple):
    """Patches in row order: how many tokens stand in front of them, and their rows and columns."""

    extra: int
    rows: int
    columns: int


def _shape_of(features: Tensor) -> tuple[int, int]:
    """Height and width of a map (B, c, h, w); of tokens, whose grid is taken to be square."""
    return SQUARE if features.dim() == TOKEN_DIMS else (features.shape[2], features.shape[3])


def _grid(tokens: Tensor, shape: tuple[int, int]) -> _Grid | None:
    """The grid of tokens (B, t, d) that has the proportions of a map of this height and width; None: there is none."""
    divisor = gcd(*shape)
    h, w = shape[0] // divisor, shape[1] // divisor
    for extra in range(MAX_EXTRA_TOKENS + 1):
        patches = tokens.shape[1] - extra
        side = isqrt(max(0, patches // (h * w)))
        if patches >= MIN_PATCHES and side * side * h * w == patches:
            return _Grid(extra, side * h, side * w)
    return None


def _tokens_as_map(features: Tensor, shape: tuple[int, int]) -> Tensor:
    """Patches in row order as a map (B, d, n, m); the mean (B, d, 1, 1) of other tokens; maps as they are.

    Args:
        features: (B, t, d) or a map.
        shape: height and width of the map beside them.
    """
    if features.dim() != TOKEN_DIMS:
        return features
    grid = _grid(features, shape)
    if grid is None:
        return features.mean(dim=1)[:, :, None, None]
    return features[:, grid.extra :].transpose(1, 2).reshape(len(features), -1, grid.rows, grid.columns)


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
