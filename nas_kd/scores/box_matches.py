"""Which boxes that a network found are right: the matching of COCO (Lin et al. 2014, arXiv:1405.0312), and its AP.

In each picture and class, boxes are taken from the most probable to the least. Each is matched with the unmatched true
box that it overlaps most, if by as much as a threshold; what matches none is wrong. Average precision is the mean, over
101 recalls from 0 to 1, of the largest precision at that recall or above.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.boxes import overlaps
from nas_kd.scores.base import Evidence

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # overlaps at which a box is right
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # boxes of a class in a picture that count
ROWS = 100  # resamples computed at a time
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """All boxes of one class, the most probable first.

    Attributes:
        picture: (D,) in which picture each was found.
        probability: (D,) of each, descending.
        right: (10, D) whether it matches a true box, by threshold.
        true: (N,) number of true boxes in each picture.
    """

    picture: NDArray[np.int64]
    probability: NDArray[np.float32]
    right: NDArray[np.bool_]
    true: NDArray[np.int64]

    def average_precision(self, weights: Numbers, thresholds: slice) -> Numbers:
        """Average precision for several resamples of the pictures, (thresholds, R); NaN without true boxes.

        Args:
            weights: (R, N) how often each picture counts.
            thresholds: which of `THRESHOLDS`.
        """
        parts = [weights[i : i + ROWS] for i in range(0, len(weights), ROWS)]
        return np.concatenate([self._of_rows(part, self.right[thresholds]) for part in parts], axis=1)

    def _of_rows(self, weights: Numbers, right: NDArray[np.bool_]) -> Numbers:
        total = weights @ self.true.astype(np.float64)
        counted = weights[:, self.picture]
        found = np.cumsum(counted, axis=1)
        values = np.zeros((len(right), len(weights)))
        for row, matched in zip(values, right, strict=True):
            columns = np.flatnonzero(matched)  # precision is largest, and recall grows, at right boxes alone
            true = np.cumsum(counted[:, columns], axis=1)
            precision = np.divide(true, found[:, columns], out=np.zeros_like(true), where=true > 0)
            best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = true / np.maximum(total, 1)[:, None]
            reached = np.searchsorted(RECALLS, recall, side="right")  # how many of the recalls
            row[:] = (np.diff(reached, axis=1, prepend=0) * best).sum(axis=1) / len(RECALLS)
        return np.where(total > 0, values, np.nan)


@dataclass(frozen=True, eq=False)
class FoundBoxes(Evidence):
    """The boxes that a network finds in the pictures of a split, beside the true ones.

    Attributes:
        found: of each picture, (D, 6) class, probability, x1, y1, x2, y2; best first.
        true: (N, M, 5) class, x1, y1, x2, y2; rows of class -1 are no boxes.
        n_classes: number of classes.
        decoding_ms: median milliseconds that finding the boxes of a picture took.
    """

    found: Sequence[NDArray[np.float32]]
    true: NDArray[np.float32]
    n_classes: int
    decoding_ms: float = 0.0

    @property
    def samples(self) -> int:
        """Number of pictures of the split."""
        return len(self.true)

    @cached_property
    def matches(self) -> tuple[ClassMatches, ...]:
        """The boxes of each class."""
        return tuple(self._of_class(number) for number in range(self.n_classes))

    def average_precisions(self, weights: Numbers, thresholds: slice) -> Numbers:
        """Average precision of each class for several resamples, (C, R), mean over thresholds; NaN without true boxes.

        Args:
            weights: (R, N) how often each picture counts.
            thresholds: which of `THRESHOLDS`.
        """
        return np.stack([one.average_precision(weights, thresholds).mean(axis=0) for one in self.matches])

    def best_floor(self) -> tuple[float, float]:
        """The least probability of a box that gives the largest F1 at an overlap of 0.5, all classes together.

        Returns:
            The probability, and that F1; 1 and 0 where no box is right.
        """
        probability = np.concatenate([one.probability for one in self.matches])
        order = np.argsort(-probability, kind="stable")
        right = np.cumsum(np.concatenate([one.right[0] for one in self.matches])[order])
        true = sum(int(one.true.sum()) for one in self.matches)
        f1 = 2 * right / np.maximum(1, np.arange(1, len(order) + 1) + true)
        last = np.append(np.diff(probability[order]) != 0, True)[: len(order)]  # boxes of one probability go together
        if not right.size or right[-1] == 0:
            return 1.0, 0.0
        best = int(np.argmax(np.where(last, f1, -1)))
        return float(probability[order][best]), float(f1[best])

    def _of_class(self, number: int) -> ClassMatches:
        rights, scores, pictures, counts = [], [], [], []
        for picture, (found, true) in enumerate(zip(self.found, self.true, strict=True)):
            mine, theirs = found[found[:, 0] == number], true[true[:, 0] == number, 1:]
            mine = mine[np.argsort(-mine[:, 1], kind="stable")][:MOST]
            rights.append(_matched(mine[:, 2:], theirs))
            scores.append(mine[:, 1])
            pictures.append(np.full(len(mine), picture))
            counts.append(len(theirs))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        return ClassMatches(
            np.concatenate(pictures)[order],
            np.concatenate(scores)[order],
            np.concatenate(rights, axis=1)[:, order],
            np.array(counts, dtype=np.int64),
        )


def _matched(boxes: NDArray[np.float32], true: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes (D, 4) of one picture and class match a true box (M, 4), best first: (10, D)."""
    right = np.zeros((len(THRESHOLDS), len(boxes)), dtype=bool)
    if not len(true):
        return right
    overlap = overlaps(boxes.astype(np.float64), true.astype(np.float64))
    free = np.ones((len(THRESHOLDS), len(true)), dtype=bool)
    rows = np.arange(len(THRESHOLDS))
    for place in np.flatnonzero(overlap.max(axis=1) >= THRESHOLDS[0]):
        possible = np.where(free & (overlap[place] >= THRESHOLDS[:, None]), overlap[place], -1)
        best = len(true) - 1 - possible[:, ::-1].argmax(axis=1)  # of equal ones the last
        right[:, place] = possible[rows, best] >= 0
        free[rows, best] &= ~right[:, place]
    return right
