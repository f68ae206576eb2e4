"""What tasks have in common whose networks return vectors of length 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_kd.scores.embeddings import unit
from nas_kd.tasks.base import DecisionKind, Differences, Task
from nas_kd.tasks.unit_length import UnitLength

SAME = 0.99  # cosine from which two vectors of one sample say the same


@dataclass(frozen=True)
class UnitVectors(Task):
    """A task whose networks return vectors (B, d) of length 1, whose cosine says how alike two samples are."""

    decisions: ClassVar[DecisionKind] = "vectors"
    default_methods: ClassVar[tuple[str, ...]] = ("embedding", "rkd", "embedding+rkd", "similarity")
    output: ClassVar[str] = "embedding"

    def decide(self, raw: Tensor) -> Tensor:
        """Vectors (B, d) of length 1."""
        return F.normalize(raw, dim=1)

    def embedding_of(self, raw: Tensor, before: Tensor) -> Tensor:
        """The vectors themselves, of length 1."""
        return F.normalize(raw, dim=1)

    def divergence(self, decided: Tensor, wanted: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
        """1 - cosine; of vectors of another width, the squared difference between the cosines of the batch."""
        if decided.shape == wanted.shape:
            each = 1 - (decided * wanted).sum(dim=1)
        else:
            each = (decided @ decided.T - wanted @ wanted.T).square().mean(dim=1)
        return each.mean() if weights is None else (weights * each).sum() / weights.sum().clamp_min(1e-12)

    def finished(self, network: nn.Module, n_outputs: int, *, own_units: bool) -> nn.Module:
        """Bring vectors to length 1, in the graph of the exported file, too."""
        return UnitLength(network)

    def in_order(self, outputs: NDArray[np.float32], order: Sequence[int]) -> NDArray[np.float32]:
        """As they are: numbers of a vector have no names."""
        return outputs

    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """Samples whose vectors point elsewhere; the gap is the distance between the two, of length 1."""
        first, second = unit(ours), unit(theirs)
        rows = np.flatnonzero((first * second).sum(axis=1) < SAME)
        return Differences(rows, np.linalg.norm(first[rows] - second[rows], axis=1).astype(np.float32))
