"""Macro-F1 of labels, each given where its probability is 1/2 at least."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.scores.sample_score import Predictions, SampleScore, Weights


class LabelF1(SampleScore):
    """1/C sum_c 2 n_cc / (n_c + m_c) over the labels that occur: n_c samples with the label, m_c samples given it."""

    name = "label_f1"
    title = "macro-F1 of labels"
    unit = "mean over labels of F1 at probability 1/2, 0..1"
    summary = "mean over labels of F1, each label given where its probability is 1/2 at least"
    task: ClassVar[str] = "multi_label"

    def weighted(self, evidence: Predictions, weights: Weights) -> Weights:
        """Average over the labels that a resample has or is given."""
        given, there = (evidence.outputs >= 0).astype(np.float64), evidence.targets
        hit, total = weights @ (given * there), weights @ (given + there)
        f1 = np.divide(2 * hit, total, out=np.zeros_like(hit), where=total > 0)
        return np.asarray(f1.sum(axis=1) / np.maximum(1, (total > 0).sum(axis=1)))

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """For each label the better of always giving it and of giving it as often as training samples have it."""
        p, q = train.mean(axis=0), split.mean(axis=0)
        present = q > 0
        always = 2 * q / (1 + q)
        drawn = np.divide(2 * p * q, p + q, out=np.zeros_like(q), where=p + q > 0)
        return float(np.maximum(always, drawn)[present].mean()) if present.any() else 0.0


PLUGIN = LabelF1()
