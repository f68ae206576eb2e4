"""Picture files that a table names, beside their labels or numbers: CSV or TSV, one for each split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import FolderPictures, Label, chosen_size
from nas_kd.data.image_decoding import PictureReader
from nas_kd.data.notes import LeftOut
from nas_kd.data.source import RawData, is_flip_safe
from nas_kd.data.stacked_pictures import with_same_channels
from nas_kd.data.text_table import TextTable, read_table
from nas_kd.errors import InputError, printable

N_EXAMPLES = 500  # training pictures whose headers decide the size of samples
FILE_COLUMNS = ("file", "filename", "file_name", "image", "img", "path", "filepath", "picture", "photo")
LABEL_COLUMNS = ("label", "labels", "class", "target", "category", "y")
SPLITS = ("train", "val", "test")


class PictureTable:
    """Pictures in a folder, and a table that says what is in each."""

    name = "picture_table"
    summary = "CSV or TSV tables of picture files with labels or numbers beside them: train, optionally val and test"
    uses = frozenset(
        {
            "train",
            "val",
            "test",
            "path",
            "image_size",
            "resize",
            "on_error",
            "image_column",
            "label_column",
            "label_columns",
            "label_separator",
            "follow_links",
            "group",
            "cache",
            "cache_gb",
        }
    )

    def load(self, options: DataOptions) -> RawData:
        """Decode the pictures that the tables name.

        Args:
            options: `train`, and optionally `val`, `test`, `path`, `train_rows`, `test_rows`, `image_size`, `resize`,
                `on_error`, `image_column`, `label_column`, `label_columns`, `label_separator`, `follow_links`, `group`,
                `cache`, `cache_gb`.

        Raises:
            InputError: a table or a picture is missing or broken, or columns cannot be told.
        """
        tables = {split: _table(getattr(options, split), split) for split in SPLITS if getattr(options, split)}
        if "train" not in tables:
            raise InputError(f"source {self.name!r} needs data.train, a CSV or TSV table of pictures")
        labels = _Labels.of(options, tables["train"])
        limits = {"train": options.train_rows, "test": options.test_rows}
        found = {split: _listed(table, labels, options, limits.get(split)) for split, table in tables.items()}
        names = labels.names(found["train"].cells)
        pictures = {split: _pictures(listed, labels, names) for split, listed in found.items()}
        train = pictures["train"].samples
        size, why = chosen_size(options.image_size, _spread(pictures["train"]).encoded())
        reader = PictureReader(size, why, options)
        read = {split: reader.read(of_split, split) for split, of_split in pictures.items()}
        splits, notes = with_same_channels(read)
        missing = LeftOut()
        for listed in found.values():
            missing.include(listed.missing)
        words = names or tuple(dict.fromkeys(str(label) for label, _ in train if isinstance(label, str)))
        return RawData(
            name=tables["train"].path.stem,
            train=splits["train"],
            val=splits.get("val"),
            test=splits.get("test"),
            classes=names,
            flip_safe=is_flip_safe(words),
            pictures=True,
            notes=(
                *reader.notes(),
                *notes,
                *([f"pictures that are not there, left out: {missing.summary()}"] if missing.counts else []),
            ),
            skipped=reader.left_out.counts + missing.counts,
            picture_steps=reader.steps(splits),
            groups={s: np.array(found[s].groups)[read[s].rows] for s in found} if options.group is not None else {},
        )


@dataclass(frozen=True)
class _Labels:
    """How a row's label is read.

    Attributes:
        columns: of the labels; several: a number for each.
        separator: of the labels that a cell lists; None: it is one label.
        numbers: whether single labels are numbers.
        whole: whether these are whole.
    """

    columns: tuple[str, ...]
    separator: str | None
    numbers: bool = False
    whole: bool = False

    @staticmethod
    def of(options: DataOptions, train: TextTable) -> "_Labels":
        """Choose columns by the options, else by name."""
        if options.label_columns is not None:
            if options.label_column is not None or options.label_separator is not None:
                raise InputError("data.label_columns holds a number each; leave label_column and label_separator out")
            return _Labels(tuple(train.column(name, "data.label_columns") for name in options.label_columns), None)
        column = train.choose("label", options.label_column, LABEL_COLUMNS)
        if options.label_separator is not None:
            return _Labels((column,), options.label_separator)
        cells = [value for value in train.values(column) if value]
        numbers = bool(cells) and all(_number(cell) is not None for cell in cells)
        return _Labels((column,), None, numbers, numbers and all(float(cell).is_integer() for cell in cells))

    def names(self, cells: list[tuple[str, ...]]) -> tuple[str, ...] | None:
        """Names of the labels, where a sample has a value for each; None: it has one."""
        if self.separator is not None:
            return tuple(sorted({name for (cell,) in cells for name in self._parts(cell)}))
        return self.columns if len(self.columns) > 1 else None

    def reader(self, names: tuple[str, ...] | None) -> Callable[[tuple[str, ...], str], Label | None]:
        """Make the function that reads the cells of a row; its second argument says where it is."""
        if self.separator is not None:
            known = {name: place for place, name in enumerate(names or ())}
            return lambda cells, where: self._listed(cells[0], known, where)
        if len(self.columns) > 1:
            return self._several
        return self._single

    def _parts(self, cell: str) -> list[str]:
        return [part for name in cell.split(self.separator) if (part := name.strip())]

    def _listed(self, cell: str, known: Mapping[str, int], where: str) -> Label:
        parts = self._parts(cell)
        if unknown := [part for part in parts if part not in known]:
            raise InputError(f"{where} has the label {printable(unknown[0])!r}, which no training sample has")
        return tuple(float(name in parts) for name in known)

    def _several(self, cells: tuple[str, ...], where: str) -> Label | None:
        if not all(cells):
            return None
        values = tuple(_number(cell) for cell in cells)
        for value, cell, column in zip(values, cells, self.columns, strict=True):
            if value is None:
                raise InputError(f"{where} has {printable(cell)!r} in column {printable(column)!r}; want a number")
        return tuple(value for value in values if value is not None)

    def _single(self, cells: tuple[str, ...], where: str) -> Label | None:
        (cell,) = cells
        if not cell or not self.numbers:
            return cell or None
        value = _number(cell)
        if value is None:
            raise InputError(f"{where} has the label {printable(cell)!r}; those of train are numbers")
        return int(value) if self.whole and value.is_integer() else value


@dataclass(frozen=True)
class _Listed:
    """Rows of a table whose pictures are there: cells of the labels, files, groups, and where each row is."""

    cells: list[tuple[str, ...]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    missing: LeftOut = field(default_factory=LeftOut)


def _table(given: Path | tuple[Path, ...], split: str) -> TextTable:
    if isinstance(given, tuple):
        raise InputError(f"data.{split} of source 'picture_table' is one table, got {len(given)} files")
    return read_table(given)


def _listed(table: TextTable, labels: _Labels, options: DataOptions, limit: int | None) -> _Listed:
    """Find the pictures of the first rows of a table.

    Raises:
        InputError: one is missing and not to be skipped, or lies outside of the folder.
    """
    folder = options.path or table.path.parent
    if not folder.is_dir():
        raise InputError(f"no such folder: {printable(folder)} (data.path)")
    names = table.values(table.choose("image", options.image_column, FILE_COLUMNS))
    columns = [table.values(table.column(name, "data.label_columns")) for name in labels.columns]
    groups = names if options.group is None else table.values(table.column(options.group, "data.group"))
    inside, found = folder.resolve(), _Listed()
    for row, (name, group, *cells) in enumerate(list(zip(names, groups, *columns, strict=True))[:limit]):
        file = folder / name
        if not options.follow_links and not file.resolve().is_relative_to(inside):
            raise InputError(
                f"{table.where(row)} names {printable(name)!r}, which is outside of {printable(folder)}; "
                "data.path is the folder of the pictures"
            )
        if name and file.is_file():
            found.cells.append(tuple(cells))
            found.files.append(file)
            found.groups.append(group)
            found.where.append(table.where(row))
        else:
            found.missing.add("no such picture", name)
    if found.missing.counts and (options.on_error == "fail" or not found.files):
        raise InputError(
            f"{printable(table.path.name)} names pictures that are not in {printable(folder)}: "
            f'{found.missing.summary()}; data.path is their folder, data.on_error = "skip" leaves them out'
        )
    if not found.files:
        raise InputError(f"{printable(table.path)} has no rows")
    return found


def _pictures(listed: _Listed, labels: _Labels, names: tuple[str, ...] | None) -> FolderPictures:
    read = labels.reader(names)
    samples = [
        (read(cells, where), file) for cells, file, where in zip(listed.cells, listed.files, listed.where, strict=True)
    ]
    return FolderPictures(samples, lambda _, file: file.name)


def _spread(pictures: FolderPictures) -> FolderPictures:
    """A few hundred of the pictures, from all of the table."""
    samples = pictures.samples
    return FolderPictures(samples[:: -(-len(samples) // N_EXAMPLES)], pictures.naming)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


PLUGIN = PictureTable()
