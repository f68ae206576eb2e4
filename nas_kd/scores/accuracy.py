"""Accuracy: the share of samples that are given their own class."""

from collections.abc import Sequence

import numpy as np

from nas_kd.results.confusion import ClassCounts, Confusion, Counts, is_unbalanced, largest_class_share
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.intervals import paired_gain, wilson_interval
from nas_kd.scores.class_score import ClassScore, Decisions


class AccuracyScore(ClassScore):
    """sum_c n_cc / N, with Wilson's interval."""

    name = "accuracy"
    title = "accuracy"
    unit = "share of samples, 0..1"
    summary = "share of samples that are right; large classes count for more"

    def values(self, counts: ClassCounts) -> Counts:
        """Right samples over all samples."""
        return np.asarray(counts.correct.sum(axis=-1) / counts.labelled.sum(axis=-1))

    def chance(self, train: Sequence[int], split: Sequence[int]) -> float:
        """1 / C; where classes are unbalanced, what always naming the largest class gets."""
        return largest_class_share(train, split) if is_unbalanced(train) else 1 / len(split)

    def interval_of(self, value: float, confusion: Confusion) -> tuple[float, float]:
        """Wilson's interval of a share (1927)."""
        return wilson_interval(value, confusion.samples)

    def gain(self, a: Sequence[Decisions], b: Sequence[Decisions]) -> Accuracy:
        """In closed form, see `paired_gain`."""
        mine, theirs = ([self.value(d) for d in group] for group in (a, b))
        return paired_gain(mine, theirs, len(a[0].labels))


PLUGIN = AccuracyScore()
