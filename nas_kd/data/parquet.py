"""Parquet files in the Hugging Face image layout: an image column, a label column, class names in the metadata."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, repeat
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import EncodedImage, Label, chosen_size
from nas_kd.data.file_kind import describe_file
from nas_kd.data.image_decoding import PictureReader
from nas_kd.data.parquet_columns import Columns, find_columns, find_image_column, require_group_column
from nas_kd.data.shards import data_name, find_shards
from nas_kd.data.source import RawData, error_summary, is_flip_safe, optional_module
from nas_kd.data.stacked_pictures import with_same_channels
from nas_kd.errors import InputError, few

BATCH_ROWS = 1000
N_EXAMPLES = 500  # first training pictures whose headers decide the size of samples
UNLABELLED = 0  # in the place of labels that are not read
MISSING = -1  # what Hugging Face stores for an unknown class


class Shard(NamedTuple):
    """One file of a split: its columns, and how many of its rows are read, from the first."""

    path: Path
    columns: Columns
    n_rows: int


@dataclass(frozen=True)
class ParquetPictures:
    """Pictures in files of one split; only the rows that are read.

    Attributes:
        shards: the files.
        minus_one_is_missing: whether a label of -1 stands for none; None: labels are not read.
    """

    shards: list[Shard]
    minus_one_is_missing: bool | None

    def __len__(self) -> int:
        return sum(shard.n_rows for shard in self.shards)

    def encoded(self, beside: int = 0) -> Iterator[EncodedImage]:
        """Read all pictures as they are stored, in order.

        Args:
            beside: 0: the column of pictures itself; 1: that of their masks, where `labels` holds these.
        """
        labels = self.labels()
        for shard in self.shards:
            column = (shard.columns.image, *shard.columns.labels)[beside]
            for row, (cell,) in enumerate(_rows(shard, [column])):
                where = f"row {row} of {shard.path}" + (f", column {column!r}" if beside else "")
                yield EncodedImage(_content(cell), next(labels), where)

    def labels(self) -> Iterator[Label | None]:
        """Their labels; 0 where they are not read."""
        if self.minus_one_is_missing is None:
            yield from repeat(UNLABELLED, len(self))
            return
        for shard in self.shards:
            for row, cells in enumerate(_rows(shard, shard.columns.labels)):
                missing = any(_is_missing(cell, self.minus_one_is_missing) for cell in cells)
                yield None if missing else _label(cells, f"row {row} of {shard.path}")

    def name(self, row: int) -> str:
        """Name of a picture, for notes."""
        for shard in self.shards:
            if row < shard.n_rows:
                return f"row {row} of {shard.path.name}"
            row -= shard.n_rows
        raise IndexError(row)

    def files(self) -> Sequence[tuple[str, Path]]:
        """Files that the pictures come from, by name."""
        return [(shard.path.name, shard.path) for shard in self.shards]

    def selection(self) -> Any:
        """Rows and columns; those of labels decide which rows are left out."""
        columns = [[shard.n_rows, shard.columns.image, *shard.columns.labels] for shard in self.shards]
        return [columns, self.minus_one_is_missing]


class Parquet:
    """One or more files per split; images are PNG, JPEG or similar, brought to one size."""

    name = "parquet"
    summary = (
        "Parquet files in the Hugging Face image layout: train, optionally val and test, shards or folders of them"
    )
    uses = frozenset(
        {
            "train",
            "val",
            "test",
            "image_size",
            "resize",
            "on_error",
            "image_column",
            "label_column",
            "label_columns",
            "group",
            "cache",
            "cache_gb",
        }
    )

    def load(self, options: DataOptions) -> RawData:
        """Decode the files that the options name.

        Args:
            options: `train`, and optionally `val`, `test`, `train_rows`, `test_rows`, `image_size`, `resize`,
                `on_error`, `image_column`, `label_column`, `label_columns`, `group`, `cache`, `cache_gb`.

        Raises:
            InputError: a file is missing or broken, columns are ambiguous, or class names differ between files.
        """
        if options.train is None:
            raise InputError("source 'parquet' needs data.train, the training file, folder, pattern or list of files")
        files = find_shards({"train": options.train, "val": options.val, "test": options.test})
        rows = {"train": options.train_rows, "test": options.test_rows}

        def choose(path: Path, schema: Any) -> Columns:
            return find_columns(path, schema, options.image_column, options.label_column, options.label_columns)

        shards = {split: shards_of(paths, rows.get(split), choose, options) for split, paths in files.files.items()}
        classes = _same_classes(shards)
        minus_one_is_missing = options.label_columns is None and (
            classes is not None or not _only_signs(shards["train"])
        )
        pictures = {split: ParquetPictures(parts, minus_one_is_missing) for split, parts in shards.items()}
        size, why = chosen_size(options.image_size, islice(pictures["train"].encoded(), N_EXAMPLES))
        reader = PictureReader(size, why, options)
        for split, found in pictures.items():
            _require_labels(found, split)
        read = {split: reader.read(found, split) for split, found in pictures.items()}
        splits, notes = with_same_channels(read)
        columns = dict.fromkeys(shard.columns.note for parts in shards.values() for shard in parts)
        return RawData(
            name=data_name(files.files["train"], self.name),
            train=splits["train"],
            val=splits.get("val"),
            test=splits.get("test"),
            classes=classes,
            flip_safe=is_flip_safe(classes),
            pictures=True,
            notes=(*reader.notes(), *notes, *files.notes, *filter(None, columns)),
            skipped=reader.left_out.counts,
            picture_steps=reader.steps(splits),
            groups=groups_of(shards, {split: one.rows for split, one in read.items()}, options.group),
        )


def shards_of(
    paths: tuple[Path, ...], rows: int | None, columns: Callable[[Path, Any], Columns], options: DataOptions
) -> list[Shard]:
    """The rows of a split, by file.

    Args:
        paths: of the files.
        rows: how many are read, from the first; None: all.
        columns: chooses columns of a file by its Arrow schema.
        options: `group`.

    Raises:
        InputError: a file is broken, lacks a column, or there are no rows.
    """
    shards: list[Shard] = []
    for path in paths:
        left = None if rows is None else rows - sum(shard.n_rows for shard in shards)
        if left == 0:
            break
        with _opened(path) as file:
            chosen = columns(path, file.schema_arrow)
            require_group_column(path, file.schema_arrow, options.group)
            total = file.metadata.num_rows
        shards.append(Shard(path, chosen, total if left is None else min(left, total)))
    if not any(shard.n_rows for shard in shards):
        raise InputError(f"{paths[0]} has no rows" if len(paths) == 1 else f"none of {len(paths)} files has rows")
    return shards


def groups_of(
    shards: Mapping[str, list[Shard]], rows: Mapping[str, NDArray[np.int64] | list[int]], column: str | None
) -> dict[str, NDArray[Any]]:
    """What the pictures of each split belong to.

    Args:
        shards: by split.
        rows: places of its pictures that were read.
        column: that `data.group` names.
    """
    if column is None:
        return {}
    found = {}
    for split, parts in shards.items():
        cells = [cell for shard in parts for (cell,) in _rows(shard, [column])]
        found[split] = np.array(cells, dtype=object)[rows[split]]
    return found


def unlabelled_pictures(paths: list[Path], image_column: str | None) -> tuple["ParquetPictures", list[str]]:
    """Find the pictures of files whose labels, if they have any, are not read.

    Args:
        paths: of the files.
        image_column: `data.image_column`.

    Returns:
        The pictures, and what is to be said about the files.

    Raises:
        InputError: a file is broken, or has no column of pictures.
    """
    shards, labels = list[Shard](), set[str]()
    for path in paths:
        with _opened(path) as file:
            image, label = find_image_column(path, file.schema_arrow, image_column)
            shards.append(Shard(path, Columns(image, (), None, None), file.metadata.num_rows))
        labels |= {label} if label is not None else set()
    notes = [f"labels in column {few(sorted(labels))} were not read"] if labels else []
    return ParquetPictures(shards, None), notes


def _content(cell: Any) -> bytes | None:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file; whatever goes wrong with it inside is refused in one line."""
    pq = optional_module("pyarrow.parquet", "pyarrow", "parquet")
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many kinds of errors on broken files
        kind = describe_file(path)
        other = "" if kind == "a Parquet file" else f", it is {kind}"
        raise InputError(f"{path} is not a readable Parquet file{other} ({error_summary(error)})") from error


def _labels(shards: list[Shard]) -> Iterator[Any]:
    for shard in shards:
        for (label,) in _rows(shard, shard.columns.labels):
            yield label


def _only_signs(shards: list[Shard]) -> bool:
    """Whether all labels are -1 or 1, so that -1 is a class."""
    return all(label is None or (isinstance(label, int | float) and label in (-1, 1)) for label in _labels(shards))


def _require_labels(pictures: ParquetPictures, split: str) -> None:
    """Refuse a split all of whose labels are missing."""
    if all(label is None for label in pictures.labels()):
        way = "" if split == "train" else f"; leave data.{split} out, and {split} is carved from train"
        columns = few(pictures.shards[0].columns.labels)
        raise InputError(f"{split} has no labels: all of column {columns!r} are missing{way}")


def _rows(shard: Shard, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Cells of these columns, row by row, of the rows that are read of a file.

    Raises:
        InputError: the file is damaged.
    """
    row = 0
    if not shard.n_rows:
        return
    with _opened(shard.path) as file:
        for batch in file.iter_batches(batch_size=min(BATCH_ROWS, shard.n_rows), columns=list(columns)):
            for cells in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                yield cells
                row += 1
                if row == shard.n_rows:
                    return
        raise InputError(f"{shard.path} is damaged: it ends after {row:,} of {file.metadata.num_rows:,} rows")


def _is_missing(label: Any, minus_one_is_missing: bool) -> bool:
    not_a_number = isinstance(label, float) and isnan(label)
    return label is None or not_a_number or (minus_one_is_missing and label == MISSING)


def _label(cells: tuple[Any, ...], where: str) -> Label:
    if len(cells) > 1:
        if not all(isinstance(cell, int | float) for cell in cells):
            raise InputError(f"{where} has the labels {few([repr(cell) for cell in cells])}; want numbers")
        return tuple(map(float, cells))
    (label,) = cells
    if not isinstance(label, int | float | str):
        if isinstance(label, dict) and _content(label) is not None:
            raise InputError(f'{where} has a picture for a label; if it is a mask, set data.source = "parquet_masks"')
        raise InputError(f"{where} has the label {label!r}; want a class number or name")
    return label


def _same_classes(shards: dict[str, list[Shard]]) -> tuple[str, ...] | None:
    named = [
        (split, shard.path, shard.columns.classes)
        for split, parts in shards.items()
        for shard in parts
        if shard.columns.classes is not None
    ]
    if not named:
        return None
    first, _, classes = named[0]
    for split, path, others in named:
        if others != classes:
            raise InputError(
                f"class names of {split} ({path.name}) differ from those of {first}: {few(others)}, {few(classes)}"
            )
    return classes


PLUGIN = Parquet()
