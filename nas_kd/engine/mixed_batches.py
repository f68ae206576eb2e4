"""Batches of labelled and unlabelled samples: both kinds are gone through in passes, side by side.

An epoch has as many steps as one pass over all samples takes, N labelled and U unlabelled, whatever their shares of a
batch are. Step g of a training, counted from its first epoch, shows rows g*k to (g+1)*k - 1 of the endless sequence
"pass 0, pass 1, ..." over the samples of a kind, k of which are in each batch. So every sample of a kind is shown
equally often, and its augmentation is that of (seed, pass, sample).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import EpochBatches, NumberedBatches, Order, Samples
from nas_kd.methods.base import Shown

KEPT_ORDERS = 4  # of passes: a batch rarely has rows of more


class BatchRows(NamedTuple):
    """Rows of each kind in a batch."""

    labelled: int
    unlabelled: int


@dataclass(frozen=True)
class MixedPlan:
    """How many samples of each kind there are, and how batches and epochs divide them.

    Attributes:
        labelled: N, samples of the training split.
        unlabelled: U, at least one.
        share: of a batch that is unlabelled, between 0 and 1.
    """

    labelled: int
    unlabelled: int
    share: float

    @property
    def epoch_samples(self) -> int:
        """Samples of one pass over everything, which an epoch has."""
        return self.labelled + self.unlabelled

    def steps(self, batch_size: int) -> int:
        """Training steps of an epoch."""
        return self.epoch_samples // min(batch_size, self.epoch_samples)

    def rows(self, batch_size: int, *, use_unlabelled: bool = True) -> BatchRows:
        """Divide a batch; each kind has one row at least, and no more than there are samples.

        Args:
            batch_size: samples a step.
            use_unlabelled: false: all rows are labelled.
        """
        unlabelled = min(max(1, round(self.share * batch_size)), batch_size - 1, self.unlabelled)
        if not use_unlabelled:
            unlabelled = 0
        return BatchRows(min(batch_size - unlabelled, self.labelled), unlabelled)

    def passes(self, batch_size: int, epoch: int, *, unlabelled: bool) -> range:
        """Passes over the samples of a kind that an epoch shows at least one sample of.

        Args:
            batch_size: samples a step.
            epoch: from 0.
            unlabelled: the kind.
        """
        rows, steps = self.rows(batch_size), self.steps(batch_size)
        each, samples = (rows.unlabelled, self.unlabelled) if unlabelled else (rows.labelled, self.labelled)
        first, end = epoch * steps * each, (epoch + 1) * steps * each
        return range(first // samples, (end - 1) // samples + 1)


class MixedBatches:
    """Batches of labelled samples followed by unlabelled ones; or, at equal steps, of labelled samples alone."""

    def __init__(self, labelled: NumberedBatches, unlabelled: Augmenter, share: float, *, use_unlabelled: bool) -> None:
        """Take batches from both.

        Args:
            labelled: the training split.
            unlabelled: the other samples and how they are augmented.
            share: of a batch that is unlabelled, between 0 and 1.
            use_unlabelled: false for methods that learn from labels alone.
        """
        self._source, self._unlabelled, self._uses = labelled, unlabelled, use_unlabelled
        self.plan = MixedPlan(len(labelled.labels), len(unlabelled), share)

    def using(self, use_unlabelled: bool) -> "MixedBatches":
        """The same samples and number of steps for another method; `use_unlabelled`: see the constructor."""
        return MixedBatches(self._source, self._unlabelled, self.plan.share, use_unlabelled=use_unlabelled)

    @property
    def labels(self) -> Tensor:
        """(N,) of the training split."""
        return self._source.labels

    @property
    def view(self) -> Augmenter | None:
        """The augmented training split, where it is in memory."""
        return self._source.view

    @property
    def unlabelled_view(self) -> Augmenter | None:
        """The augmented unlabelled samples; None if they are left out."""
        return self._unlabelled if self._uses else None

    def steps_per_epoch(self, batch_size: int) -> int:
        """Steps of one pass over all samples, whichever of them are shown."""
        return self.plan.steps(batch_size)

    def example(self) -> Tensor:
        """Two samples like those of the training split."""
        return self._source.example()

    def epoch(self, number: int, batch_size: int, order: Order) -> EpochBatches:
        """Start an epoch; its batches can be read in any order and any number of times."""
        rows = self.plan.rows(batch_size, use_unlabelled=self._uses)
        first = number * self.plan.steps(batch_size)
        labelled = lru_cache(KEPT_ORDERS)(lambda n: order.labelled(n, self.labels))
        unlabelled = lru_cache(KEPT_ORDERS)(lambda n: order.unlabelled(n, self.plan.unlabelled))

        def batch(step: int) -> Samples:
            at = first + step
            of_labelled = [Shown(False, n, labelled(n)[a:b]) for n, a, b in _parts(at, rows.labelled, len(self.labels))]
            of_unlabelled = [
                Shown(True, n, unlabelled(n)[a:b]) for n, a, b in _parts(at, rows.unlabelled, self.plan.unlabelled)
            ]
            read = [self._source.samples(s.number, s.indices, at) for s in of_labelled]
            others = [self._unlabelled.batch(s.number, s.indices) for s in of_unlabelled]
            return Samples(
                torch.cat([*(samples.x for samples in read), *others]),
                torch.cat([samples.y for samples in read]),
                torch.cat([samples.indices for samples in read]),
                (*of_labelled, *of_unlabelled),
            )

        return batch


def _parts(step: int, rows: int, samples: int) -> list[tuple[int, int, int]]:
    """Divide a step's rows of the endless sequence of passes: (pass, first, end) of each, positions in its order."""
    found, at, end = [], step * rows, (step + 1) * rows
    while at < end:
        number, first = divmod(at, samples)
        last = min(samples, first + end - at)
        found.append((number, first, last))
        at += last - first
    return found
