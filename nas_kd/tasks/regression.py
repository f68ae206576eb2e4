"""Regression: every sample has one or several real numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.errors import InputError, few, printable
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.sample_score import Predictions
from nas_kd.tasks.base import Array, DecisionKind, Differences, MixedLabels, Targets, Task

MATRIX_DIMS = 2
STRATA, PER_STRATUM = 10, 5  # groups of equal size along the first target, when splits are carved


@dataclass(frozen=True)
class Regression(Task):
    """Real numbers; a network returns them (B, k) in the targets' own units.

    Losses see them in standard deviations of the training targets, so that no target counts for more because of its
    unit. The label loss is Huber's (1964, delta 1).

    Attributes:
        mean: (k,) of the training targets.
        std: (k,) their standard deviation.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    name: ClassVar[str] = "regression"
    title: ClassVar[str] = "regression"
    summary: ClassVar[str] = "one or several real numbers a sample; R2"
    headline: ClassVar[str] = "r2"
    knowledge: ClassVar[str] = "r2"
    decisions: ClassVar[DecisionKind] = "values"
    default_methods: ClassVar[tuple[str, ...]] = ("logits", "similarity", "logits+similarity")
    output: ClassVar[str] = "values"
    stratum: ClassVar[str] = "range of values"

    @property
    def output_scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation that networks of search spaces are given behind their last layer."""
        return self.mean, self.std

    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Read numbers, (N,) or (N, k)."""
        values = {split: _numbers(y, split) for split, y in ys.items()}
        train = values["train"]
        for split, y in values.items():
            if y.shape[1] != train.shape[1]:
                raise InputError(f"y of {split} has {y.shape[1]} columns, that of train {train.shape[1]}")
        if names is not None and len(names) != train.shape[1]:
            raise InputError(f"{len(names)} names of targets ({few(names)}) for {train.shape[1]} columns of y")
        found = names or (("target",) if train.shape[1] == 1 else tuple(map(str, range(train.shape[1]))))
        mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
        if not (std > np.finfo(np.float32).eps * np.abs(mean)).all():
            constant = printable(found[int((std <= np.finfo(np.float32).eps * np.abs(mean)).argmax())])
            raise InputError(f"target {constant!r} is the same for all training samples: there is nothing to learn")
        return Targets(dict(values), found, replace(self, mean=tuple(mean.tolist()), std=tuple(std.tolist())))

    def strata(self, y: Array) -> NDArray[np.int64]:
        """Groups of equal size along the first target."""
        groups = max(1, min(STRATA, len(y) // PER_STRATUM))
        rank = np.argsort(np.argsort(y[:, 0], kind="stable"))
        return (rank * groups // len(y)).astype(np.int64)

    def targets(self, y: Tensor) -> Tensor:
        """(B, k) in standard deviations from the mean."""
        return self._standardized(y)

    def decide(self, raw: Tensor) -> Tensor:
        """(B, k) in standard deviations from the mean."""
        return self._standardized(raw)

    def label_loss(self, decided: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """Huber's loss, mean over samples and targets; see `Task.label_loss`."""
        if mixed is None:
            return F.huber_loss(decided, self.targets(y))
        both = (self.targets(y), self.targets(mixed.y))
        first, second = (F.huber_loss(decided, t, reduction="none").mean(dim=1) for t in both)
        return (mixed.share * first + (1 - mixed.share) * second).mean()

    def divergence(self, decided: Tensor, wanted: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
        """The mean squared difference, in variances of the training targets."""
        return F.mse_loss(decided, wanted)

    def summed_loss(self, decided: Tensor, y: Tensor) -> Tensor:
        """Huber's loss, summed over samples."""
        return F.huber_loss(decided, self.targets(y), reduction="none").mean(dim=1).sum()

    def evidence(self, outputs: NDArray[np.float32], y: Array) -> Predictions:
        """Numbers beside targets."""
        return Predictions(outputs.astype(np.float64), y.astype(np.float64))

    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """None: numbers that differ slightly decide nothing."""
        return Differences(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))

    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """Numbers as they are."""
        return OutputRecord(
            name=self.output,
            kind="values",
            noun="network that estimates " + (f"{len(names)} numbers" if len(names) > 1 else "a number"),
            each="one number a target, in the units of the training data",
            items="targets",
            example='print(dict(zip(card["nas_kd.classes"], values[0].tolist())))',
            limit="Outside the range of the training targets its estimates mean little.",
            hub_metric="r_squared",
            hub_tasks={1: ("tabular-regression", "Tabular Regression")},
        )

    def _standardized(self, values: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, dtype=values.dtype, device=values.device) for v in (self.mean, self.std))
        return (values - mean) / std


def _numbers(y: Array, split: str) -> NDArray[Any]:
    table = y[:, None] if y.ndim == 1 else y
    if table.ndim != MATRIX_DIMS or table.dtype.kind not in "uifb":
        raise InputError(
            f"y of {split} has shape {y.shape} and type {y.dtype}; regression wants numbers, (N,) or (N, k)"
        )
    with np.errstate(over="ignore"):
        found = table.astype(np.float32)
    if not np.isfinite(found).all():
        row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(found)))
        raise InputError(f"y of {split} is {table[row, column]} for sample {row}; want finite numbers")
    return found


PLUGIN = Regression()
