"""What a classifier did with the samples of a split, by class: the matrix that its scores follow from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_kd.results.trial_record import Record

Counts = NDArray[np.float64]
MIN_IMBALANCE = 2.0  # times as many training samples in the largest class as in the smallest


class ClassCounts(NamedTuple):
    """Samples by class, each (..., C): leading axes hold several evaluations, such as resamples.

    Attributes:
        labelled: samples of the class.
        predicted: samples that were given the class.
        correct: samples of the class that were given it.
    """

    labelled: Counts
    predicted: Counts
    correct: Counts


class Confusion(Record):
    """A confusion matrix, of which only the cells that hold samples are kept.

    Attributes:
        n_classes: number of classes.
        labels: class of the samples in each cell.
        predictions: class that they were given.
        counts: how many they are; a fraction in the mean of several matrices.
    """

    n_classes: int
    labels: tuple[int, ...]
    predictions: tuple[int, ...]
    counts: tuple[float, ...]

    @staticmethod
    def of(labels: ArrayLike, predictions: ArrayLike, n_classes: int) -> "Confusion":
        """Count decisions.

        Args:
            labels: (N,) class numbers in 0..n_classes - 1.
            predictions: (N,) the classes that a network gives the same samples.
            n_classes: number of classes.
        """
        cells = np.asarray(labels, dtype=np.int64) * n_classes + np.asarray(predictions, dtype=np.int64)
        found, counts = np.unique(cells, return_counts=True)
        return _matrix(n_classes, found, counts)

    @staticmethod
    def mean(matrices: Sequence["Confusion"]) -> "Confusion":
        """Average matrices of the same split, cell by cell.

        Args:
            matrices: at least one.
        """
        n_classes = matrices[0].n_classes
        cells = np.concatenate([np.asarray(m.labels) * n_classes + np.asarray(m.predictions) for m in matrices])
        found, place = np.unique(cells.astype(np.int64), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([m.counts for m in matrices]), minlength=len(found))
        return _matrix(n_classes, found, counts / len(matrices))

    @property
    def samples(self) -> int:
        """Number of samples of the split."""
        return round(sum(self.counts))

    @property
    def by_class(self) -> ClassCounts:
        """Samples by class, (C,) each."""
        labels, predictions, counts = self.arrays()
        hit = labels == predictions

        def total(classes: NDArray[np.int64], weights: Counts) -> Counts:
            return np.bincount(classes, weights=weights, minlength=self.n_classes).astype(np.float64)

        return ClassCounts(total(labels, counts), total(predictions, counts), total(labels[hit], counts[hit]))

    @property
    def accuracy(self) -> float:
        """Share of samples that were given their own class, 0..1."""
        right = sum(n for y, p, n in zip(self.labels, self.predictions, self.counts, strict=True) if y == p)
        return right / sum(self.counts)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Counts]:
        """Labels, predictions and counts of the cells, (cells,) each."""
        labels, predictions = np.asarray(self.labels, dtype=np.int64), np.asarray(self.predictions, dtype=np.int64)
        return labels, predictions, np.asarray(self.counts, dtype=np.float64)

    def matrix(self) -> Counts:
        """The whole matrix (C, C): rows are labels, columns predictions."""
        labels, predictions, counts = self.arrays()
        whole = np.zeros((self.n_classes, self.n_classes))
        whole[labels, predictions] = counts
        return whole


def is_unbalanced(counts: Sequence[int]) -> bool:
    """Return whether the largest class has at least `MIN_IMBALANCE` times the samples of the smallest.

    Args:
        counts: training samples by class; empty: not known.
    """
    return bool(counts) and max(counts) >= MIN_IMBALANCE * max(1, min(counts))


def largest_class_share(train: Sequence[int], split: Sequence[int]) -> float:
    """Accuracy of always naming the largest class of the training split, 0..1.

    Args:
        train: training samples by class.
        split: samples by class of the split that accuracy is taken on; at least one.
    """
    return split[int(np.argmax(train))] / sum(split)


def _matrix(n_classes: int, cells: NDArray[np.int64], counts: ArrayLike) -> Confusion:
    return Confusion(
        n_classes=n_classes,
        labels=tuple((cells // n_classes).tolist()),
        predictions=tuple((cells % n_classes).tolist()),
        counts=tuple(np.asarray(counts, dtype=np.float64).tolist()),
    )
