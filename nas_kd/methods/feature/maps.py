"""Lining up feature maps of two networks that differ in depth, width and resolution."""

from collections.abc import Sequence
from itertools import count
from math import ceil, isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError

TOKEN_DIMS = 3


def same_depth(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of stages, counted from the last (which see the most), as many as the shallower network has.

    Raises:
        InputError: one of the networks shows no feature map.
    """
    for who, features in (("student", student), ("teacher", teacher)):
        if not features:
            raise InputError(f"this method compares feature maps, and the {who} has none; take one that needs logits")
    n = min(len(student), len(teacher))
    return list(zip(student[-n:], teacher[-n:], strict=True))


def as_map(features: Tensor) -> Tensor:
    """(B, c, h, w) as it is; tokens (B, t, d) as (B, d, t, 1)."""
    return features.transpose(1, 2).unsqueeze(-1) if features.dim() == TOKEN_DIMS else features


def positions(features: Tensor) -> Tensor:
    """(B, c, h, w) -> (B, h w, c): where channels come last in memory (as in training) this moves nothing."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def square_sums(x: Tensor, dim: int) -> Tensor:
    """Sums of squares along `dim`, in a third of the time of `x.square().sum(dim)` (of both directions together)."""
    half: Tensor = torch.linalg.vecdot(x.detach(), x, dim=dim)  # sends back x, half of what the square does
    return 2 * half - half.detach()


def channels(features: Tensor) -> int:
    """How many channels a map has, or how long its tokens are."""
    return as_map(features).shape[1]


def adapter(student: Tensor, teacher: Tensor) -> nn.Module:
    """From the student's channels to the teacher's: a 1x1 convolution, or nothing where they are as many."""
    c_s, c_t = channels(student), channels(teacher)
    return nn.Identity() if c_s == c_t else nn.Conv2d(c_s, c_t, 1, bias=False)


def linear_adapter(student: Tensor, teacher: Tensor) -> nn.Module:
    """The same, for methods that apply it to products of channels."""
    c_s, c_t = channels(student), channels(teacher)
    return nn.Identity() if c_s == c_t else nn.Linear(c_s, c_t, bias=False)


def pool_to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller height and width of the two, by average pooling: (B, c, h, w), (B, d, h, w)."""
    if a.dim() != b.dim():
        a, b = _on_grid(a), _on_grid(b)
    a, b = as_map(a), as_map(b)
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return _pool(a, size), _pool(b, size)


def at_most(x: Tensor, n: int) -> Tensor:
    """(B, c, h, w) -> the same, pooled by a whole factor where it has more than `n` positions."""
    h, w = x.shape[2:]
    factor = next(f for f in count(1) if ceil(h / f) * ceil(w / f) <= n)
    return _pool(x, (ceil(h / factor), ceil(w / factor)))


def _on_grid(features: Tensor) -> Tensor:
    """Tokens beside a map are patches, row by row: (B, n n, d) -> (B, d, n, n), without a class token before them."""
    if features.dim() != TOKEN_DIMS:
        return features
    side = isqrt(features.shape[1])
    extra = features.shape[1] - side**2
    return features[:, extra:].transpose(1, 2).reshape(len(features), -1, side, side) if extra <= 1 else features


def _pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    down, across = x.shape[2] / size[0], x.shape[3] / size[1]
    if down.is_integer() and across.is_integer():  # the same as below, in a third of the time
        return _pool_evenly(_pool_evenly(x.permute(0, 2, 3, 1), 1, int(down)), 2, int(across)).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(x, size)


def _pool_evenly(x: Tensor, dim: int, factor: int) -> Tensor:
    """Means of every `factor` neighbours along `dim`."""
    if factor == 1:
        return x
    first, *others = x.unflatten(dim, (x.shape[dim] // factor, factor)).unbind(dim + 1)  # type: ignore[no-untyped-call]
    total: Tensor = sum(others, first)
    return total / factor
