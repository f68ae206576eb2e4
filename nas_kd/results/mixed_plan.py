"""How batches and epochs divide labelled and unlabelled samples. Imports no torch."""

from dataclasses import dataclass
from typing import NamedTuple


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
