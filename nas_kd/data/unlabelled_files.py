"""Reads unlabelled samples from what `data.unlabelled` names: a folder of pictures, Parquet files, or one array."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.array_files import read_arrays
from nas_kd.data.array_names import means_labels
from nas_kd.data.encoded_pictures import FolderPictures, Pictures
from nas_kd.data.folder_listing import list_pictures
from nas_kd.data.image_decoding import PictureReader
from nas_kd.data.layout import axis_order, to_chw
from nas_kd.data.mapped_array import StoredArray
from nas_kd.data.notes import LeftOut
from nas_kd.data.parquet import UNLABELLED, unlabelled_pictures
from nas_kd.data.picture_steps import PictureSteps
from nas_kd.data.shards import SUFFIX as PARQUET
from nas_kd.data.shards import find_files
from nas_kd.data.source import RawData, error_summary
from nas_kd.errors import InputError, few, printable

OPTION = "data.unlabelled"
ARRAYS = (".npy", ".npz")
NAMES = ("x_unlabelled", "unlabelled", "x")  # of the array in an archive that has several
PICTURE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class UnlabelledFiles:
    """What was read: samples (U, ...), and what is to be said about the files."""

    x: StoredArray
    notes: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def read_unlabelled(options: DataOptions, raw: RawData, train: StoredArray) -> UnlabelledFiles:
    """Read what `data.unlabelled` names; pictures are decoded and resized as the labelled ones were.

    Args:
        options: `[data]`, with `unlabelled`.
        raw: what the source loaded.
        train: (N, ...) checked training samples.

    Raises:
        InputError: a file or folder is missing, empty, broken, or of a kind that does not fit the labelled samples.
    """
    paths = _paths(options)
    if len(paths) == 1 and _is_array(paths[0]):
        x = _read_array(paths[0])
        order = raw.layout if raw.layout is not None else axis_order(x.shape, options.layout, f"{OPTION}: {paths[0]}")
        return UnlabelledFiles(to_chw(x, order), ())  # type: ignore[arg-type]
    steps = _picture_steps(raw, train, paths[0])
    found = {path: find_files(path, OPTION) for path in paths}
    if len(paths) == 1 and not found[paths[0]]:
        return _read_folder(paths[0], options, steps)
    if other := next((path for path in paths if not found[path] or _is_array(path)), None):
        raise InputError(
            f"{OPTION}: {printable(other)} {_what_it_is(other)}, but several paths must be Parquet files; put folders "
            "of pictures below one folder and give that, or one array of all samples"
        )
    files = [file for path in paths for file in found[path]]
    if twice := next((file for n, file in enumerate(files) if file in files[:n]), None):
        raise InputError(f"{OPTION} has {printable(twice)} twice; each file must be there once")
    pictures, notes = unlabelled_pictures(files, options.image_column)
    notes += [note for path in paths if (note := _pictures_beside(path, options.follow_links))]
    return _decoded(pictures, options, steps, notes=notes, where=str(paths[0]))


def check_paths(options: DataOptions) -> None:
    """Refuse paths of `data.unlabelled` that are not there; nothing is read.

    Raises:
        InputError: names the first one.
    """
    for path in _paths(options):
        if _is_array(path) and not path.is_file():
            raise InputError(f"{OPTION}: no such file: {printable(path)}")
        if not path.exists():
            find_files(path, OPTION)  # which takes patterns, too


def _paths(options: DataOptions) -> tuple[Path, ...]:
    given = options.unlabelled or ()
    return given if isinstance(given, tuple) else (given,)


def _is_array(path: Path) -> bool:
    return path.suffix.lower() in ARRAYS and not path.is_dir()


def _what_it_is(path: Path) -> str:
    return f"is a folder without *{PARQUET} files" if path.is_dir() else "is an array"


def _pictures_beside(path: Path, follow_links: bool) -> str | None:
    """What to say of a folder of Parquet files that has pictures, too; None: it has none."""
    if not path.is_dir():
        return None
    pictures, _ = _listed(path, follow_links)
    if not pictures:
        return None
    return f"of {printable(path)} the *{PARQUET} files were read, and not its {len(pictures):,} pictures"


def _listed(folder: Path, follow_links: bool) -> tuple[list[Path], LeftOut]:
    try:
        return list_pictures(folder, follow_links)
    except OSError as error:
        raise InputError(f"{OPTION}: cannot list {printable(folder)}: {error_summary(error)}") from error


def _picture_steps(raw: RawData, train: StoredArray, path: Path) -> PictureSteps:
    """How a picture becomes a sample like those of train."""
    if raw.picture_steps is not None:
        return raw.picture_steps
    if train.dtype != np.uint8 or train.ndim != 4 or train.shape[1] not in PICTURE_CHANNELS:
        raise InputError(
            f"{OPTION}: {printable(path)} would be pictures, but samples of train are {train.dtype} arrays of shape "
            f"{train.shape[1:]}; give an array of such samples (.npy or .npz)"
        )
    return PictureSteps.of_arrays(train.shape[1:])


def _read_array(path: Path) -> NDArray[Any]:
    (array,) = read_arrays(path, OPTION, lambda names: [_array_name(names, path)]).arrays.values()
    return array


def _array_name(names: list[str], path: Path) -> str:
    """The array of samples in an archive."""
    if labels := [name for name in names if means_labels(name)]:
        raise InputError(
            f"{OPTION}: {printable(path)} has labels ({few(labels)}), but unlabelled samples have none; save the "
            "samples alone: numpy.savez(path, x=...)"
        )
    named = [name for name in NAMES if name in names]
    if len(names) != 1 and not named:
        raise InputError(f"{OPTION}: {printable(path)} has {few(names) or 'no arrays'}; want one array, called x")
    return named[0] if named else names[0]


def _read_folder(folder: Path, options: DataOptions, steps: PictureSteps) -> UnlabelledFiles:
    files, left_out = _listed(folder, options.follow_links)
    if not files:
        found = f": {left_out.summary()}" if left_out.counts else ""
        raise InputError(f"{OPTION}: {printable(folder)} has no pictures{found}")
    pictures = FolderPictures([(UNLABELLED, file) for file in files], lambda _, file: str(file.relative_to(folder)))
    unread = [f"entries that were not read: {left_out.summary()}"] if left_out.counts else []
    read = _decoded(pictures, options, steps, notes=unread, where=str(folder))
    return UnlabelledFiles(read.x, read.notes, {**left_out.counts, **read.skipped})


def _decoded(
    pictures: Pictures, options: DataOptions, steps: PictureSteps, *, notes: list[str], where: str
) -> UnlabelledFiles:
    if not len(pictures):
        raise InputError(f"{OPTION}: {printable(where)} has no rows")
    reader = PictureReader(steps.image_size, "as in train", options, resize=steps.resize, colour=steps.colour)
    try:
        x = reader.read(pictures, "unlabelled").x
    except InputError as error:
        raise InputError(f"{OPTION}: {error}") from error
    return UnlabelledFiles(x, (*reader.notes(), *notes), reader.left_out.counts)
