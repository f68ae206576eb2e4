"""Recall@1: how often a sample's nearest neighbour is of its identity (Jégou et al. 2011, TPAMI 33(1))."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.scores.embeddings import Embeddings, IdentityScore


class RecallAt1(IdentityScore):
    """Share of the samples whose largest cosine to any other sample of the split is to one of their identity.

    Samples whose identity has no other are no questions, but may be wrong answers. Equal cosines count as wrong.
    """

    name = "recall_at_1"
    title = "recall@1"
    unit = "share of samples whose nearest neighbour is of their identity, 0..1"
    summary = "share of samples whose nearest neighbour in the split, by cosine, is of their identity"

    def weighted(self, evidence: Embeddings, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Right samples over samples that could be right, of the identities that were drawn."""
        asked = np.where(evidence.sizes > 1, evidence.sizes, 0)
        total = times @ asked
        return np.divide(times @ evidence.hits, total, out=np.zeros_like(total), where=total > 0)

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """A neighbour drawn at random from the others: the mean of (n_g - 1) / (N - 1) over the samples."""
        sizes = np.unique(split, return_counts=True)[1]
        asked = sizes[sizes > 1]
        return float((asked * (asked - 1)).sum() / asked.sum() / (len(split) - 1)) if len(asked) else 0.0


PLUGIN = RecallAt1()
