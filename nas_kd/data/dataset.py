"""Samples, in memory or mapped: three splits, their task, and the statistics that go into the exported graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.data.augmentation_choices import AugmentationChoices
from nas_kd.data.notes import DataNotes
from nas_kd.data.picture_steps import PictureSteps
from nas_kd.data.pixel_range import PixelRange
from nas_kd.data.samples import Samples
from nas_kd.scores.base import Score
from nas_kd.serialization import fingerprint
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION


@dataclass(frozen=True)
class Split:
    """Samples and targets of one split.

    Attributes:
        x: (N, ...) uint8 or float32, as stored: a tensor, or samples that are read from a file when they are asked for.
        y: (N, ...) targets as the task has them: of classification (N,) int64 class numbers in 0..n_classes-1.
    """

    x: Samples
    y: Tensor

    def __len__(self) -> int:
        return int(self.y.shape[0])


@dataclass(frozen=True)
class UnlabelledSamples:
    """Samples without labels, for training alone.

    Attributes:
        x: (U, ...) of the training samples' shape and type.
        share: of a training batch that they take, between 0 and 1.
        key: sha256 (hex) of them, of `rows` and of `total`.
        rows: (U,) int64 their positions among those that were given; the others were copies of labelled samples.
        total: number of those that were given.
    """

    x: Samples
    share: float
    key: str
    rows: Tensor
    total: int

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test samples, validated and ready to train on.

    Attributes:
        name: name of the data set in reports.
        source: the data source that it came from.
        train: training split.
        val: validation split.
        test: test split.
        classes: class names in the order of the class numbers; of other tasks, names of the outputs.
        mean: (C,) mean of `train` per channel of images (C, H, W), else (1,); in the units of `x`.
        std: standard deviation, of the same shape and unit.
        scale: divides stored values into 0..1: 255 for uint8, else 1.
        augmentation: what the user asked for, and what suits these samples.
        key: sha256 (hex) of the three splits, of both views.
        about: what was carved, dropped, converted or found twice.
        picture_steps: what turned picture files into samples; None: samples were not picture files.
        teacher_view: the teacher's view of the same samples, in the same order and with the same labels; None: the
            teacher sees what the student sees. Both views are augmented by the same random numbers.
        stored_dtype: number type in which the source gave the training samples; empty: that of `train.x`.
        unlabelled: further samples, on which students learn from the teacher's outputs; None: there are none.
        carved_rows: where splits were carved from the training samples that the source gave: their rows in these, by
            split, "train" among them; empty: nothing was carved.
        limited: how many samples were asked for, the first ones, of each split that was limited; broken ones that
            were left out are not made up for.
        task: what the targets are, and what networks are to do with them.
        task_name: the task as the config names it.
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
    about: DataNotes = field(default_factory=DataNotes)
    picture_steps: PictureSteps | None = None
    teacher_view: "Dataset | None" = None
    stored_dtype: str = ""
    unlabelled: UnlabelledSamples | None = None
    carved_rows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    limited: Mapping[str, int] = field(default_factory=dict)
    task: Task = CLASSIFICATION
    task_name: str = CLASSIFICATION.name

    @cached_property
    def pixels(self) -> PixelRange:
        """Type and range of the training samples, which decide whether they are pixels."""
        return PixelRange.of(self.train.x, self.stored_dtype)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was carved, dropped, converted or found twice, one sentence each."""
        return self.about.sentences

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (3, 32, 32)."""
        return tuple(self.train.x.shape[1:])

    @property
    def epoch_samples(self) -> int:
        """Number of samples in one epoch of a student: labelled and unlabelled ones together."""
        return len(self.train) + (len(self.unlabelled) if self.unlabelled is not None else 0)

    @property
    def training_key(self) -> str:
        """Identity of all that students learn from: `key`, unless there are unlabelled samples."""
        unlabelled = self.unlabelled
        return self.key if unlabelled is None else fingerprint([self.key, unlabelled.key, unlabelled.share])

    def without_unlabelled(self) -> "Dataset":
        """Return a copy that has no unlabelled samples."""
        return self if self.unlabelled is None else replace(self, unlabelled=None)

    @property
    def n_classes(self) -> int:
        """Number of classes, or of other outputs of a network."""
        return len(self.classes)

    @property
    def output_axes(self) -> int:
        """Axes of what a network returns, that of the batch among them."""
        return 1 + len(self.task.raw_shape(self.n_classes))

    def guessing(self, score: Score, split: str = "val") -> float:
        """What a network gets that learned nothing but what the training targets are like, 0..1.

        Args:
            score: by which it is judged.
            split: that it is judged on.
        """
        judged: Split = getattr(self, split)
        return score.guessing(self.train.y.numpy(), judged.y.numpy(), self.n_classes)


def as_input(x: Tensor) -> Tensor:
    """Convert stored samples (uint8 or float32) to float32, the type that networks take, in the same units."""
    return x.to(torch.float32)
