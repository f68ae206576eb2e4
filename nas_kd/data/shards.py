"""Which Parquet files hold a split: one file, a list, a pattern, or a folder whose files name their split."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas_kd.data.split_names import SPLITS, split_named
from nas_kd.errors import InputError, few, printable

SUFFIX = ".parquet"
_PART = re.compile(r"[-_.](\d+)[-_]of[-_](\d+)")  # of 00000-of-00002, as Hugging Face and Spark number shards
_MAGIC = re.compile(r"[*?\[]")
Given = Path | tuple[Path, ...] | None


@dataclass(frozen=True)
class Shards:
    """Files by split, in the order in which they are read, and what is to be said about them."""

    files: dict[str, tuple[Path, ...]]
    notes: tuple[str, ...]


def find_shards(given: Mapping[str, Given]) -> Shards:
    """Find the files of all splits.

    Files of a folder or a pattern are sorted by name, numbers in it by value; a list keeps its order. If a folder is
    given for train and its files name other splits, these are used for what is not given.

    Args:
        given: the options by split; "train" is there.

    Raises:
        InputError: there is no such file, or none in a folder.
    """
    files: dict[str, tuple[Path, ...]] = {}
    notes: list[str] = []
    for split in SPLITS:
        paths = given[split]
        listed = paths if isinstance(paths, tuple) else (paths,) if paths is not None else ()
        found = [file for path in listed for file in _files(path, split)]
        if found:
            files[split] = tuple(found)
        if twice := next((file for n, file in enumerate(found) if file in found[:n]), None):
            raise InputError(f"data.{split} has {printable(twice)} twice; each shard must be there once")
        missing = _missing_shards(found)
        if found and (found != [paths] or missing):
            notes.append(_found_sentence(split, found) + missing)
    train = given["train"]
    if isinstance(train, Path) and train.is_dir():
        for split in ("val", "test"):
            if split not in files and (beside := _by_split(train).get(split)):
                files[split] = tuple(beside)
                notes.append(f"{_found_sentence(split, beside)}, as there is no data.{split}{_missing_shards(beside)}")
    return Shards(files, tuple(notes))


def find_files(path: Path, option: str) -> list[Path]:
    """Find the Parquet files that a path of an option names: one, those of a folder, or those of a pattern.

    Args:
        path: given.
        option: its name, for messages.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted((file for files in _by_split(path).values() for file in files), key=_in_order)
    if _MAGIC.search(str(path)) and (files := _matching(path)):
        return files
    raise InputError(f"{option}: no such file or folder: {printable(path)}")


def data_name(files: tuple[Path, ...], default: str) -> str:
    """Name of the data set: the training file's without the split; of shards that have no other, their folder's.

    Args:
        files: of the training split.
        default: if neither says anything.
    """
    first = files[0]
    stem = _PART.sub("", first.stem)
    name = stem.removesuffix("train").rstrip("-_.")
    if len(files) == 1 and stem == first.stem:
        return name or stem
    folders = (folder.name for folder in first.absolute().parents)
    usual = {"data", "default", ""}
    return (
        name
        if name and not name.isdecimal()
        else next((folder for folder in folders if folder not in usual and split_named(folder) is None), default)
    )


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _by_split(path)
        files = found.get(split) or found.get(None)
        if files:
            return files
        has = f"has Parquet files of {' and '.join(map(str, found))} only" if found else f"has no *{SUFFIX} files"
        raise InputError(f"{printable(path)} is a folder that {has}; data.{split} needs a file, a folder or a pattern")
    if _MAGIC.search(str(path)):
        files = _matching(path)
        if files:
            return files
        raise InputError(f"no file matches {printable(path)} (data.{split})")
    raise InputError(f"no such file: {printable(path)}")


def _matching(pattern: Path) -> list[Path]:
    """Files that match the part of a path below the deepest folder that exists."""
    root = next(folder for folder in pattern.parents if folder.is_dir())
    try:
        found = [file for file in root.glob(str(pattern.relative_to(root))) if file.is_file()]
    except ValueError as error:
        raise InputError(f"{printable(pattern)} is not a usable pattern: {error}") from error
    return sorted(found, key=_in_order)


def _by_split(folder: Path) -> dict[str | None, list[Path]]:
    """All Parquet files below a folder by the split that their name, or the nearest folder's, says; None: none does."""
    found: dict[str | None, list[Path]] = {}
    for file in sorted(folder.rglob(f"*{SUFFIX}"), key=_in_order):
        inside = file.relative_to(folder)
        if file.is_file() and not any(part.startswith(".") for part in inside.parts):
            found.setdefault(_split_of(inside), []).append(file)
    return found


def _split_of(file: Path) -> str | None:
    for name in (file.stem, *reversed(file.parts[:-1])):
        splits = {split for word in re.split(r"[^A-Za-z]+", name) if (split := split_named(word))}
        if len(splits) == 1:
            return splits.pop()
    return None


def _in_order(file: Path) -> list[tuple[bool, int, str]]:
    """Sorts part-2 before part-10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", str(file))]


def _found_sentence(split: str, files: list[Path]) -> str:
    count = "1 file" if len(files) == 1 else f"{len(files):,} files"
    return f"{split} was read from {count} ({few([file.name for file in files], limit=3)})"


def _missing_shards(files: list[Path]) -> str:
    """How many shards are missing by the numbers in the names of those that are there, to be added to a sentence."""
    parts = [match for file in files if (match := _PART.search(file.stem))]
    if not parts or len(parts) < len(files) or (total := int(parts[0][2])) <= len(files):
        return ""
    return f"; {total - len(files):,} of {total:,} shards are missing"
