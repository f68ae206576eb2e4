"""Batches of labelled and unlabelled samples: both kinds are gone through in passes, side by side.

Mixup and cutmix mix samples of one kind with each other (`nas_kd.data.mixing`), never labelled with unlabelled ones.

An epoch has as many steps as one pass over all samples takes, N labelled and U unlabelled, whatever their shares of a
batch are. Step g of a training, counted from its first epoch, shows rows g*k to (g+1)*k - 1 of the endless sequence
"pass 0, pass 1, ..." over the samples of a kind, k of which are in each batch. So every sample of a kind is shown
equally often, and its augmentation is that of (seed, pass, sample).
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from nas_kd.data.view import View
from nas_kd.engine.batch_source import EpochBatches, NumberedBatches, Order, Samples
from nas_kd.methods.base import Shown
from nas_kd.results.mixed_plan import MixedPlan
from nas_kd.tasks.base import MixedLabels

KEPT_ORDERS = 4  # of passes: a batch rarely has rows of more


class MixedBatches:
    """Batches of labelled samples followed by unlabelled ones; or, at equal steps, of labelled samples alone."""

    def __init__(self, labelled: NumberedBatches, unlabelled: View, share: float, *, use_unlabelled: bool) -> None:
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
    def view(self) -> View | None:
        """The augmented training split, where it is in memory."""
        return self._source.view

    @property
    def unlabelled_view(self) -> View | None:
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
                _joined([samples.mixed for samples in read]),
            )

        return batch


def _joined(mixed: Sequence[MixedLabels | None]) -> MixedLabels | None:
    """What consecutive samples are mixed with: either all of them are, or none is."""
    parts = [labels for labels in mixed if labels is not None]
    return MixedLabels(*map(torch.cat, zip(*parts, strict=True))) if parts else None


def _parts(step: int, rows: int, samples: int) -> list[tuple[int, int, int]]:
    """Divide a step's rows of the endless sequence of passes: (pass, first, end) of each, positions in its order."""
    found, at, end = [], step * rows, (step + 1) * rows
    while at < end:
        number, first = divmod(at, samples)
        last = min(samples, first + end - at)
        found.append((number, first, last))
        at += last - first
    return found
