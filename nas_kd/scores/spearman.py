"""Spearman's rank correlation: whether pairs of samples are alike in the order in which their targets are."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.scores.sample_score import Predictions, SampleScore, Weights

MOST = 1000  # samples whose pairs are compared; of more, evenly spaced ones


class Spearman(SampleScore):
    """Correlation of the ranks of pairs by the cosine of two outputs and by that of their targets; below 0 counts as 0.

    In a resample the pair (i, j) counts w_i w_j times; ranks are those among all pairs of the split.
    """

    name = "spearman"
    title = "Spearman"
    unit = "rank correlation of pairs by their cosines and by those of the targets, 0..1"
    summary = "whether pairs of samples are alike in the same order as their target vectors"
    task: ClassVar[str] = "vectors"

    def weighted(self, evidence: Predictions, weights: Weights) -> Weights:
        """From weighted sums over pairs."""
        rows = np.linspace(0, evidence.samples - 1, min(MOST, evidence.samples)).astype(np.int64)
        drawn = weights[:, rows]
        ours, theirs = _ranks(evidence.outputs[rows]), _ranks(evidence.targets[rows])
        total = np.maximum(1, np.square(drawn.sum(axis=1)) - np.square(drawn).sum(axis=1))  # ordered pairs
        mean, their_mean = _pairs(drawn, ours) / total, _pairs(drawn, theirs) / total
        common = _pairs(drawn, ours * theirs) / total - mean * their_mean
        variance = _pairs(drawn, ours * ours) / total - mean**2
        their_variance = _pairs(drawn, theirs * theirs) / total - their_mean**2
        spread = np.sqrt(np.maximum(0, variance) * np.maximum(0, their_variance))
        return np.asarray(np.divide(common, spread, out=np.zeros_like(common), where=spread > 0).clip(0, 1))

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """0: vectors drawn at random say nothing."""
        return 0.0


def _ranks(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, N) ranks of pairs by cosine, their mean subtracted; 0 on the diagonal."""
    upper = np.triu_indices(len(vectors), 1)
    ranks = _shared_ranks((vectors @ vectors.T)[upper])
    found = np.zeros((len(vectors), len(vectors)))
    found[upper] = ranks - ranks.mean() if len(ranks) else ranks
    return found + found.T


def _shared_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,) ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])


def _pairs(weights: Weights, values: NDArray[np.float64]) -> Weights:
    """(R,) sums of w_i w_j v_ij over ordered pairs; v is 0 on the diagonal."""
    return np.asarray(((weights @ values) * weights).sum(axis=1))


PLUGIN = Spearman()
