"""COCO's mean average precision of boxes: over classes, and over overlaps from 0.5 to 0.95."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.finalist_record import ClassScores
from nas_kd.scores.box_matches import FoundBoxes
from nas_kd.scores.sample_score import SampleScore, Weights


class Map50To95(SampleScore):
    """1/C sum_c AP_c over the classes that occur, AP_c the mean over ten overlaps at which a box counts as right.

    Of few pictures it is too high on average, since it takes the largest precision from each recall on. So the interval
    is that of the basic bootstrap, which allows for it (Davison & Hinkley 1997, section 5.2.1).
    """

    name = "map50_95"
    title = "mAP50-95"
    unit = "mean over classes and overlaps of average precision, 0..1"
    summary = "COCO's mean average precision of boxes, over overlaps from 0.5 to 0.95"
    task: ClassVar[str] = "detection"
    thresholds: ClassVar[slice] = slice(None)

    def weighted(self, evidence: FoundBoxes, weights: Weights) -> Weights:
        """Average over the classes that a resample has."""
        found = evidence.average_precisions(weights, self.thresholds)
        known = ~np.isnan(found)
        total = np.where(known, found, 0).sum(axis=0)
        return np.asarray(total / np.maximum(1, known.sum(axis=0)))

    def reach(self, value: float, drawn: Weights) -> tuple[float, float]:
        """As far below the value as resamples come above it, and the other way round."""
        low, high = (float(v) for v in np.percentile(drawn, [2.5, 97.5]))
        return high - value, value - low

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """0: boxes that are placed without a look at the picture hardly ever fit."""
        return 0.0


def precision_by_class(evidence: FoundBoxes) -> ClassScores:
    """Average precision of each class with its 95 % interval, by a bootstrap over pictures."""
    there = [one.true.any() for one in evidence.matches]
    values = tuple(_OneClass(c).of(evidence) if known else None for c, known in enumerate(there))
    return ClassScores(title="average precision (overlaps from 0.5 to 0.95)", values=values)


class _OneClass(Map50To95):
    """Average precision of a single class."""

    def __init__(self, number: int) -> None:
        self.number = number

    def weighted(self, evidence: FoundBoxes, weights: Weights) -> Weights:
        """Of this class; 0 in a resample without any of its boxes."""
        found = evidence.matches[self.number].average_precision(weights, self.thresholds)
        return np.asarray(np.nan_to_num(found.mean(axis=0)))


PLUGIN = Map50To95()
