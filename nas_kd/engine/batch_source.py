"""Where the batches of a training come from: usually arrays in memory, in which every sample has a number."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from nas_kd.data.augment import Augmenter


class Samples(NamedTuple):
    """Samples and labels of one training step, before they are brought into the networks' memory layout."""

    x: Tensor  # (B, ...) as networks take it
    y: Tensor  # (B,) int64
    indices: Tensor  # (B,) positions in the training split, int64; empty where samples have no numbers


# The samples of a step, 0..steps_per_epoch - 1. Nothing is read before it is called, as data-free methods never do.
EpochBatches = Callable[[int], Samples]
# The order of an epoch's samples, a permutation of 0..N-1, given all labels (N,); see `Method.order`.
Order = Callable[[Tensor], Tensor]


class BatchSource(Protocol):
    """What a training needs to know about its data."""

    @property
    def view(self) -> Augmenter | None:
        """The augmented arrays that batches are taken from; None if there are none, so that nothing can be cached."""

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of training steps in an epoch at this batch size."""

    def example(self) -> Tensor:
        """Two samples, (2, ...), that show what networks take; they need not be training samples."""

    def epoch(self, number: int, batch_size: int, order: Order) -> EpochBatches:
        """Start an epoch; nothing is read yet.

        Args:
            number: of the epoch, from 0; random choices depend on it and on the source's seed alone.
            batch_size: samples a step; a source with batches of its own ignores it.
            order: the method's order of samples; a source whose samples have no numbers ignores it.
        """


class ArrayBatches:
    """Batches from arrays in memory, augmented as a pure function of (seed, epoch, sample)."""

    def __init__(self, augmenter: Augmenter, labels: Tensor) -> None:
        """Take batches from these samples.

        Args:
            augmenter: the N training samples and how they are augmented.
            labels: (N,) int64 class numbers.
        """
        self.augmenter, self.labels = augmenter, labels

    @property
    def view(self) -> Augmenter:
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
        size, shuffled = self._size(batch_size), order(self.labels)

        def batch(step: int) -> Samples:
            indices = shuffled[step * size : (step + 1) * size]
            return Samples(self.augmenter.batch(number, indices), self.labels[indices], indices)

        return batch

    def _size(self, batch_size: int) -> int:
        return min(batch_size, len(self.augmenter))
