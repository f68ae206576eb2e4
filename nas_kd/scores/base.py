"""The interface of scores: what a search makes as good as it can. A file in this folder adds one.

A score reads statistics of one split: how often samples of each class were given each class. It states its value, what
guessing gives, and its 95 % interval; everything that is decided on validation is decided on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.plugins import load
from nas_kd.results.confusion import ClassCounts, Confusion, Counts
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.intervals import interval_over_seeds, paired_gain, paired_interval
from nas_kd.results.run_record import MetricRecord

DEFAULT_SCORE = "accuracy"
RESAMPLES = 1000  # of a bootstrap


class Score(ABC):
    """A score plug-in, in 0..1.

    Attributes:
        name: the name in configs (`data.score`).
        title: the name in sentences.
        unit: what its value is a share of.
        summary: one line for `nas-kd list scores`.
        higher_is_better: whether the search maximises it; a score that falls has to be turned round by its plug-in.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    summary: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

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
    def interval(self, value: float, confusion: Confusion) -> tuple[float, float]:
        """Compute the 95 % interval around a value that rests on the samples of one split.

        Args:
            value: the score, or its mean over several networks.
            confusion: what it was computed from, or the mean of these matrices.

        Returns:
            Lower and upper end, in 0..1, around the value.
        """

    def value(self, confusion: Confusion) -> float:
        """The score of one network on one split, 0..1."""
        return float(self.values(confusion.by_class))

    def of(self, confusion: Confusion) -> Accuracy:
        """The score of one network on one split, with its 95 % interval."""
        value = self.value(confusion)
        low, high = self.interval(value, confusion)
        return Accuracy(mean=value, low=low, high=high, samples=confusion.samples)

    def over_seeds(self, confusions: Sequence[Confusion]) -> Accuracy:
        """The mean over seeds with its 95 % interval.

        The error of the sampled split and that of the mean over seeds add in quadrature, on each side separately.

        Args:
            confusions: of each seed's network, all on the same split; at least one.
        """
        values = [self.value(confusion) for confusion in confusions]
        pooled = Confusion.mean(confusions)
        return interval_over_seeds(values, pooled.samples, lambda mean: self.interval(mean, pooled))

    def gain(self, a: Sequence["Decisions"], b: Sequence["Decisions"]) -> Accuracy:
        """Compute the mean of score(a) - score(b), paired by seed, with its 95 % interval (-1..1).

        Two errors add in quadrature: Student's t over the pairs, and the sampled split's, by a bootstrap over the
        samples that both networks are judged on (stratified by class, seeded, `RESAMPLES` draws). The interval is never
        narrower than that of a gain in accuracy of the same size, see `paired_gain`.

        Args:
            a: of one network by seed.
            b: of the other by seed, on the same samples in the same order.
        """
        mine, theirs = ([self.value(d.confusion) for d in group] for group in (a, b))
        drawn = resampled_scores(self, [*a, *b])
        differences = drawn[: len(a)].mean(axis=0) - drawn[len(a) :].mean(axis=0)
        low, middle, high = (float(v) for v in np.percentile(differences, [2.5, 50, 97.5]))
        least = paired_gain(mine, theirs, len(a[0].labels))
        return paired_interval(mine, theirs, least, below=middle - low, above=high - middle)

    def metric(self, train: Sequence[int], split: Sequence[int]) -> MetricRecord:
        """What a run keeps of this score.

        Args:
            train: training samples by class.
            split: validation samples by class.
        """
        return MetricRecord(
            name=self.name,
            title=self.title,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            chance=self.chance(train, split),
        )


def load_score(name: str) -> Score:
    """Find a score by name.

    Raises:
        InputError: there is none of this name, or it is no score.
    """
    return load("score", name, Score)  # type: ignore[type-abstract]


@dataclass(frozen=True)
class Decisions:
    """The classes that a network gives the samples of a split.

    Attributes:
        labels: (N,) class numbers.
        predictions: (N,) class numbers.
        n_classes: number of classes.
    """

    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    n_classes: int

    @cached_property
    def confusion(self) -> Confusion:
        """How often each class was given to samples of each class."""
        return Confusion.of(self.labels, self.predictions, self.n_classes)


def bootstrap_by_class(score: Score, confusion: Confusion) -> Counts:
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


def resampled_scores(score: Score, networks: Sequence[Decisions]) -> Counts:
    """Draw the scores of several networks anew, all on the same resamples of the samples of each class; seeded.

    Args:
        score: that is computed.
        networks: their decisions on the same samples in the same order.

    Returns:
        (networks, RESAMPLES) values.
    """
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
    return np.stack([score.values(counts) for counts in drawn])
