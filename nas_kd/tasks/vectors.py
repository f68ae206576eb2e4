"""Vectors: every sample becomes the vector that another network gave it, without any labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.errors import InputError, few
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.embeddings import unit
from nas_kd.scores.sample_score import Predictions
from nas_kd.tasks.base import Array, MixedLabels, Targets
from nas_kd.tasks.unit_vectors import UnitVectors

MATRIX_DIMS = 2
MOST_NAMED = 3  # samples in a message


@dataclass(frozen=True)
class Vectors(UnitVectors):
    """Vectors that stand in for those of a larger network: they have its width, and are compared with its own.

    Targets are vectors (N, d) of any length, such as a network gave the same samples. The label loss is 1 - cosine. A
    gallery of the larger network's vectors can be searched by a student's.

    Attributes:
        width: d.
    """

    width: int = 0

    name: ClassVar[str] = "vectors"
    title: ClassVar[str] = "vectors"
    summary: ClassVar[str] = "the vectors of another network, without labels: CLIP, sentences; rank correlation"
    headline: ClassVar[str] = "spearman"
    knowledge: ClassVar[str] = "spearman"

    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Read vectors (N, d); they are brought to length 1."""
        values = {split: _vectors(y, split) for split, y in ys.items()}
        width = values["train"].shape[1]
        for split, y in values.items():
            if y.shape[1] != width:
                raise InputError(f"vectors of {split} have {y.shape[1]} numbers, those of train {width}")
            self.check_split(y, split)
        return Targets(dict(values), tuple(map(str, range(width))), replace(self, width=width))

    def check_split(self, y: Array, split: str) -> None:
        """Refuse a split all of whose vectors are the same: no pair is nearer than another."""
        if (y == y[:1]).all():
            raise InputError(f"all vectors of {split} are the same: no two samples are nearer than others")

    def targets(self, y: Tensor) -> Tensor:
        """Vectors (B, d), of length 1 already."""
        return y

    def label_loss(self, decided: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """1 - cosine, mean over samples; of mixed ones, of both vectors by their shares."""
        each = 1 - (decided * y).sum(dim=1)
        if mixed is not None:
            each = mixed.share * each + (1 - mixed.share) * (1 - (decided * mixed.y).sum(dim=1))
        return each.mean()

    def summed_loss(self, decided: Tensor, y: Tensor) -> Tensor:
        """The same, summed over samples."""
        return (1 - F.cosine_similarity(decided, y, dim=1)).sum()

    def evidence(self, outputs: NDArray[np.float32], y: Array) -> Predictions:
        """Vectors of length 1 beside those that they stand in for."""
        return Predictions(unit(outputs).astype(np.float64), y.astype(np.float64))

    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """A vector of length 1."""
        return OutputRecord(
            name=self.output,
            kind="embedding",
            noun=f"network that turns a sample into a vector of {len(names)} numbers",
            each="a vector of length 1 a sample, in the space of the vectors that it learned from",
            items="dimensions",
            width=len(names),
            example="print(embedding[0] @ embedding[-1])",
            limit="Only vectors of the network that it stands in for, and its own, can be compared with these.",
            hub_metric="spearman_cosine",
            hub_tasks={3: ("image-feature-extraction", "Image Feature Extraction")},
        )


def _vectors(y: Array, split: str) -> NDArray[np.float32]:
    if y.ndim != MATRIX_DIMS or y.shape[1] < 2 or y.dtype.kind not in "uif":
        raise InputError(
            f"y of {split} has shape {y.shape} and type {y.dtype}; want a vector a sample, (N, d) numbers with d >= 2"
        )
    with np.errstate(over="ignore"):
        found = y.astype(np.float32)
    length = np.linalg.norm(found, axis=1)
    wrong = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if len(wrong):
        rows = few([*map(str, wrong[:MOST_NAMED])])
        raise InputError(f"{len(wrong):,} vectors of {split} have no direction, being 0 or not finite (rows {rows})")
    return unit(found)


PLUGIN = Vectors()
