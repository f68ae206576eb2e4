"""Reads arrays from an .npy or .npz file that an option names, and no more of them than are asked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.data.file_kind import describe_file
from nas_kd.data.source import error_summary
from nas_kd.errors import InputError, printable


@dataclass(frozen=True)
class ArrayFile:
    """What was read.

    Attributes:
        names: of all arrays of an .npz; () for an .npy, which has one without a name.
        arrays: those that were asked for, by name; that of an .npy by "".
    """

    names: tuple[str, ...]
    arrays: dict[str, NDArray[Any]]


def read_arrays(path: Path, option: str, wanted: Callable[[list[str]], Iterable[str]]) -> ArrayFile:
    """Read a file's arrays; pickled ones are refused.

    Args:
        path: of the file.
        option: that names it, for messages.
        wanted: names of all arrays -> names of those to read; it may refuse.

    Raises:
        InputError: there is no such file, it cannot be read, or `wanted` refused.
    """
    if not path.is_file():
        raise InputError(f"{option}: no such file: {printable(path)}")
    try:
        with path.open("rb") as content:
            loaded = np.load(content, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return ArrayFile((), {"": loaded})
            with loaded:
                return ArrayFile(tuple(loaded.files), {name: loaded[name] for name in wanted(loaded.files)})
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors on broken files
        kind = describe_file(path)
        raise InputError(f"{option}: cannot read {printable(path)}, {kind} ({error_summary(error)})") from error
