"""Scores of networks whose outputs are compared with targets sample by sample, with a bootstrap over samples."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.scores.base import RESAMPLES, Draws, Evidence, Score

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions(Evidence):
    """What a network returns for the samples of a split, beside their targets.

    Attributes:
        outputs: (N, k).
        targets: (N, k).
    """

    outputs: NDArray[np.float64]
    targets: NDArray[np.float64]

    @property
    def samples(self) -> int:
        """Number of samples of the split."""
        return len(self.targets)


class SampleScore(Score):
    """A score that is computed anew for each resample of a split: samples count as often as they are drawn.

    The interval is a percentile bootstrap over samples (seeded, `RESAMPLES` draws), moved to the value. It is never
    narrower than one sample more or less would make it: without errors a bootstrap has no width.
    """

    @abstractmethod
    def weighted(self, evidence: Any, weights: Weights) -> Weights:
        """Compute the score of several resamples.

        Args:
            evidence: of one network on one split.
            weights: (R, N) how often each sample was drawn.

        Returns:
            (R,) values in 0..1.
        """

    def value(self, evidence: Any) -> float:
        """The score with every sample drawn once."""
        return float(self.weighted(evidence, np.ones((1, evidence.samples)))[0])

    def interval(self, value: float, evidence: Sequence[Any]) -> tuple[float, float]:
        """Percentiles of the mean over the networks, all on the same resamples."""
        below, above = self.reach(value, self.resampled(evidence).mean(axis=0))
        least = 3.0 / (evidence[0].samples + 3)  # rule of three: what no error in N samples leaves open
        return max(0.0, value - max(below, least * value)), min(1.0, value + max(above, least * (1 - value)))

    def reach(self, value: float, drawn: Weights) -> tuple[float, float]:
        """How far the interval reaches below and above a value.

        Args:
            value: the score.
            drawn: (R,) of resamples.
        """
        low, middle, high = (float(v) for v in np.percentile(drawn, [2.5, 50, 97.5]))
        return middle - low, high - middle

    def resampled(self, networks: Sequence[Any]) -> Draws:
        """Resample whole samples; see `Score.resampled`."""
        weights = _draws(networks[0].samples)
        return np.stack([self.weighted(network, weights) for network in networks])


@lru_cache(maxsize=4)
def _draws(samples: int) -> Weights:
    generator = np.random.default_rng(0)
    return generator.multinomial(samples, np.full(samples, 1 / samples), size=RESAMPLES).astype(np.float64)
