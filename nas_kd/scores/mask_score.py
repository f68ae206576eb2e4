"""What a network did with the pixels of a split, picture by picture: what scores of masks are computed from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.confusion import Confusion
from nas_kd.scores.base import Evidence


@dataclass(frozen=True, eq=False)
class MaskEvidence(Evidence):
    """Counts of pixels.

    Attributes:
        counts: (N, C, C) int64, of each picture: by class, and by the class that they are given.
    """

    counts: NDArray[np.int64]

    @property
    def samples(self) -> int:
        """Number of pictures of the split."""
        return len(self.counts)

    @cached_property
    def parts(self) -> NDArray[np.float64]:
        """(N, 3, C) pixels of each class, given it, and both, of each picture."""
        labelled, given = self.counts.sum(axis=2), self.counts.sum(axis=1)
        hit = np.diagonal(self.counts, axis1=1, axis2=2)
        return np.stack([labelled, given, hit], axis=1).astype(np.float64)

    @cached_property
    def confusion(self) -> Confusion:
        """Pixels of all pictures, by class and by the class that they are given."""
        total = self.counts.sum(axis=0)
        labels, predictions = np.nonzero(total)
        return Confusion(
            n_classes=len(total),
            labels=tuple(labels.tolist()),
            predictions=tuple(predictions.tolist()),
            counts=tuple(total[labels, predictions].astype(float).tolist()),
        )
