"""From what a detection network returns to boxes: decoding and non-maximum suppression, in NumPy alone.

This file needs NumPy alone: programs beside exported networks have a copy of what is below the line.

A network decides at anchor points, the centres of the cells of several grids over the picture (Tian et al. 2019, FCOS,
arXiv:1904.01355). At each it returns a logit for each class, and one for each edge of a box. Their sigmoids are the
probability of the class, and the distance from the point to the left, upper, right and lower edge, as a share of what
an anchor reaches: `REACH` cells of its grid.
"""

from typing import Any

import numpy as np

# --- below this line ---

FLOOR, OVERLAP, MOST, CANDIDATES = 0.02, 0.6, 100, 400
REACH = 8.0  # cells
SIDES = 4  # numbers of a box: left, upper, right and lower edge


def anchor_points(height: int, width: int, strides: list[int] | tuple[int, ...]) -> np.ndarray:
    """Place the anchor points of a picture.

    Args:
        height: of the picture, in pixels.
        width: of the picture.
        strides: side of the cells of each grid, in pixels; cells at the edges may stick out.

    Returns:
        (A, 3) float32: column and row in pixels, and stride; grid by grid, row by row.
    """
    grids = []
    for stride in strides:
        rows, columns = (np.arange(-(-side // stride)) for side in (height, width))
        row, column = np.meshgrid((rows + 0.5) * stride, (columns + 0.5) * stride, indexing="ij")
        grids.append(np.stack([column.ravel(), row.ravel(), np.full(row.size, stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Sigmoids of logits of any shape, without overflow."""
    power = np.exp(-np.abs(logits))
    found: np.ndarray = np.where(logits >= 0, 1, power) / (1 + power)
    return found


def decode(edges: np.ndarray, points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Make boxes of the logits of their edges.

    Args:
        edges: (..., A, 4) left, upper, right and lower edge.
        points: (A, 3), see `anchor_points`.
        height: of the picture, in pixels, at whose edges boxes end.
        width: of the picture.

    Returns:
        (..., A, 4) float32 x1, y1, x2, y2 in pixels.
    """
    distances = sigmoid(edges) * REACH * points[:, 2:]
    low, high = points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]
    limit = np.array([width, height], dtype=np.float32)
    boxes: np.ndarray = np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=-1)
    return boxes.astype(np.float32)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes.

    Args:
        a: (N, 4) x1, y1, x2, y2.
        b: (M, 4).

    Returns:
        (N, M) in 0..1; 0 where both have no area.
    """
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (a, b)]
    together = areas[0][:, None] + areas[1][None, :] - shared
    found: np.ndarray = np.divide(shared, together, out=np.zeros_like(shared), where=together > 0)
    return found


def suppress(boxes: np.ndarray, classes: np.ndarray, overlap: float = OVERLAP) -> np.ndarray:
    """Drop boxes that overlap a better one of their class (greedy non-maximum suppression).

    Args:
        boxes: (N, 4) x1, y1, x2, y2, best first.
        classes: (N,) their classes.
        overlap: intersection over union above which a box is dropped.

    Returns:
        (N,) bool: which boxes are kept.
    """
    rivals = (overlaps(boxes, boxes) > overlap) & (classes[:, None] == classes[None, :])
    kept = np.ones(len(boxes), dtype=bool)
    for place in range(len(boxes)):
        if kept[place]:
            kept[place + 1 :] &= ~rivals[place, place + 1 :]
    return kept


def find_boxes(
    raw: np.ndarray, points: np.ndarray, height: int, width: int, *, floor: float = FLOOR, overlap: float = OVERLAP
) -> np.ndarray:
    """Read the boxes of one picture in what a network returned.

    Args:
        raw: (A, C + 4) logits of classes, then of edges.
        points: (A, 3), see `anchor_points`.
        height: of the picture, in pixels.
        width: of the picture.
        floor: least probability of a box.
        overlap: see `suppress`.

    Returns:
        (D, 6) float32: class, probability, x1, y1, x2, y2 in pixels; best first, 100 at most.
    """
    logits = raw[:, :-SIDES].astype(np.float64)
    anchors, classes = np.nonzero(logits >= np.log(floor / (1 - floor)))
    found = logits[anchors, classes]
    order = np.argsort(-found, kind="stable")[:CANDIDATES]
    anchors, classes = anchors[order], classes[order]
    boxes = decode(raw[anchors, -SIDES:], points[anchors], height, width)
    kept = suppress(boxes, classes, overlap)
    kept &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    told: Any = np.concatenate([classes[:, None], sigmoid(found[order])[:, None], boxes], axis=1)[kept][:MOST]
    return np.asarray(told, dtype=np.float32)
