"""Balanced accuracy: the mean over classes of the share of a class's samples that are right (Brodersen et al. 2010)."""

from collections.abc import Sequence

import numpy as np

from nas_kd.results.confusion import ClassCounts, Confusion, Counts
from nas_kd.results.intervals import wilson_interval
from nas_kd.scores.class_score import ClassScore, combined_interval


class BalancedAccuracy(ClassScore):
    """1/C sum_c n_cc / n_c over the classes that the split has: all classes count alike, however large.

    The interval puts together Wilson's for the recall of each class (MOVER, Zou & Donner 2008): a class of three
    samples that are all right is not taken for perfect. With one class it is Wilson's interval of accuracy.
    """

    name = "balanced_accuracy"
    title = "balanced accuracy"
    unit = "mean over classes of the share of their samples, 0..1"
    summary = "mean of the classes' recalls: all classes count alike, however large"

    def values(self, counts: ClassCounts) -> Counts:
        """Mean recall of the classes that have samples."""
        present = counts.labelled > 0
        recalls = np.where(present, counts.correct / np.where(present, counts.labelled, 1), 0)
        return np.asarray(recalls.sum(axis=-1) / present.sum(axis=-1))

    def chance(self, train: Sequence[int], split: Sequence[int]) -> float:
        """One over the classes of the split: a network that does not look at its input gets that, whatever it says."""
        return 1 / sum(n > 0 for n in split)

    def interval_of(self, value: float, confusion: Confusion) -> tuple[float, float]:
        """Wilson's intervals of all recalls, combined."""
        counts = confusion.by_class
        recalls = [(float(k / n), round(float(n))) for k, n in zip(counts.correct, counts.labelled, strict=True) if n]
        return combined_interval(value, [(share, *wilson_interval(share, n)) for share, n in recalls])


PLUGIN = BalancedAccuracy()
