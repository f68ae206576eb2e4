"""Scores of classifiers: computed from how often samples of each class are given each class."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.confusion import ClassCounts, Confusion, Counts
from nas_kd.scores.base import RESAMPLES, Draws, Evidence, Score


@dataclass(frozen=True)
class Decisions(Evidence):
    """The classes that a network gives the samples of a split.

    Attributes:
        labels: (N,) class numbers.
        predictions: (N,) class numbers.
        n_classes: number of classes.
    """

    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    n_classes: int

    @property
    def samples(self) -> int:
        """Number of samples of the split."""
        return len(self.labels)

    @cached_property
    def confusion(self) -> Confusion:
        """How often each class was given to samples of each class."""
        return Confusion.of(self.labels, self.predictions, self.n_classes)


class ClassScore(Score):
    """A score of classifiers; see `Score` for the attributes."""

    task: ClassVar[str] = "classification"

    @abstractmethod
    def values(self, counts: ClassCounts) -> Counts:
        """Compute the score of evaluations that are given by class.

        Args:
            counts: (..., C) each.

        Returns:
            (...) values in 0..1.
        """

    @abstractmethod
    def chance(self, train: Sequence[int], split: Sequence[int]) -> float:
        """What a network gets that learned nothing but how large the classes are.

        Args:
            train: training samples by class.
            split: samples by class of the split that is judged.
        """

    @abstractmethod
    def interval_of(self, value: float, confusion: Confusion) -> tuple[float, float]:
        """Compute the 95 % interval around a value that rests on the samples of one split.

        Args:
            value: the score, or its mean over several networks.
            confusion: what it was computed from, or the mean of these matrices.

        Returns:
            Lower and upper end, in 0..1, around the value.
        """

    def value(self, evidence: Decisions) -> float:
        """The score of one network on one split, 0..1."""
        return float(self.values(evidence.confusion.by_class))

    def interval(self, value: float, evidence: Sequence[Decisions]) -> tuple[float, float]:
        """The interval that follows from the mean of the confusion matrices."""
        return self.interval_of(value, Confusion.mean([one.confusion for one in evidence]))

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """What follows from the sizes of the classes."""
        of_train, of_split = (np.bincount(y, minlength=n_outputs).tolist() for y in (train, split))
        return self.chance(of_train, of_split)

    def resampled(self, networks: Sequence[Decisions]) -> Draws:
        """Resample the samples of each class; see `Score.resampled`."""
        generator, first = np.random.default_rng(0), networks[0]
        drawn = [ClassCounts(*np.zeros((3, RESAMPLES, first.n_classes))) for _ in networks]
        for label in np.unique(first.labels):
            there = np.flatnonzero(first.labels == label)
            times = generator.multinomial(len(there), np.full(len(there), 1 / len(there)), size=RESAMPLES)
            weights = times.astype(np.float32)
            for counts, network in zip(drawn, networks, strict=True):
                classes, place = np.unique(network.predictions[there], return_inverse=True)
                given = weights @ np.eye(len(classes), dtype=np.float32)[place]
                counts.labelled[:, label] = len(there)
                counts.predicted[:, classes] += given
                counts.correct[:, label] = given[:, classes == label].sum(axis=1)
        return np.stack([self.values(counts) for counts in drawn])


def bootstrap_by_class(score: ClassScore, confusion: Confusion) -> Counts:
    """Draw the score anew from the samples of each class, `RESAMPLES` times; seeded.

    Args:
        score: that is computed.
        confusion: of one split.

    Returns:
        (RESAMPLES,) values.
    """
    generator = np.random.default_rng(0)
    labels, predictions, counts = confusion.arrays()
    drawn = ClassCounts(*np.zeros((3, RESAMPLES, confusion.n_classes)))
    for label in np.unique(labels):
        cells = labels == label
        total = counts[cells].sum()
        found = generator.multinomial(round(total), counts[cells] / total, size=RESAMPLES)
        drawn.labelled[:, label] = round(total)
        drawn.predicted[:, predictions[cells]] += found
        drawn.correct[:, label] = found[:, predictions[cells] == label].sum(axis=1)
    return score.values(drawn)


def combined_interval(value: float, parts: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Interval of a mean of independent figures from the interval of each (Zou & Donner 2008, MOVER).

    Args:
        value: the mean.
        parts: (figure, lower end, upper end) of each.
    """
    below = hypot(*(figure - low for figure, low, _ in parts)) / len(parts)
    above = hypot(*(high - figure for figure, _, high in parts)) / len(parts)
    return max(0.0, value - below), min(1.0, value + above)
