"""The interface of data sources, and what they return: arrays as the user stored them, not yet validated."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor

from nas_kd.config.options import DataOptions
from nas_kd.data.mapped_array import MappedArray
from nas_kd.data.picture_steps import PictureSteps
from nas_kd.errors import InputError, printable

MIRROR_SENSITIVE = ("left", "right", "clockwise")


class Arrays(NamedTuple):
    """Samples and labels of one split.

    Attributes:
        x: (N, ...) numbers, images as (N, C, H, W); in memory, or mapped from a file.
        y: (N,) class numbers or names.
    """

    x: NDArray[Any] | Tensor | MappedArray
    y: NDArray[Any] | Tensor


@dataclass(frozen=True)
class TeacherView:
    """The teacher's own view of the same samples, by split: "train", and "val" and "test" where the data has them.

    Attributes:
        x: (M, ...) numbers by split, images as (M, C, H, W); shape and type may differ from the student's.
        pairs: (N,) whole numbers by split: the row of `x` that belongs to each of the student's N samples; a split
            without them is paired row by row (M = N).
    """

    x: Mapping[str, NDArray[Any] | Tensor]
    pairs: Mapping[str, NDArray[Any] | Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RawData:
    """What a source loads: up to three splits and facts about them.

    Attributes:
        name: name of the data set in reports.
        train: the training split.
        val: the validation split; None: carved from `train`.
        test: the test split; None: carved from `train`.
        classes: class names in the order of the class numbers; None: taken from the labels.
        flip_safe: whether a left-right mirror image is as good a sample as the original.
        pictures: whether samples are pictures, of which a shifted one is as good; None: told by their type and shape.
        notes: what was converted or skipped, one sentence each.
        teacher_view: the teacher's own view of the samples; None: the teacher sees what the student sees.
        skipped: how many files or samples were left out, by reason; the notes say so, too.
        layout: order of the axes of samples as they were stored, such as "hwc"; None: does not apply.
        picture_steps: what turned picture files into samples; None: samples were not picture files.
        unlabelled: (U, ...) samples without labels, like those of `train`; None: there are none.
        groups: by split, (N,) the name or number of what each sample belongs to, such as its patient; empty: not known.
    """

    name: str
    train: Arrays
    val: Arrays | None = None
    test: Arrays | None = None
    classes: tuple[str, ...] | None = None
    flip_safe: bool = False
    pictures: bool | None = None
    notes: tuple[str, ...] = ()
    teacher_view: TeacherView | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    layout: str | None = None
    picture_steps: PictureSteps | None = None
    unlabelled: NDArray[Any] | Tensor | None = None
    groups: Mapping[str, NDArray[Any] | Tensor] = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """A data source: a file in this folder with `PLUGIN = <instance>`, or a user's `package.module:name`.

    Attributes:
        name: the name in configs (`data.source`).
        summary: one line for `nas-kd list datasets`.
        uses: the fields of `DataOptions` that this source reads, besides those that apply to all sources.
    """

    name: str
    summary: str
    uses: frozenset[str]

    def load(self, options: DataOptions) -> RawData:
        """Read all samples, into memory if they are not mapped from a file.

        Args:
            options: the `[data]` section; its paths are absolute.

        Raises:
            InputError: the data is missing or broken.
        """


def is_flip_safe(classes: tuple[str, ...] | None) -> bool:
    """Guess from the class names whether mirroring keeps the class.

    It does for things; a mirrored symbol or direction (`3`, `b`, `turn left`) is another class.
    """
    if not classes:
        return False
    symbols = any(len(name) == 1 or name.isdigit() for name in classes)
    return not symbols and not any(word in name.lower() for name in classes for word in MIRROR_SENSITIVE)


def error_summary(error: BaseException) -> str:
    """Type and message of a library's error, in one line."""
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())}")


def optional_module(name: str, package: str, source: str) -> Any:
    """Import a library that only one source needs, at its first use, so that starting up stays fast.

    Args:
        name: the module, such as `pyarrow.parquet`.
        package: the name to install it by.
        source: the data source, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"source {source!r} needs {package}: pip install {package} ({error})") from error
