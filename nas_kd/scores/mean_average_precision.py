"""Mean average precision of labels: how far samples with a label are ranked before those without it."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.scores.sample_score import Predictions, SampleScore, Weights


class MeanAveragePrecision(SampleScore):
    """1/C sum_c AP_c over the labels that occur, AP_c = sum_n (R_n - R_(n-1)) P_n over the thresholds of label c."""

    name = "mean_average_precision"
    title = "mean average precision"
    unit = "mean over labels of average precision, 0..1"
    summary = "mean over labels of the area under precision by recall; needs no threshold"
    task: ClassVar[str] = "multi_label"

    def weighted(self, evidence: Predictions, weights: Weights) -> Weights:
        """Average over the labels that a resample has."""
        columns = zip(evidence.outputs.T, evidence.targets.T, strict=True)
        found = np.stack([average_precision(scores, there, weights) for scores, there in columns])
        return np.nan_to_num(_mean_of_known(found))

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """The mean share of samples with a label, of the labels that occur: what a random ranking expects."""
        shares = split.mean(axis=0)
        return float(shares[shares > 0].mean()) if (shares > 0).any() else 0.0


def average_precision(scores: NDArray[Any], there: NDArray[Any], weights: Weights) -> Weights:
    """Average precision of one label, for several resamples of the samples; NaN where none has the label.

    Args:
        scores: (N,) of the samples; equal ones share a threshold.
        there: (N,) 1 for samples with the label, else 0.
        weights: (R, N) how often each sample counts.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of the samples with one threshold
    right = np.cumsum(weights[:, order] * there[order], axis=1)[:, last]
    given = np.cumsum(weights[:, order], axis=1)[:, last]
    precision = np.divide(right, given, out=np.zeros_like(right), where=given > 0)
    gained = np.diff(right, axis=1, prepend=0.0)
    total = right[:, -1]
    found = np.full_like(total, np.nan)
    np.divide((gained * precision).sum(axis=1), total, out=found, where=total > 0)
    return found


def _mean_of_known(values: Weights) -> Weights:
    """Mean (R,) of the rows (C, R) that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(1, count), np.nan))


PLUGIN = MeanAveragePrecision()
