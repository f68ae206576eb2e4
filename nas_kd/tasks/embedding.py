"""Embedding: every sample becomes a vector, and vectors of one identity are near each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from nas_kd.config.data_options import DataOptions
from nas_kd.errors import InputError, few
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.base import load_score
from nas_kd.scores.embeddings import Embeddings, verification_threshold
from nas_kd.tasks.base import Array, MixedLabels, Targets
from nas_kd.tasks.contrastive import agreement, grouped_order, supervised_contrastive
from nas_kd.tasks.unit_vectors import UnitVectors

DEFAULT_WIDTH = 64
FAR = 0.01  # of the threshold on cards
MOST_NAMED = 3  # identities in a message


@dataclass(frozen=True)
class Embedding(UnitVectors):
    """Vectors whose cosine says how alike two samples are; a network returns them (B, d), of length 1.

    Targets are identities: faces, animals, places. Those of validation and test are not in training. The label loss is
    supervised contrastive, which needs no weights for identities, and so holds for new ones, too: see
    `nas_kd.tasks.contrastive`.

    Attributes:
        width: d, of the vectors of networks that are built here.
    """

    width: int = DEFAULT_WIDTH

    name: ClassVar[str] = "embedding"
    title: ClassVar[str] = "embeddings"
    summary: ClassVar[str] = "vectors that are near each other for one identity (faces, re-identification); recall@1"
    headline: ClassVar[str] = "recall_at_1"
    knowledge: ClassVar[str] = "recall_at_1"
    stratum: ClassVar[str] = "kind of identity (one sample, or more)"
    together: ClassVar[str] = "identity"
    least_groups: ClassVar[int] = 2
    uses: ClassVar[frozenset[str]] = frozenset({"embedding_width"})
    any_width: ClassVar[bool] = True

    def configured(self, options: DataOptions) -> "Embedding":
        """Take `data.embedding_width`."""
        return self if options.embedding_width is None else replace(self, width=options.embedding_width)

    @property
    def key_facts(self) -> dict[str, Any]:
        """The loss, beside the width, which is that of the outputs' names."""
        return {"label loss": "supervised contrastive"}

    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Read identities, (N,) names or whole numbers; those of all splits are numbered together."""
        flat = {split: _identities(y, split) for split, y in ys.items()}
        if len({y.dtype.kind for y in flat.values()}) > 1:
            raise InputError("identities of some splits are names, of others numbers; use one of the two throughout")
        known = np.unique(np.concatenate(list(flat.values())))
        numbers = {split: np.searchsorted(known, y).astype(np.int64) for split, y in flat.items()}
        for split, y in numbers.items():
            self.check_split(y, split)
        single = int((np.bincount(numbers["train"]) == 1).sum())
        said = (
            f"{single:,} of the identities of train have one sample only: others are distinguished from them, and "
            "nothing is learned of what their samples have in common"
        )
        return Targets(dict(numbers), tuple(map(str, range(self.width))), self, said if single else None)

    def strata(self, y: Array) -> NDArray[np.int64]:
        """Whether a sample's identity has others."""
        return (np.bincount(y)[y] > 1).astype(np.int64)

    def kept_together(self, y: Array) -> NDArray[np.int64]:
        """The identities themselves."""
        return y

    def check_split(self, y: Array, split: str) -> None:
        """Refuse a split with one identity only, or without two samples of any."""
        found, counts = np.unique(y, return_counts=True)
        if len(found) < 2:
            raise InputError(f"{split} has samples of {len(found)} identity only; want two or more to tell apart")
        if counts.max() < 2:
            raise InputError(f"no identity has two samples in {split}: there is nothing that they could have in common")

    def targets(self, y: Tensor) -> Tensor:
        """Identity numbers (B,), as they are."""
        return y

    def label_loss(self, decided: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """Supervised contrastive, mean over the samples that have others of their identity in the batch."""
        return supervised_contrastive(decided, agreement(y) if mixed is None else agreement(y, mixed.y, mixed.share))

    def summed_loss(self, decided: Tensor, y: Tensor) -> Tensor:
        """The same times the number of samples."""
        return self.label_loss(decided, y, None, None) * len(y)

    def order(self, y: Tensor, generator: Generator) -> Tensor:
        """Groups of samples of one identity, the groups at random: see `grouped_order`."""
        return grouped_order(y, generator)

    def evidence(self, outputs: NDArray[np.float32], y: Array) -> Embeddings:
        """Vectors of length 1 beside identities."""
        return Embeddings.of(outputs, y)

    def details(self, tested: Sequence[Any], deployed: Any) -> dict[str, Any]:
        """How many pairs of one identity are found at given false alarms."""
        return {"further": {name: load_score(name).over_seeds(tested) for name in ("tar_at_far", "tar_at_far_1e3")}}

    def decision_rule(self, outputs: NDArray[np.float32], y: Array) -> dict[str, Any]:
        """The cosine from which two samples are of one identity, at a given share of false alarms."""
        found = verification_threshold(self.evidence(outputs, y), FAR)
        return {"similarity": "cosine", "threshold": round(found, 6), "false_alarms": FAR}

    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """A vector of length 1."""
        return OutputRecord(
            name=self.output,
            kind="embedding",
            noun=f"network that turns a sample into a vector of {len(names)} numbers",
            each="a vector of length 1 a sample: the cosine of two, which is their product, says how alike they are",
            items="dimensions",
            width=len(names),
            example='print("same" if embedding[0] @ embedding[-1] >= card["nas_kd.output"]["threshold"] else "not")',
            limit="Vectors of other networks, and of other trainings, cannot be compared with these.",
            hub_metric="recall_at_1",
            hub_tasks={3: ("image-feature-extraction", "Image Feature Extraction")},
        )


def _identities(y: Array, split: str) -> Array:
    flat = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if flat.ndim != 1 or flat.dtype.kind not in "USuifO":
        raise InputError(
            f"y of {split} has shape {y.shape} and type {y.dtype}; embeddings want an identity a sample, (N,) names or "
            "whole numbers"
        )
    if flat.dtype.kind == "S":
        return np.char.decode(flat, "utf-8", "replace")
    if flat.dtype == object:
        if not all(isinstance(identity, str) for identity in flat.tolist()):
            raise InputError(f"y of {split} has identities that are no names: {few([*map(repr, flat[:MOST_NAMED])])}")
        return flat.astype(np.str_)
    if flat.dtype.kind == "f" and not (np.isfinite(flat) & (flat == np.rint(flat))).all():
        raise InputError(f"y of {split} has identities that are no whole numbers")
    return flat if flat.dtype.kind == "U" else flat.astype(np.int64)


PLUGIN = Embedding()
