"""Samples of one split, in memory or mapped from a file: read by rows, as tensors."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Protocol

import torch
from torch import Tensor

CHUNK_BYTES = 2**26  # read at a time where all samples are looked at
MOST_AT_ONCE = 512  # samples that a network is run on without gradient,
VALUES_AT_ONCE = MOST_AT_ONCE * 3 * 64 * 64  # and numbers in them: maps of large pictures take gigabytes


class Samples(Protocol):
    """(N, ...) samples whose rows can be read. A tensor is one; so is `nas_kd.data.mapped_array.MappedSamples`.

    Attributes:
        shape: (N, ...).
        dtype: number type, uint8 or float32 in a data set.
        device: where rows are read to.
        ndim: number of axes.
    """

    @property
    def shape(self) -> torch.Size:
        """Number of samples, then the shape of one: (N, ...)."""

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the values, uint8 or float32."""

    @property
    def device(self) -> torch.device:
        """Where rows are read to."""

    @property
    def ndim(self) -> int:
        """Number of axes, that of the samples included."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        """Read the rows of a slice, or those at positions (B,) int64."""

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """Read the rows at positions `index` (B,) int64; `dim` is 0."""

    def is_floating_point(self) -> bool:
        """Whether they are real numbers."""


def samples_at_once(shape: Sequence[int]) -> int:
    """How many samples of this shape networks are run on at a time where no gradient is wanted."""
    return max(1, min(MOST_AT_ONCE, VALUES_AT_ONCE // max(1, prod(shape))))


def chunks(x: Samples) -> Iterator[Tensor]:
    """Read all samples in their order, some at a time."""
    n = max(1, CHUNK_BYTES // max(1, x[:1].nbytes))
    for start in range(0, len(x), n):
        yield x[start : start + n]
