"""Where the batches of a training come from: usually arrays in memory, in which every sample has a number."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nas_kd.data.view import View
from nas_kd.engine.numerics import mix_seeds
from nas_kd.methods.base import Method, Shown
from nas_kd.tasks.base import MixedLabels, Task
from nas_kd.tasks.classification import CLASSIFICATION
from nas_kd.tasks.moving import MovingTargets


class Samples(NamedTuple):
    """Samples and labels of one training step, before they are brought into the networks' memory layout."""

    x: Tensor  # (B, ...) as networks take it
    y: Tensor  # (L,) int64, of the first L samples: of all, unless some are unlabelled
    indices: Tensor  # (L,) positions in the training split, int64; empty where samples have no numbers
    shown: tuple[Shown, ...] = ()  # see `Batch.shown`
    mixed: MixedLabels | None = None  # see `Batch.mixed`


# The samples of a step, 0..steps_per_epoch - 1. Nothing is read before it is called, as data-free methods never do.
EpochBatches = Callable[[int], Samples]


@dataclass(frozen=True)
class Order:
    """The order of samples in each pass over them; it follows from the seed alone.

    Attributes:
        method: that is trained; it may order samples by their labels.
        seed: of the training.
        task: orders samples where the method does not.
    """

    method: Method
    seed: int
    task: Task = CLASSIFICATION

    def labelled(self, number: int, labels: Tensor) -> Tensor:
        """Order the training split.

        Args:
            number: of the pass, which is an epoch where there are no unlabelled samples.
            labels: (N,) of all samples.

        Returns:
            (N,) int64, a permutation of 0..N-1.
        """
        ordering = self.method if self.method.has_own_order else self.task
        return ordering.order(labels, torch.Generator().manual_seed(mix_seeds(self.seed, 2, number)))

    def unlabelled(self, number: int, count: int) -> Tensor:
        """Order `count` unlabelled samples at random in the pass `number` over them."""
        return torch.randperm(count, generator=torch.Generator().manual_seed(mix_seeds(self.seed, 4, number)))


class BatchSource(Protocol):
    """What a training needs to know about its data."""

    @property
    def view(self) -> View | None:
        """The augmented arrays that batches are taken from; None if there are none, so that nothing can be cached."""

    @property
    def unlabelled_view(self) -> View | None:
        """The same of unlabelled samples; None where batches have none."""

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of training steps in an epoch at this batch size."""

    def example(self) -> Tensor:
        """Two samples, (2, ...), that show what networks take; they need not be training samples."""

    def epoch(self, number: int, batch_size: int, order: Order) -> EpochBatches:
        """Start an epoch; nothing is read yet.

        Args:
            number: of the epoch, from 0; random choices depend on it and on the source's seed alone.
            batch_size: samples a step; a source with batches of its own ignores it.
            order: of samples; a source whose samples have no numbers ignores it.
        """


class NumberedBatches(BatchSource, Protocol):
    """A source whose samples can be read in any order."""

    @property
    def labels(self) -> Tensor:
        """Targets (N, ...) that the order of samples may depend on."""

    def samples(self, number: int, indices: Tensor, step: int) -> Samples:
        """Read the samples `indices` (b,) as they are in a pass over all of them.

        Args:
            number: of the pass, which decides augmentation.
            indices: int64 positions in the training split.
            step: of the training; decides the random transforms of a user's own data set.
        """


class ArrayBatches:
    """Batches from arrays in memory, augmented as a pure function of (seed, epoch, sample)."""

    unlabelled_view: View | None = None

    def __init__(self, augmenter: View, labels: Tensor, moving: MovingTargets | None = None) -> None:
        """Take batches from these samples.

        Args:
            augmenter: the N training samples and how they are augmented and mixed.
            labels: (N, ...) targets, of classification (N,) int64 class numbers.
            moving: how these move with their samples; None: they stay as they are.
        """
        self.augmenter, self.labels, self.moving = augmenter, labels, moving

    @property
    def view(self) -> View:
        """The augmented training samples themselves."""
        return self.augmenter

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches in an epoch; samples that do not fill a last one are left out."""
        return len(self.augmenter) // self._size(batch_size)

    def example(self) -> Tensor:
        """Two made-up samples, (2, ...) float32 in stored units."""
        return self.augmenter.example()

    def epoch(self, number: int, batch_size: int, order: Order) -> EpochBatches:
        """Start an epoch; its batches can be read in any order and any number of times."""
        size, shuffled = self._size(batch_size), order.labelled(number, self.labels)

        def batch(step: int) -> Samples:
            return self.samples(number, shuffled[step * size : (step + 1) * size], step)

        return batch

    def samples(self, number: int, indices: Tensor, step: int) -> Samples:
        """The samples `indices` (b,) as augmented and mixed in a pass; they do not depend on the step."""
        if self.moving is not None:
            y = self.augmenter.targets(number, indices, self.labels, self.moving)
            return Samples(self.augmenter.batch(number, indices), y, indices)
        mixture = self.augmenter.mixture(number, indices)
        labels = None if mixture is None else MixedLabels(self.labels[mixture.partner], mixture.share)
        return Samples(self.augmenter.batch(number, indices), self.labels[indices], indices, mixed=labels)

    def _size(self, batch_size: int) -> int:
        return min(batch_size, len(self.augmenter))
