"""Tables in text files, CSV or TSV with a line of column names: cells as they are written."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_kd.data.file_kind import describe_file
from nas_kd.data.source import error_summary
from nas_kd.errors import InputError, few, printable

DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class TextTable:
    """A table that was read.

    Attributes:
        path: its file.
        names: of the columns.
        rows: cells without space around them, as many as columns.
        lines: of the file, counted from 1, where each row ends.
    """

    path: Path
    names: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    lines: Sequence[int]

    def where(self, row: int) -> str:
        """Where a row is, for messages."""
        return f"line {self.lines[row]:,} of {printable(self.path.name)}"

    def column(self, name: str, option: str) -> str:
        """Check that there is a column.

        Args:
            name: of the column.
            option: that names it, for messages.

        Raises:
            InputError: there is none.
        """
        if name not in self.names:
            raise InputError(
                f"{printable(self.path)} has no column {printable(name)!r} ({option}); its columns: {few(self.names)}"
            )
        return name

    def choose(self, kind: str, given: str | None, usual: Sequence[str]) -> str:
        """Choose a column: the one that is given, else the first of the usual names that there is.

        Args:
            kind: image or label: what it is of, in messages and in the option's name.
            given: the option's value.
            usual: names, in any case.

        Raises:
            InputError: there is none.
        """
        option = f"data.{kind}_column"
        if given is not None:
            return self.column(given, option)
        by_name = {name.lower(): name for name in reversed(self.names)}
        if (found := next((by_name[name] for name in usual if name in by_name), None)) is None:
            raise InputError(
                f"{printable(self.path)} has no {kind} column ({', '.join(usual[:4])}, ...); its columns: "
                f"{few(self.names)}; set {option} to one of them"
            )
        return found

    def values(self, column: str) -> list[str]:
        """Cells of a column, one for each row, as they are written."""
        place = self.names.index(column)
        return [row[place] for row in self.rows]


def read_table(path: Path) -> TextTable:
    """Read a table; columns are separated by commas, semicolons, tabs or bars, whichever its first line has.

    Args:
        path: of the file, in UTF-8.

    Raises:
        InputError: it is missing, empty, no text, or has rows of another width, or a column twice.
    """
    if not path.is_file():
        raise InputError(f"no such file: {printable(path)}")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{printable(path)} is not a readable table: it is {describe_file(path)} ({error_summary(error)})"
        ) from error
    lines = text.splitlines()
    if not lines:
        raise InputError(f"{printable(path)} is empty; want a line of column names, then a line for each sample")
    delimiter = max(DELIMITERS, key=lambda sign: (lines[0].count(sign), -DELIMITERS.index(sign)))
    reader, rows, ends = csv.reader(text.splitlines(keepends=True), delimiter=delimiter), list[tuple[str, ...]](), []
    try:
        names = tuple(cell.strip() for cell in next(reader))
        for found in reader:
            if found:
                rows.append(tuple(cell.strip() for cell in found))
                ends.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{printable(path)} is not a readable table: line {reader.line_num}: {error}") from error
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"{printable(path)} has the column {printable(twice)!r} twice")
    for cells, line in zip(rows, ends, strict=True):
        if len(cells) != len(names):
            raise InputError(
                f"line {line:,} of {printable(path)} has {len(cells)} cells, there are {len(names)} columns: "
                f"{few(names)}"
            )
    return TextTable(path, names, rows, ends)
