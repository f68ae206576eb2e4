"""Scores of vectors of identities: computed from cosines, with a bootstrap over identities."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.intervals import t_quantile
from nas_kd.scores.base import RESAMPLES, Draws, Evidence, Score

ROWS = 512  # samples compared with all others at a time
MOST = 3000  # samples whose pairs are looked at; of more, some of every identity
HIGHEST = 0.05  # share of the pairs of two identities that are kept, the most alike: false alarms are among these
Z_95 = 1.959964


class Pairs(NamedTuple):
    """Pairs of samples, by cosine.

    Attributes:
        same: (P,) cosines of pairs of one identity, descending.
        same_of: (P,) their identity.
        other: (Q,) the largest cosines of pairs of two identities, descending.
        first: (Q,) one of their identities.
        second: (Q,) the other.
        n_other: how many pairs of two identities there are.
    """

    same: NDArray[np.float32]
    same_of: NDArray[np.int64]
    other: NDArray[np.float32]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    n_other: int


@dataclass(frozen=True, eq=False)
class Embeddings(Evidence):
    """Vectors of the samples of a split, beside their identities.

    Attributes:
        vectors: (N, d) of length 1.
        identities: (N,) numbers 0..G-1.
    """

    vectors: NDArray[np.float32]
    identities: NDArray[np.int64]

    @staticmethod
    def of(outputs: NDArray[np.float32], y: NDArray[Any]) -> "Embeddings":
        """Bring vectors (N, d) to length 1, and number identities (N,) from 0; a vector of length 0 stays so."""
        return Embeddings(unit(outputs), np.unique(y, return_inverse=True)[1].reshape(-1))

    @property
    def samples(self) -> int:
        """Number of samples of the split."""
        return len(self.identities)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(G,) samples of each identity."""
        return np.bincount(self.identities)

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """(G,) how many samples of each identity are nearer to another of it than to any of another identity."""
        found = np.zeros(len(self.sizes), dtype=np.int64)
        for start in range(0, self.samples, ROWS):
            mine = self.identities[start : start + ROWS]
            cosines = self.vectors[start : start + ROWS] @ self.vectors.T
            same = mine[:, None] == self.identities
            others = np.where(same, -np.inf, cosines).max(axis=1)
            same[np.arange(len(mine)), start + np.arange(len(mine))] = False
            own = np.where(same, cosines, -np.inf).max(axis=1)
            found += np.bincount(mine, weights=own > others, minlength=len(found)).astype(np.int64)
        return found

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of two samples; of more than `MOST` samples, those of as many, evenly from all identities."""
        order = np.argsort(self.identities, kind="stable")
        rows = order[np.unique(np.linspace(0, len(order) - 1, min(MOST, len(order))).round().astype(np.int64))]
        vectors, identities = self.vectors[rows], self.identities[rows]
        above = np.triu_indices(len(rows), 1)
        cosines, first, second = (vectors @ vectors.T)[above], identities[above[0]], identities[above[1]]
        same = first == second
        own, other = np.flatnonzero(same), np.flatnonzero(~same)
        kept = max(1, min(len(other), round(HIGHEST * len(other)) + 1))
        top = other[np.argpartition(-cosines[other], kept - 1)[:kept]] if len(other) else other
        own, top = (place[np.argsort(-cosines[place], kind="stable")] for place in (own, top))
        return Pairs(cosines[own], first[own], cosines[top], first[top], second[top], len(other))


class IdentityScore(Score):
    """A score of vectors. Its interval is a percentile bootstrap over identities (seeded, `RESAMPLES` draws).

    Samples of one identity succeed or fail together, so that whole identities are drawn. Few identities make a
    bootstrap too narrow: deviations from the middle are stretched by t / z sqrt(G / (G - 1)) for G identities. An
    interval is never narrower than what no error in as many samples leaves open: without errors a bootstrap has no
    width.
    """

    task: ClassVar[str] = "embedding"

    @abstractmethod
    def weighted(self, evidence: Embeddings, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the score of several resamples.

        Args:
            evidence: of one network on one split.
            times: (R, G) how often each identity was drawn.

        Returns:
            (R,) values in 0..1.
        """

    def value(self, evidence: Embeddings) -> float:
        """The score with every identity drawn once."""
        return float(self.weighted(evidence, np.ones((1, len(evidence.sizes))))[0])

    def interval(self, value: float, evidence: Sequence[Embeddings]) -> tuple[float, float]:
        """Percentiles of the mean over the networks, all on the same resamples."""
        drawn = self.resampled(evidence).mean(axis=0)
        low, middle, high = (float(v) for v in np.percentile(drawn, [2.5, 50, 97.5]))
        least = 3.0 / (evidence[0].samples + 3)  # rule of three: what no error in N samples leaves open
        below, above = max(middle - low, least), max(high - middle, least)
        return max(0.0, value - below), min(1.0, value + above)

    def resampled(self, networks: Sequence[Embeddings]) -> Draws:
        """Resample whole identities; see `Score.resampled`."""
        n_groups = len(networks[0].sizes)
        generator = np.random.default_rng(0)
        times = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=RESAMPLES).astype(np.float64)
        drawn = np.stack([self.weighted(network, times) for network in networks])
        counted = max(2, int((networks[0].sizes > 1).sum()))
        stretch = t_quantile(counted - 1) / Z_95 * sqrt(counted / (counted - 1))
        middle = np.median(drawn, axis=1, keepdims=True)
        return np.asarray(middle + stretch * (drawn - middle))


def accepted_above(pairs: Pairs, allowed: float, weights: NDArray[np.float64] | None = None) -> float:
    """The largest cosine that has to be refused so that no more pairs of two identities are accepted than allowed.

    Args:
        pairs: of a split.
        allowed: number of these pairs, by weight.
        weights: (Q,) of the pairs of two identities; None: all count alike.

    Returns:
        What pairs have to be above.
    """
    counted = np.arange(1, len(pairs.other) + 1) if weights is None else np.cumsum(weights)
    place = int(np.searchsorted(counted, allowed, side="right"))
    return float(pairs.other[min(place, len(pairs.other) - 1)]) if len(pairs.other) else -2.0


def verification_threshold(evidence: Embeddings, far: float) -> float:
    """The cosine from which two samples are taken for one identity, half-way to the next pair above.

    Args:
        evidence: of a network on validation.
        far: share of pairs of two identities that may be accepted.
    """
    pairs = evidence.pairs
    refused = accepted_above(pairs, far * pairs.n_other)
    above = [float(c[c > refused].min(initial=1.0)) for c in (pairs.same, pairs.other)]
    return (refused + min(above)) / 2


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring vectors (N, d) to length 1; one of length 0 stays so."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors, dtype=np.float32), where=length > 0))
