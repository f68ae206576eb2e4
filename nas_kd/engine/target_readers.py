"""Reads the targets of a user's batches: checked, and converted into what the task of a training works with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from nas_kd.engine.sample_checks import as_labels
from nas_kd.errors import InputError, few
from nas_kd.tasks.moving import MovingTargets

BYTE = 255


class TargetReader(Protocol):
    """Checks and converts targets of some samples."""

    @property
    def moving(self) -> MovingTargets | None:
        """How targets move with the samples that they belong to; None: they have no places in these."""

    def __call__(self, y: Any, n_samples: int, where: str, indices: Sequence[int] | None = None) -> Tensor:
        """Convert targets.

        Args:
            y: a tensor, a NumPy array or a list.
            n_samples: N, of the samples that they belong to.
            where: for messages.
            indices: numbers of the samples, for messages; None: 0..N-1.

        Returns:
            (N, ...) targets.

        Raises:
            InputError: they are not what is wanted.
        """


@dataclass(frozen=True)
class ClassNumbers:
    """Class numbers (N,) int64 below a number of classes; None: they are not compared with anything."""

    n_classes: int | None = None
    moving: ClassVar[None] = None

    def __call__(self, y: Any, n_samples: int, where: str, indices: Sequence[int] | None = None) -> Tensor:
        """See `as_labels`."""
        return as_labels(y, n_samples, self.n_classes, where, indices)


@dataclass(frozen=True)
class TargetValues:
    """Finite numbers, all targets of one shape.

    Attributes:
        shape: of one sample's target; None: any.
        dtype: that they are converted to; None: float32, and whole numbers stay such.
        moving: see `TargetReader`.
    """

    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    moving: MovingTargets | None = None

    def __call__(self, y: Any, n_samples: int, where: str, indices: Sequence[int] | None = None) -> Tensor:
        """Convert numbers (N, ...); axes of length 1 are dropped and added as they are wanted."""
        values = y.detach().cpu() if isinstance(y, Tensor) else _as_tensor(y, where)
        if self.shape is not None and values.shape[:1] == (n_samples,) and _same_but_ones(values.shape[1:], self.shape):
            values = values.reshape(n_samples, *self.shape)
        if values.dim() == 0 or len(values) != n_samples or (self.shape is not None and values.shape[1:] != self.shape):
            wanted = "N, ..." if self.shape is None else ", ".join(map(str, (n_samples, *self.shape)))
            raise InputError(f"y of {where} has shape {tuple(values.shape)}; want ({wanted})")
        if values.is_complex() or not bool(torch.isfinite(values).all()):
            raise InputError(f"y of {where} has values that are no finite numbers")
        return values.to(self.dtype or _smallest(values))


def joined(parts: Iterable[Tensor], where: str) -> Tensor:
    """Targets of all samples, (N, ...), from those of batches.

    Raises:
        InputError: batches have targets of different shapes.
    """
    found = list(parts)
    if len(shapes := {tuple(part.shape[1:]) for part in found}) > 1:
        raise InputError(
            f"y of {where} has targets of shapes {few([str(shape) for shape in sorted(shapes)])}; want one shape for "
            "all samples: boxes are filled up with boxes of class -1"
        )
    return torch.cat(found)


def _same_but_ones(sides: Sequence[int], others: Sequence[int]) -> bool:
    return [side for side in sides if side != 1] == [side for side in others if side != 1]


def _smallest(values: Tensor) -> torch.dtype:
    """The type that targets are kept in: masks of classes are large."""
    if values.is_floating_point():
        return torch.float32
    if values.dtype in {torch.bool, torch.uint8} or not values.numel():
        return values.dtype
    return torch.uint8 if int(values.min()) >= 0 and int(values.max()) <= BYTE else values.dtype


def _as_tensor(y: Any, where: str) -> Tensor:
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise InputError(f"y of {where} has targets of different shapes") from error
    if array.dtype.kind not in "uifb":
        raise InputError(f"y of {where} has type {array.dtype}; want numbers")
    if array.dtype != np.uint8:
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    return torch.from_numpy(array)
