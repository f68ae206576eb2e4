"""Segmentation: every pixel has one class.

Networks learn to decide for cells of some pixels, as large as the masks allow (`with_fitting_cells`). What one returns
at a finer resolution is averaged over cells, what is coarser is interpolated; where a network is judged, its logits are
brought to the masks' size. Labels of a cell are the shares of its pixels' classes, so that the cross-entropy of cells
is that of all pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.errors import InputError, few
from nas_kd.results.finalist_record import PictureRecord
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.mask_score import MaskEvidence
from nas_kd.scores.mean_iou import MeanIoU, iou_by_class
from nas_kd.tasks.base import Array, DecisionKind, Differences, MixedLabels, Targets, Task
from nas_kd.tasks.mask_pictures import mask_pictures
from nas_kd.tasks.masks import VOID, Masks, cells, class_shares
from nas_kd.tasks.moving import MovingTargets

MASK_DIMS, MAX_CLASSES = 3, 255
JUDGED = 1 << 24  # values of logits that are brought to the masks' size at a time
SMOOTH = 1e-6  # keeps the Dice coefficient of an empty class finite
STRIDES = (4, 2)  # pixels along a side of a cell, the coarsest first; else every pixel is one
KEPT_IOU = 0.95  # mean IoU with themselves that masks keep as cells
SEEN = 128  # masks by which the stride is chosen


@dataclass(frozen=True)
class Segmentation(Task):
    """Masks (N, H, W) of class numbers, 255 for void; a network returns logits (B, C, h, w).

    The label loss is CE + Dice: the mean cross-entropy of pixels, and 1 minus the mean over the batch's classes of
    2 sum p_c t_c / (sum p_c + sum t_c) (Milletari et al. 2016, arXiv:1606.04797, without squares).

    Attributes:
        size: height and width of the masks.
        n_classes: C.
        stride: pixels along a side of a cell.
    """

    size: tuple[int, int] = (0, 0)
    n_classes: int = 0
    stride: int = 1

    name: ClassVar[str] = "segmentation"
    title: ClassVar[str] = "segmentation"
    summary: ClassVar[str] = "one class a pixel; mean IoU"
    headline: ClassVar[str] = "mean_iou"
    knowledge: ClassVar[str] = "mean_iou"
    decisions: ClassVar[DecisionKind] = "rows"
    default_methods: ClassVar[tuple[str, ...]] = ("soft_targets", "channel_wise", "soft_targets+channel_wise")
    stratum: ClassVar[str] = "set of classes"
    heads: ClassVar[tuple[str, ...]] = ("lraspp", "pyramid")

    @property
    def moving(self) -> MovingTargets:
        """Masks go where the pixels go."""
        return Masks()

    @property
    def grid(self) -> tuple[int, int]:
        """Cells along the sides of a picture."""
        return cells(self.size[0], self.stride), cells(self.size[1], self.stride)

    def raw_shape(self, n_outputs: int) -> tuple[int | None, ...]:
        """Logits of each class, at any resolution."""
        return n_outputs, None, None

    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Read masks (N, H, W) of class numbers 0..C-1, and 255 for void."""
        values = {split: _checked(y, split) for split, y in ys.items()}
        size = values["train"].shape[1:]
        for split, y in values.items():
            if y.shape[1:] != size:
                raise InputError(f"masks of {split} have {_size(y.shape[1:])} pixels, those of train {_size(size)}")
        found = {split: np.unique(y[y != VOID]).tolist() for split, y in values.items()}
        n_classes = len(names) if names is not None else 1 + max(found["train"], default=0)
        for split, there in found.items():
            if there and there[-1] >= n_classes:
                known = (
                    f"{len(names)} names of classes" if names is not None else f"classes 0..{n_classes - 1} in train"
                )
                raise InputError(
                    f"masks of {split} have pixels of value {there[-1]}, and there are {known}; void pixels are {VOID}"
                )
        if len(found["train"]) < 2:
            only = few(found["train"]) or "void"
            raise InputError(f"masks of train have one value only ({only}); want pixels of two classes or more")
        classes = names or tuple(map(str, range(n_classes)))
        task = with_fitting_cells(values["train"], replace(self, size=(size[0], size[1]), n_classes=n_classes))
        return Targets(dict(values), classes, task, f"masks: networks learn {_cells(task.stride)}")

    @property
    def key_facts(self) -> dict[str, Any]:
        """How large cells are."""
        return {"cells": self.stride}

    def fitted(self, targets: Targets, shape: tuple[int, ...]) -> Targets:
        """Check that masks have the size of their pictures."""
        if tuple(shape[1:]) != self.size:
            raise InputError(f"masks have {_size(self.size)} pixels, and pictures {_size(shape[1:])}: want the same")
        return targets

    def strata(self, y: Array) -> NDArray[np.int64]:
        """The rarest class of each picture, by the number of pictures that have it."""
        there = np.stack([(y == c).any(axis=(1, 2)) for c in range(max(1, self.n_classes))], axis=1)
        rarity = np.argsort(np.argsort(there.sum(axis=0), kind="stable"))
        return np.asarray(np.where(there, rarity, there.shape[1]).min(axis=1), dtype=np.int64)

    def targets(self, y: Tensor) -> Tensor:
        """(B * h * w,) the class of most pixels of each cell; 0 where all are void."""
        return self._shares(y).argmax(dim=1).flatten()

    def decide(self, raw: Tensor) -> Tensor:
        """Logits (B * h * w, C) of cells, row by row; those of another resolution are brought to it."""
        at_cells = _at(raw, self.grid)
        return at_cells.movedim(1, 3).reshape(-1, raw.shape[1])

    def row_counts(self, y: Tensor, taught: Sequence[Tensor]) -> Tensor | None:
        """The share of each cell's pixels that are not void; None where there are none of these."""
        counts = self._shares(y).sum(dim=1).flatten()
        return None if bool((counts == 1).all()) else counts

    def label_loss(self, decided: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """CE + Dice over the pixels that are not void; see `Task.label_loss`."""
        shares = self._rows(y)
        cross_entropy = -(shares * F.log_softmax(decided, dim=1)).sum() / shares.sum().clamp_min(SMOOTH)
        return cross_entropy + self._dice(decided, shares)

    def summed_loss(self, decided: Tensor, y: Tensor) -> Tensor:
        """The same, times the samples."""
        return self.label_loss(decided, y, None, None) * len(y)

    def row_weights(self, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """One each: how much rows count is said by `row_counts`."""
        return torch.ones(len(y) * self.grid[0] * self.grid[1], device=y.device)

    @staticmethod
    def _dice(decided: Tensor, shares: Tensor) -> Tensor:
        """1 - mean over the classes that the batch has of their Dice coefficients."""
        given = F.softmax(decided, dim=1)
        counted = shares.sum(dim=1, keepdim=True)
        overlap, total = (given * shares).sum(dim=0), (given * counted + shares).sum(dim=0)
        there = (shares.sum(dim=0) > 0).to(overlap)
        return 1 - (there * 2 * overlap / (total + SMOOTH)).sum() / there.sum().clamp_min(1)

    def _shares(self, y: Tensor) -> Tensor:
        return class_shares(y, self.n_classes, self.stride)

    def _rows(self, y: Tensor) -> Tensor:
        """(B * h * w, C) shares of the classes in each cell."""
        return self._shares(y).movedim(1, 3).reshape(-1, self.n_classes)

    def evidence(self, outputs: NDArray[np.float32], y: Array) -> MaskEvidence:
        """Counts of pixels by class and by the class that they are given, picture by picture."""
        return self.evidence_of_parts((outputs[rows], y[rows]) for rows in self._parts(len(y)))

    def evidence_of_parts(self, parts: Iterable[tuple[NDArray[np.float32], Array]]) -> MaskEvidence:
        """The same of parts of a split, of which counts are kept alone."""
        return MaskEvidence(
            np.concatenate([_confusion(self.masks(outputs), y, self.n_classes) for outputs, y in parts])
        )

    def masks(self, outputs: NDArray[np.float32]) -> NDArray[np.int64]:
        """The classes (N, H, W) that logits (N, C, h, w) give to pixels."""
        return _interpolated(torch.from_numpy(outputs), self.size).argmax(dim=1).numpy()

    def kept_by_cells(self, masks: NDArray[np.uint8]) -> float:
        """Mean IoU with masks (N, H, W) of what is left of them when they become shares of cells."""
        parts = (masks[rows] for rows in self._parts(len(masks)))
        as_cells = ((class_shares(torch.from_numpy(y), self.n_classes, self.stride).numpy(), y) for y in parts)
        return MeanIoU().value(self.evidence_of_parts(as_cells))

    def _parts(self, samples: int) -> list[slice]:
        """Samples in parts whose logits at the masks' size are no more than `JUDGED`."""
        at_once = max(1, JUDGED // max(1, self.n_classes * self.size[0] * self.size[1]))
        return [slice(start, start + at_once) for start in range(0, samples, at_once)]

    def details(self, tested: Sequence[Any], deployed: Any) -> dict[str, Any]:
        """IoU of each class, of what is deployed."""
        return {"by_class": iou_by_class(deployed)}

    def pictures(
        self,
        x: NDArray[np.float32],
        y: Array,
        outputs: NDArray[np.float32],
        names: Sequence[str],
        rule: Mapping[str, Any],
    ) -> tuple[PictureRecord, ...]:
        """Draw samples beside their masks and the network's."""
        return mask_pictures(x, y, self.masks(outputs), names)

    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """Cells of another class; the gap is that between the two classes' logits."""
        top, other = ours.argmax(1), theirs.argmax(1)
        gap = np.take_along_axis(ours, top[:, None], 1) - np.take_along_axis(ours, other[:, None], 1)
        rows = np.flatnonzero(top != other)
        return Differences(rows, gap.ravel()[rows], top.size)

    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """Logits of each class for each cell."""
        return OutputRecord(
            name=self.output,
            kind="masks",
            shape=(len(names), "h", "w"),
            probabilities="softmax(logits) over classes, for each cell",
            noun=f"network that finds {len(names)} classes of pixels",
            each="one logit a class for each cell of a grid, to be interpolated bilinearly to the picture's size",
            items="classes",
            example='print({card["nas_kd.classes"][c] for c in set(logits[0].argmax(0).flatten().tolist())})',
            limit="It knows the classes above and nothing else: any pixel gets one of them.",
            hub_metric="mean_iou",
            hub_tasks={3: ("image-segmentation", "Image Segmentation")},
        )


def with_fitting_cells(masks: NDArray[np.uint8], task: Segmentation) -> Segmentation:
    """The task with the largest cells from which masks come back nearly as they were.

    Args:
        masks: (N, H, W) of train.
        task: knows their size and the number of classes.
    """
    seen = masks[:: -(-len(masks) // SEEN)]
    tried = (replace(task, stride=stride) for stride in STRIDES)
    return next((one for one in tried if one.kept_by_cells(seen) >= KEPT_IOU), replace(task, stride=1))


def _cells(stride: int) -> str:
    return "to decide for each pixel" if stride == 1 else f"to decide for cells of {stride} x {stride} pixels"


def _at(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """Logits of cells: averaged where they are finer, so that each of them counts, and interpolated where coarser."""
    size = min(logits.shape[2], grid[0]), min(logits.shape[3], grid[1])
    averaged = logits if tuple(logits.shape[2:]) == size else F.adaptive_avg_pool2d(logits, size)
    return _interpolated(averaged, grid)


def _interpolated(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(logits.shape[2:]) == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def _confusion(given: NDArray[np.int64], y: Array, n_classes: int) -> NDArray[np.int64]:
    """Pixels (N, C, C) of each picture by class, and by the class that they are given; void ones do not count."""
    counts = np.zeros((len(y), n_classes * n_classes), dtype=np.int64)
    for row, (mask, found) in enumerate(zip(y, given, strict=True)):
        known = mask != VOID
        cell = mask[known].astype(np.int64) * n_classes + found[known]
        counts[row] = np.bincount(cell, minlength=n_classes * n_classes)
    return counts.reshape(-1, n_classes, n_classes)


def _checked(y: Array, split: str) -> NDArray[np.uint8]:
    if y.ndim == MASK_DIMS + 1 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != MASK_DIMS or y.dtype.kind not in "uib":
        raise InputError(
            f'y of {split} has shape {y.shape} and type {y.dtype}; data.task = "segmentation" wants masks (N, H, W) of '
            f"class numbers, {VOID} for void pixels"
        )
    if y.size and (y.min() < 0 or y.max() > MAX_CLASSES):
        wrong = y.min() if y.min() < 0 else y.max()
        raise InputError(f"masks of {split} have pixels of value {wrong}; want class numbers 0..254, and 255 for void")
    return y.astype(np.uint8)


def _size(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


PLUGIN = Segmentation()
