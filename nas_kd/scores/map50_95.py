"""COCO's mean average precision of boxes: over classes, and over overlaps from 0.5 to 0.95."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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

    def by_class(self, evidence: FoundBoxes) -> list[float | None]:
        """Average precision of each class; None: there is none of it in the split."""
        found = evidence.average_precisions(np.ones((1, evidence.samples)), self.thresholds)[:, 0]
        return [None if np.isnan(value) else float(value) for value in found]

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """0: boxes that are placed without a look at the picture hardly ever fit."""
        return 0.0


PLUGIN = Map50To95()
