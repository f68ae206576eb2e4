"""Macro-F1: the mean over classes of the harmonic mean of precision and recall (van Rijsbergen 1979)."""

from collections.abc import Sequence

import numpy as np

from nas_kd.results.confusion import ClassCounts, Confusion, Counts
from nas_kd.results.intervals import wilson_interval
from nas_kd.scores.class_score import ClassScore, bootstrap_by_class, combined_interval


class MacroF1(ClassScore):
    """1/C sum_c 2 n_cc / (n_c + m_c) over the classes that occur: n_c samples of the class, m_c samples given it.

    The interval is a percentile bootstrap over samples, stratified by class and seeded, moved to the value. It is never
    narrower than what the classes' own intervals give: n_cc of the n_c + m_c - n_cc samples that are of the class or
    given it is a share J with Wilson's interval, and F1 = 2 J / (1 + J). Without errors a bootstrap has no width.
    """

    name = "macro_f1"
    title = "macro-F1"
    unit = "mean over classes of F1, 0..1"
    summary = "mean of the classes' F1: false alarms of a class count as well as misses"

    def values(self, counts: ClassCounts) -> Counts:
        """Mean F1 of the classes that occur, as label or as prediction."""
        total = counts.labelled + counts.predicted
        present = total > 0
        f1 = np.where(present, 2 * counts.correct / np.where(present, total, 1), 0)
        return np.asarray(f1.sum(axis=-1) / present.sum(axis=-1))

    def chance(self, train: Sequence[int], split: Sequence[int]) -> float:
        """The better of always naming the largest class and of drawing classes as often as training samples have them.

        With shares p_c in training and q_c in the split, drawing expects an F1 of 2 p_c q_c / (p_c + q_c) for a class.
        """
        p, q = np.asarray(train) / max(1, sum(train)), np.asarray(split) / sum(split)
        total, largest = p + q, q[int(np.argmax(p))]
        drawn = np.where(total > 0, 2 * p * q / np.where(total > 0, total, 1), 0).sum() / max(1, (total > 0).sum())
        always = 2 * largest / (1 + largest) / max(1, (q > 0).sum())
        return float(max(drawn, always))

    def interval_of(self, value: float, confusion: Confusion) -> tuple[float, float]:
        """Bootstrap, no narrower than Wilson's intervals of all classes combined."""
        drawn = bootstrap_by_class(self, confusion)
        middle = float(np.median(drawn))
        low, high = (float(end) for end in np.percentile(drawn, [2.5, 97.5]))
        least_low, least_high = combined_interval(value, list(_intervals_by_class(confusion)))
        return max(0.0, min(value - (middle - low), least_low)), min(1.0, max(value + (high - middle), least_high))


def _intervals_by_class(confusion: Confusion) -> list[tuple[float, float, float]]:
    found = []
    for n, m, k in zip(*confusion.by_class, strict=True):
        if (either := float(n + m - k)) > 0:
            share = min(1.0, float(k) / either)
            low, high = wilson_interval(share, max(1, round(either)))
            found.append((_f1(share), _f1(low), _f1(high)))
    return found


def _f1(share: float) -> float:
    """F1 from the share of true positives among all samples that are of a class or given it."""
    return 2 * share / (1 + share)


PLUGIN = MacroF1()
