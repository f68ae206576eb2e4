"""Which anchor learns which box: task-aligned assignment (Feng et al. 2021, TOOD, arXiv:2108.07755), section 3.2.

How well an anchor fits a box is t = s^alpha u^beta (eq. 5), with s its score for the box's class and u the overlap of
the box that it predicts. The anchors inside of a box with the largest t learn it.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.tasks.boxes.geometry import iou

ALPHA, BETA, TOP = 1.0, 6.0, 13  # of the paper, section 4.1
LEARNED = 0.3  # score that the best anchor of a box is to have at least: boxes that fit badly at first are learned, too
LEAST = 1e-4  # overlap that every pair has at least, so that boxes that nothing overlaps are learned, too
NONE = -1  # class of rows that are no boxes


class Assignment(NamedTuple):
    """What B pictures' anchors are to learn.

    Attributes:
        quality: (B, A, C) what each score is to be: of the class of the anchor's box how well both fit, else 0.
        boxes: (B, A, 4) the box of each anchor, x1, y1, x2, y2 in pixels.
        weight: (B, A) how much the box of each anchor counts, 0 where it has none.
    """

    quality: Tensor
    boxes: Tensor
    weight: Tensor


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, points: Tensor, truth: Tensor) -> Assignment:
    """Find what each anchor is to learn.

    A box without an anchor point inside is learned by the nearest one. An anchor that would learn several boxes learns
    the one that it overlaps most. Of each box the best anchor is to have the largest overlap as its score (eq. 6), and
    `LEARNED` at least: else schedules of some hundred steps leave small and rare boxes out.

    Args:
        scores: (B, A, C) probabilities of the classes.
        boxes: (B, A, 4) what the anchors predict, x1, y1, x2, y2 in pixels.
        points: (A, 3) column, row and stride of the anchors, in pixels.
        truth: (B, M, 5) class, x1, y1, x2, y2; rows of class -1 are no boxes.
    """
    n_classes, there = scores.shape[2], truth[..., 0] != NONE  # (B, M)
    if not truth.shape[1]:
        nothing = torch.zeros_like(scores[..., 0])
        return Assignment(torch.zeros_like(scores), torch.zeros_like(boxes), nothing)
    classes = truth[..., 0].clamp(min=0).long()
    of_class = scores.transpose(1, 2).gather(1, classes[..., None].expand(-1, -1, scores.shape[1]))  # (B, M, A)
    overlap = iou(truth[:, :, None, 1:], boxes[:, None]).clamp(min=LEAST)
    possible = _candidates(points, truth[..., 1:]) & there[..., None]
    fit = of_class**ALPHA * overlap**BETA * possible
    chosen = _best(fit) & possible
    owner = torch.where(chosen, overlap, 0).max(dim=1)  # of each anchor: the largest overlap, and with which box
    chosen &= owner.indices[:, None] == torch.arange(chosen.shape[1], device=chosen.device)[:, None]
    fit, overlap = (torch.where(chosen, values, 0) for values in (fit, overlap))
    best_fit, best_overlap = (values.amax(dim=2, keepdim=True) for values in (fit, overlap))
    share = torch.where(chosen, fit / torch.where(best_fit > 0, best_fit, 1) * best_overlap.clamp(min=LEARNED), 0).amax(
        dim=1
    )  # (B, A)
    own = owner.indices
    learned = F.one_hot(classes.gather(1, own), n_classes).to(scores) * share[..., None]
    return Assignment(learned, truth[..., 1:].gather(1, own[..., None].expand(-1, -1, 4)), share)


def _candidates(points: Tensor, truth: Tensor) -> Tensor:
    """Which anchor points (A, 3) lie inside of which boxes (B, M, 4), or are nearest to one without any: (B, M, A)."""
    column, row = points[:, 0], points[:, 1]
    x1, y1, x2, y2 = (truth[..., i, None] for i in range(4))
    inside = (column > x1) & (column < x2) & (row > y1) & (row < y2)
    distance = (column - (x1 + x2) / 2) ** 2 + (row - (y1 + y2) / 2) ** 2
    nearest = torch.arange(len(points), device=points.device) == distance.argmin(dim=2, keepdim=True)
    return torch.where(inside.any(dim=2, keepdim=True), inside, nearest)


def _best(fit: Tensor) -> Tensor:
    """The `TOP` largest of each box: (B, M, A)."""
    top = fit.topk(min(TOP, fit.shape[2]), dim=2).indices
    return torch.zeros_like(fit, dtype=torch.bool).scatter_(2, top, value=True)
