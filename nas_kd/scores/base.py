"""The interface of scores: what a search makes as good as it can. A file in this folder adds one.

A score reads what a network did with the samples of one split, its evidence, whose type is the task's. It states its
value, what guessing gets, and its 95 % interval; everything that is decided on validation is decided on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.errors import InputError
from nas_kd.plugins import available, load
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.intervals import interval_over_seeds, paired_gain, paired_interval
from nas_kd.results.run_record import MetricRecord

DEFAULT_SCORE = "accuracy"
RESAMPLES = 1000  # of a bootstrap
Draws = NDArray[np.float64]


class Evidence(ABC):
    """What a network did with the samples of one split: all that the scores of a task are computed from."""

    @property
    @abstractmethod
    def samples(self) -> int:
        """Number of samples of the split."""


class Score(ABC):
    """A score plug-in, in 0..1.

    Attributes:
        name: the name in configs (`data.score`).
        title: the name in sentences.
        unit: what its value is a share of.
        summary: one line for `nas-kd list scores`.
        task: the task whose networks it judges.
        higher_is_better: whether the search maximises it; a score that falls has to be turned round by its plug-in.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    summary: ClassVar[str]
    task: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def value(self, evidence: Any) -> float:
        """The score of one network on one split, 0..1."""

    @abstractmethod
    def interval(self, value: float, evidence: Sequence[Any]) -> tuple[float, float]:
        """Compute the 95 % interval that the sampled split leaves around a score, or around its mean over networks.

        Args:
            value: the score, or its mean.
            evidence: that it was computed from: of one network, or of several on the same split.

        Returns:
            Lower and upper end, in 0..1, around the value.
        """

    @abstractmethod
    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """What a network gets that learned nothing but what the training targets are like.

        Args:
            train: targets of the training samples, (N, ...).
            split: targets of the split that is judged, (M, ...).
            n_outputs: number of classes or of other outputs.
        """

    @abstractmethod
    def resampled(self, networks: Sequence[Any]) -> Draws:
        """Draw the scores of several networks anew, all on the same resamples of the split's samples; seeded.

        Args:
            networks: their evidence, on the same samples in the same order.

        Returns:
            (networks, RESAMPLES) values.
        """

    def of(self, evidence: Any) -> Accuracy:
        """The score of one network on one split, with its 95 % interval."""
        value = self.value(evidence)
        low, high = self.interval(value, [evidence])
        return Accuracy(mean=value, low=low, high=high, samples=evidence.samples)

    def over_seeds(self, evidence: Sequence[Any]) -> Accuracy:
        """The mean over seeds with its 95 % interval.

        The error of the sampled split and that of the mean over seeds add in quadrature, on each side separately.

        Args:
            evidence: of each seed's network, all on the same split; at least one.
        """
        values = [self.value(one) for one in evidence]
        return interval_over_seeds(values, evidence[0].samples, lambda mean: self.interval(mean, evidence))

    def gain(self, a: Sequence[Any], b: Sequence[Any]) -> Accuracy:
        """Compute the mean of score(a) - score(b), paired by seed, with its 95 % interval (-1..1).

        Two errors add in quadrature: Student's t over the pairs, and the sampled split's, by a bootstrap over the
        samples that both networks are judged on (seeded, `RESAMPLES` draws). The interval is never narrower than that
        of a gain in accuracy of the same size, see `paired_gain`.

        Args:
            a: evidence of one network by seed.
            b: of the other by seed, on the same samples in the same order.
        """
        mine, theirs = ([self.value(one) for one in group] for group in (a, b))
        drawn = self.resampled([*a, *b])
        differences = drawn[: len(a)].mean(axis=0) - drawn[len(a) :].mean(axis=0)
        low, middle, high = (float(v) for v in np.percentile(differences, [2.5, 50, 97.5]))
        least = paired_gain(mine, theirs, a[0].samples)
        return paired_interval(mine, theirs, least, below=middle - low, above=high - middle)

    def metric(self, chance: float) -> MetricRecord:
        """What a run keeps of this score.

        Args:
            chance: what guessing gets on validation.
        """
        return MetricRecord(
            name=self.name,
            title=self.title,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            chance=chance,
        )


def load_score(name: str, task: str | None = None) -> Score:
    """Find a score by name.

    Args:
        name: in the registry, or `package.module:Name`.
        task: that it has to be for; None: any.

    Raises:
        InputError: there is none of this name, it is no score, or it is one of another task.
    """
    score = load("score", name, Score)  # type: ignore[type-abstract]
    if task not in (None, score.task):
        there = ", ".join(n for n, s in available("score").items() if s.task == task)
        raise InputError(f"score {name!r} is for {score.task}; scores for {task}: {there}")
    return score
