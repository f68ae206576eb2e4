"""Samples in memory: three splits, their classes, and the statistics that go into the exported graph."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_kd.config.options import Augmentation


@dataclass(frozen=True)
class Split:
    """`x`: (N, ...) uint8 or float32, as stored; `y`: (N,) int64 in 0..n_classes-1."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return int(self.y.shape[0])


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test samples. `augment` is resolved: none of its fields is None.

    `mean`, `std`: (C,) of train, in the units of `x`, per channel for images (C, H, W), else one number each.
    `scale`: what divides stored values into 0..1 (255 for uint8, else 1).
    `key`: sha256 over the three splits, of both views. `notes`: what was carved, dropped or converted, in words.
    `teacher_view`: what the teacher is shown of the same samples, in the same order, with the same labels; None where
    it is shown what the student is shown. Both are shifted and mirrored by the same random numbers.
    """

    name: str
    source: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    scale: float
    augment: Augmentation
    key: str
    notes: tuple[str, ...] = ()
    teacher_view: "Dataset | None" = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, e.g. (3, 32, 32)."""
        return tuple(self.train.x.shape[1:])

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


def as_input(x: Tensor) -> Tensor:
    """Stored samples (uint8 or float32) as the float32 values that every network takes, in the same units."""
    return x.to(torch.float32)
