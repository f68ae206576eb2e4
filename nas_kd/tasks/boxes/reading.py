"""Reads boxes that a source gave: checked, and padded to one number a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.errors import InputError, few, printable

Values = Mapping[str, NDArray[np.float32]]
DIMS, COLUMNS = 3, 5
GRID = 64.0  # boxes lie on 64ths of a pixel, so that they can be mirrored without rounding
COARSEST = 32  # pixels: a multiple of all strides
NONE = -1  # class of rows that are no boxes
WANTED = "boxes (N, M, 5): class, x1, y1, x2, y2 in pixels; rows of class -1 are no boxes"


def read_boxes(ys: Mapping[str, Any], names: tuple[str, ...] | None) -> tuple[Values, tuple[str, ...]]:
    """Check boxes of all splits; returns them with as many rows a picture, and the names of the classes.

    Args:
        ys: by split, as a source gave them.
        names: of the classes, if the source knows them.

    Raises:
        InputError: they are no boxes, or val or test have a class that train has not.
    """
    values = {split: _checked(np.asarray(y), split) for split, y in ys.items()}
    found = {split: np.unique(y[..., 0][y[..., 0] >= 0]).astype(int).tolist() for split, y in values.items()}
    if not found["train"]:
        raise InputError("no picture of train has a box: there is nothing to learn")
    classes = names or tuple(map(str, range(found["train"][-1] + 1)))
    if len(set(classes)) < len(classes):
        raise InputError(f"names of classes occur twice: {few(classes)}")
    for split, there in found.items():
        if there and there[-1] >= len(classes):
            raise InputError(f"{split} has boxes of class {there[-1]}, and there are {len(classes)} classes: 0, 1, ...")
    if never := sorted(set(range(len(classes))) - set(found["train"])):
        more = " (data.train_rows leaves pictures out, if it is set)"
        raise InputError(f"class {printable(classes[never[0]])!r} has no box in train: leave it out, or add some{more}")
    most = max(1, *(y.shape[1] for y in values.values()))
    return {split: _padded(y, most) for split, y in values.items()}, classes


def clipped_boxes(values: Values, shape: tuple[int, ...]) -> tuple[Values, str | None]:
    """Clip boxes to the pictures; those without area afterwards are none. Returns them, and what was done, if anything.

    Args:
        values: checked boxes by split.
        shape: (C, H, W) of the pictures.

    Raises:
        InputError: samples are no pictures.
    """
    if len(shape) != DIMS:
        raise InputError(f'data.task = "detection" needs pictures (C, H, W); the samples have shape {shape}')
    limit = np.array([shape[2], shape[1]] * 2, dtype=np.float32)
    clipped, moved, lost = {}, 0, 0
    for split, y in values.items():
        boxes, there = np.clip(y[..., 1:], 0, limit), y[..., 0] >= 0
        kept = there & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
        moved += int((kept & (boxes != y[..., 1:]).any(axis=-1)).sum())
        lost += int((there & ~kept).sum())
        clipped[split] = np.where(kept[..., None], np.concatenate([y[..., :1], boxes], axis=-1), np.float32(NONE))
    parts = [f"{moved:,} boxes were clipped to their pictures"] * bool(moved)
    parts += [f"{lost:,} that lie outside of them were left out"] * bool(lost)
    return clipped, ", ".join(parts) or None


def size_around(values: Values) -> tuple[int, int]:
    """Height and width, multiples of 32 pixels, of pictures that hold all boxes."""
    ends = [float(max(y[..., column].max(initial=1) for y in values.values())) for column in (4, 3)]
    height, width = (int(-(-end // COARSEST) * COARSEST) for end in ends)
    return height, width


def _checked(y: NDArray[Any], split: str) -> NDArray[np.float32]:
    if y.ndim != DIMS or y.shape[2] != COLUMNS or y.dtype.kind not in "uif":
        raise InputError(f'y of {split} has shape {y.shape} and type {y.dtype}; data.task = "detection" wants {WANTED}')
    boxes = y.astype(np.float64)
    label, there = boxes[..., 0], boxes[..., 0] != NONE
    faults = {
        "a class that is no whole number from 0 on": ~np.isfinite(label) | (label < NONE) | (label != np.rint(label)),
        "an edge that is not finite": there & ~np.isfinite(boxes[..., 1:]).all(axis=-1),
        "a box that is upside down or without area": there & ~(boxes[..., 3:] > boxes[..., 1:3]).all(axis=-1),
    }
    for fault, where in faults.items():
        if where.any():
            row, place = (int(at[0]) for at in np.nonzero(where))
            raise InputError(f"y of {split} has {fault} in sample {row}: {boxes[row, place].tolist()}; want {WANTED}")
    boxes[..., 1:] = np.rint(boxes[..., 1:] * GRID) / GRID
    thin = there & ~(boxes[..., 3:] > boxes[..., 1:3]).all(axis=-1)
    return np.where((there & ~thin)[..., None], boxes, NONE).astype(np.float32)


def _padded(y: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Boxes first, in their order, then rows that are none."""
    order = np.argsort(y[..., 0] < 0, axis=1, kind="stable")
    sorted_rows = np.take_along_axis(y, order[..., None], axis=1)
    return np.pad(sorted_rows, ((0, 0), (0, rows - y.shape[1]), (0, 0)), constant_values=NONE)
