"""What a data source is, and what it hands over: arrays as the user stored them, not yet checked."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor

from nas_kd.config.options import DataOptions
from nas_kd.errors import InputError

MIRROR_SENSITIVE = ("left", "right", "clockwise")


class Arrays(NamedTuple):
    """One split. `x`: (N, ...) numbers, images as (N, C, H, W); `y`: (N,) class numbers or names."""

    x: NDArray[Any] | Tensor
    y: NDArray[Any] | Tensor


@dataclass(frozen=True)
class TeacherView:
    """What the teacher is shown of the same samples, by split: "train", and "val" and "test" where the data has them.

    `x`: (M, ...) numbers, images as (M, C, H, W); shape and type may be others than the student's. `pairs`: (N,) whole
    numbers, the row of `x` that belongs to each of the N samples; a split without them is paired row by row (M = N).
    """

    x: Mapping[str, NDArray[Any] | Tensor]
    pairs: Mapping[str, NDArray[Any] | Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RawData:
    """What a source found.

    `classes`: names in the order of the class numbers; None: taken from the labels. `natural`: a mirror image
    (left-right) is as good a sample as the original. `notes`: what was converted or skipped, in words.
    `teacher_view`: None where the teacher is shown what the student is shown.
    """

    name: str
    train: Arrays
    val: Arrays | None = None
    test: Arrays | None = None
    classes: tuple[str, ...] | None = None
    natural: bool = False
    notes: tuple[str, ...] = ()
    teacher_view: TeacherView | None = None


@runtime_checkable
class Source(Protocol):
    """One file in this folder with `PLUGIN = <instance>`, or a user's `package.module:name`.

    `uses`: the fields of `DataOptions` that mean something to this source, besides those that all sources take.
    """

    name: str
    summary: str  # one line for `nas-kd list datasets`
    uses: frozenset[str]

    def load(self, options: DataOptions) -> RawData:
        """Read everything into memory; paths in `options` are used as they are.

        Raises:
            InputError: the data is missing or broken.
        """


def is_flip_safe(classes: tuple[str, ...] | None) -> bool:
    """Whether the class names speak for things rather than symbols: a mirrored 3, b or `turn left` is another class."""
    if not classes:
        return False
    symbols = any(len(name) == 1 or name.isdigit() for name in classes)
    return not symbols and not any(word in name.lower() for name in classes for word in MIRROR_SENSITIVE)


def reason(error: Exception) -> str:
    """What a library says is wrong with a file, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def optional_module(name: str, package: str, source: str) -> Any:
    """Import a library that only one source needs, when it is needed: starting up stays fast.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"source {source!r} needs {package}: pip install {package} ({error})") from error
