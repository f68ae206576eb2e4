"""Lining up feature maps of two networks that differ in depth, width and resolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def same_depth(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of stages, counted from the last (which see the most), as many as the shallower network has."""
    n = min(len(student), len(teacher))
    return list(zip(student[-n:], teacher[-n:], strict=True))


def as_map(features: Tensor) -> Tensor:
    """(B, c, h, w) as it is; tokens (B, t, d) as (B, d, t, 1)."""
    tokens = 3
    return features.transpose(1, 2).unsqueeze(-1) if features.dim() == tokens else features


def pool_to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller height and width of the two, by average pooling: (B, c, h, w), (B, d, h, w)."""
    a, b = as_map(a), as_map(b)
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return _pool(a, size), _pool(b, size)


def _pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)
