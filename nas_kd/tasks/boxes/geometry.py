"""Boxes in torch: decoding with gradients, intersection over union, and its generalisation."""

import torch
from torch import Tensor

from nas_kd.results.boxes import REACH

TINY = 1e-9  # pixels squared: keeps quotients finite


def boxes_of(edges: Tensor, points: Tensor) -> Tensor:
    """Make boxes of the logits of their edges, with gradients; they may end outside of the picture.

    Args:
        edges: (..., A, 4) left, upper, right and lower edge; see `nas_kd.results.boxes`.
        points: (A, 3) column and row in pixels, and stride.

    Returns:
        (..., A, 4) x1, y1, x2, y2 in pixels.
    """
    distances = edges.sigmoid() * (REACH * points[:, 2:])
    return torch.cat([points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]], dim=-1)


def areas(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4) in squared pixels; 0 of those that are upside down."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), which are broadcast: (...) in 0..1."""
    return _shared_and_union(a, b)[0]


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised intersection over union (Rezatofighi et al. 2019, arXiv:1902.09630), algorithm 1.

    GIoU = IoU - (|C| - |A or B|) / |C|, where C is the smallest box around both.

    Args:
        a: (..., 4) x1, y1, x2, y2.
        b: the same, broadcast.

    Returns:
        (...) in -1..1: 1 of equal boxes, below 0 of boxes that are far from each other.
    """
    found, union = _shared_and_union(a, b)
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    around = (high - low).clamp(min=0).prod(dim=-1)
    return found - (around - union) / around.clamp(min=TINY)


def _shared_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the union's area."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    union = areas(a) + areas(b) - shared
    return shared / union.clamp(min=TINY), union
