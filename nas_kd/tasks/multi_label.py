"""Multi-label classification: every sample has any number of labels, each decided on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.errors import InputError, few, printable
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.sample_score import Predictions
from nas_kd.tasks.base import Array, DecisionKind, Differences, Targets, Task

MATRIX_DIMS = 2
ENOUGH = 8  # samples whose logits are not all in 0..1 by chance


@dataclass(frozen=True)
class MultiLabel(Task):
    """Any number of labels a sample; a network returns one logit per label, (B, C), for a sigmoid.

    Each label of each sample is a decision between two classes, whose logits are 0 and the network's: their softmax is
    the sigmoid, their cross-entropy the binary one, and a divergence between them that of Bernoulli distributions. So
    methods that compare probabilities work as they do on classes.
    """

    name: ClassVar[str] = "multi_label"
    title: ClassVar[str] = "multi-label classification"
    summary: ClassVar[str] = "any number of labels a sample; mean average precision"
    headline: ClassVar[str] = "mean_average_precision"
    knowledge: ClassVar[str] = "mean_average_precision"
    decisions: ClassVar[DecisionKind] = "rows"
    default_methods: ClassVar[tuple[str, ...]] = ("soft_targets", "similarity", "soft_targets+similarity")
    stratum: ClassVar[str] = "label"

    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Read a column for each label: 1 for samples that have it, else 0."""
        values = {split: _zeros_and_ones(y, split) for split, y in ys.items()}
        width = values["train"].shape[1]
        labels = names if names is not None else tuple(str(number) for number in range(width))
        if len(set(labels)) < len(labels):
            raise InputError(f"names of labels occur twice: {few(labels)}")
        for split, y in values.items():
            if y.shape[1] != len(labels):
                known = f"{len(labels)} names" if names is not None else f"{width} in train"
                raise InputError(f"y of {split} has {y.shape[1]} columns, one for each label, and there are {known}")
        share = values["train"].mean(axis=0)
        for never, verb in ((share == 0, "no"), (share == 1, "every")):
            if never.any():
                label = printable(labels[int(never.argmax())])
                raise InputError(f"label {label!r} is on {verb} training sample: nothing to learn; leave it out")
        return Targets(dict(values), labels, self)

    def strata(self, y: Array) -> NDArray[np.int64]:
        """The rarest label of each sample; samples without any are a group of their own."""
        rarity = np.argsort(np.argsort(y.sum(axis=0)))
        return np.asarray(np.where(y > 0, rarity, y.shape[1]).min(axis=1), dtype=np.int64)

    def targets(self, y: Tensor) -> Tensor:
        """(B * C,) 1 where a sample has a label, else 0."""
        return y.reshape(-1).long()

    def decide(self, raw: Tensor) -> Tensor:
        """Logits (B * C, 2) of not having a label, 0, and of having it."""
        flat = raw.reshape(-1, 1)
        return torch.cat([torch.zeros_like(flat), flat], dim=1)

    def evidence(self, outputs: NDArray[np.float32], y: Array) -> Predictions:
        """Logits beside labels."""
        return Predictions(outputs.astype(np.float64), y.astype(np.float64))

    def fault_of_outputs(self, outputs: NDArray[np.float32]) -> str:
        """Probabilities are no logits."""
        if len(outputs) < ENOUGH or outputs.min() < 0 or outputs.max() > 1:
            return ""
        return "its outputs are all in 0..1, as probabilities are: return the logits before the sigmoid"

    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """Samples with another set of labels at probability 1/2; the gap is the largest such logit."""
        other = (ours >= 0) != (theirs >= 0)
        rows = np.flatnonzero(other.any(axis=1))
        return Differences(rows, np.where(other[rows], np.abs(ours[rows]), 0).max(axis=1, initial=0))

    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """Logits for a sigmoid each."""
        return OutputRecord(
            name=self.output,
            kind="labels",
            probabilities="sigmoid(logits)",
            noun=f"network that tells which of {len(names)} labels a sample has",
            each="one logit a label",
            items="labels",
            example='print([name for name, z in zip(card["nas_kd.classes"], logits[0]) if z >= 0])',
            limit="It knows the labels above and nothing else.",
            hub_metric="mean_average_precision",
            hub_tasks={3: ("image-classification", "Multi-label Image Classification")},
        )


def _zeros_and_ones(y: Array, split: str) -> NDArray[np.float32]:
    if y.ndim != MATRIX_DIMS or y.dtype.kind not in "uifb":
        raise InputError(
            f'y of {split} has shape {y.shape} and type {y.dtype}; data.task = "multi_label" wants a column for each '
            "label, (N, C): 1 for samples that have it, else 0"
        )
    wrong = ~((y == 0) | (y == 1))
    if wrong.any():
        row, column = (int(at[0]) for at in np.nonzero(wrong))
        raise InputError(f"y of {split} is {y[row, column]} for sample {row}, label {column}; want 0 or 1")
    return y.astype(np.float32)


PLUGIN = MultiLabel()
