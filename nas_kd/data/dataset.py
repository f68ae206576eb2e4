"""Samples in memory: three splits, their classes, and the statistics that go into the exported graph."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_kd.data.augmentation_choices import AugmentationChoices
from nas_kd.data.picture_steps import PictureSteps


@dataclass(frozen=True)
class Split:
    """Samples and labels of one split.

    Attributes:
        x: (N, ...) uint8 or float32, as stored.
        y: (N,) int64 class numbers in 0..n_classes-1.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return int(self.y.shape[0])


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test samples, validated and ready to train on.

    Attributes:
        name: name of the data set in reports.
        source: the data source that it came from.
        train: training split.
        val: validation split.
        test: test split.
        classes: class names in the order of the class numbers.
        mean: (C,) mean of `train` per channel of images (C, H, W), else (1,); in the units of `x`.
        std: standard deviation, of the same shape and unit.
        scale: divides stored values into 0..1: 255 for uint8, else 1.
        augmentation: what the user asked for, and what suits these samples.
        key: sha256 (hex) of the three splits, of both views.
        notes: what was carved, dropped or converted, one sentence each.
        teacher_view: the teacher's view of the same samples, in the same order and with the same labels; None: the
            teacher sees what the student sees. Both views are augmented by the same random numbers.
        picture_steps: how image files became samples; None: they were arrays.
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
    augmentation: AugmentationChoices
    key: str
    notes: tuple[str, ...] = ()
    teacher_view: "Dataset | None" = None
    picture_steps: PictureSteps | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (3, 32, 32)."""
        return tuple(self.train.x.shape[1:])

    @property
    def n_classes(self) -> int:
        """Number of classes, and of logits."""
        return len(self.classes)


def as_input(x: Tensor) -> Tensor:
    """Convert stored samples (uint8 or float32) to float32, the type that networks take, in the same units."""
    return x.to(torch.float32)
