"""Arrays of pictures in files that are mapped into memory: rows are read when they are asked for, never all at once.

The file is mapped for reading alone, so that it can be larger than memory, and processes that map it share its pages.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.serialization import fingerprint

Indices = NDArray[np.int64]
N_CHUNK = 256  # rows read at a time where samples are looked at one by one
T = TypeVar("T")


class Facts(Protocol):
    """Keeps what was found out about an array, as JSON, where the array lies."""

    def remember(self, key: str, find: Callable[[], T]) -> T:
        """Return what is kept under a key; if nothing is, find it and keep it."""


class MappedArray:
    """Rows of a mapped file as an array: reading gives copies, selecting gives another view of the same file.

    Attributes:
        identity: sha256 (hex) of all that the values follow from.
        facts: keeps what was found out about the file.
        shape: (N, C, H, W).
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(
        self,
        stored: NDArray[np.uint8],
        content: str,
        facts: Facts,
        *,
        rows: Indices | None = None,
        channels: int | None = None,
    ) -> None:
        """Show rows of a file.

        Args:
            stored: (M, c, H, W) mapped from a file.
            content: identity of the file.
            facts: keeps what was found out about it.
            rows: (N,) which rows of the file, in this order; None: all.
            channels: C; grey pictures (c = 1) have all their channels alike. None: c.
        """
        self._stored, self._content, self.facts = stored, content, facts
        self._rows = np.arange(len(stored)) if rows is None else rows
        channels = stored.shape[1] if channels is None else channels
        self._repeats = channels // stored.shape[1]
        self.shape: tuple[int, ...] = (len(self._rows), channels, *stored.shape[2:])

    @cached_property
    def identity(self) -> str:
        """Sha256 (hex) of all that the values follow from."""
        return fingerprint([self._content, hashlib.sha256(self._rows.tobytes()).hexdigest(), self.shape])

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | Indices) -> NDArray[np.uint8]:
        """Read the rows of a slice, at positions (B,), or where (N,) is true."""
        found = self._stored[self._rows[key]]
        return found if self._repeats == 1 else np.repeat(found, self._repeats, axis=1)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self), N_CHUNK):
            yield from self[start : start + N_CHUNK]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, in memory."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def select(self, key: slice | Indices) -> "MappedArray":
        """Show some of the rows, which are not read."""
        return MappedArray(self._stored, self._content, self.facts, rows=self._rows[key], channels=self.shape[1])

    def with_channels(self, channels: int) -> "MappedArray":
        """Show grey pictures with this many channels."""
        return MappedArray(self._stored, self._content, self.facts, rows=self._rows, channels=channels)


StoredArray = NDArray[Any] | MappedArray  # (N, ...)
Stored = TypeVar("Stored", NDArray[Any], StoredArray)


class MappedSamples:
    """A mapped array whose rows are read as tensors, see `nas_kd.data.samples.Samples`.

    Attributes:
        array: that is read.
    """

    dtype, device, ndim = torch.uint8, torch.device("cpu"), 4

    def __init__(self, array: MappedArray) -> None:
        """Read rows of `array` as tensors."""
        self.array = array

    @property
    def shape(self) -> torch.Size:
        """Number of pictures, then the shape of one: (N, C, H, W)."""
        return torch.Size(self.array.shape)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Read the rows of a slice, or those at positions (B,)."""
        return torch.from_numpy(self.array[rows if isinstance(rows, slice) else rows.numpy()])

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Read the rows at positions `index` (B,)."""
        return self[index]

    def is_floating_point(self) -> bool:
        """Return false: decoded pictures are bytes."""
        return False


def select_rows(x: Stored, rows: slice | Indices) -> Stored:
    """Take some of the rows; of a mapped array, they are not read."""
    return x.select(rows) if isinstance(x, MappedArray) else x[rows]


def remembered(what: str, arrays: Sequence[Any], find: Callable[[], T]) -> T:
    """Find out something about arrays, once for each content if one of them is mapped.

    Args:
        what: is found out, with all that it follows from beside the arrays.
        arrays: arrays, tensors or mapped ones.
        find: gives a value of JSON; it may read all samples.
    """
    known = [x.array if isinstance(x, MappedSamples) else x for x in arrays]
    mapped = next((x for x in known if isinstance(x, MappedArray)), None)
    return find() if mapped is None else mapped.facts.remember(fingerprint([what, [*map(_identity, known)]]), find)


def _identity(x: Any) -> str:
    if isinstance(x, MappedArray):
        return x.identity
    array = np.ascontiguousarray(x)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()
