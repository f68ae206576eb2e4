"""R2, the share of the targets' variance that a network explains."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.scores.sample_score import Predictions, SampleScore, Weights


class R2(SampleScore):
    """1/k sum_j max(0, 1 - sum_i (y_ij - z_ij)^2 / sum_i (y_ij - mean_j)^2) over the targets that vary.

    A target that is predicted worse than by its mean counts as not explained at all, so that the score is in 0..1.
    """

    name = "r2"
    title = "R2"
    unit = "mean over targets of the share of the variance that is explained, 0..1"
    summary = "share of the targets' variance that is explained; worse than naming the mean counts as 0"
    task: ClassVar[str] = "regression"

    def weighted(self, evidence: Predictions, weights: Weights) -> Weights:
        """From the sums of squares of each resample."""
        y, total = evidence.targets, weights.sum(axis=1, keepdims=True)
        y = y - y.mean(axis=0)  # the same sums, without cancellation
        left = weights @ np.square(evidence.targets - evidence.outputs)
        spread = weights @ np.square(y) - np.square(weights @ y) / total
        varies = spread > 0
        explained = np.clip(1 - np.divide(left, spread, out=np.ones_like(left), where=varies), 0, 1)
        return np.asarray((explained * varies).sum(axis=1) / np.maximum(1, varies.sum(axis=1)))

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """0: what naming the mean gets."""
        return 0.0


PLUGIN = R2()
