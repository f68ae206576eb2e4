"""Tables of picture files: columns, several labels, numbers, files that are missing or elsewhere, and bad tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.data.text_table import read_table
from nas_kd.errors import InputError

from .conftest import noise, png

N = 24


def write(folder: Path, header: str, cells: list[str], name: str = "train.csv") -> Path:
    """Write pictures 0.png, 1.png, ... into pictures/, and a table with these cells after each name."""
    (folder / "pictures").mkdir(exist_ok=True)
    for number in range(len(cells)):
        (folder / "pictures" / f"{number}.png").write_bytes(png(noise(number, 8, 8, 3)))
    path = folder / name
    path.write_text("\n".join([header, *(f"{number}.png{cell}" for number, cell in enumerate(cells))]) + "\n")
    return path


def load(train: Path, **options: Any) -> Dataset:
    given = {"source": "picture_table", "train": train, "path": train.parent / "pictures"}
    return load_dataset(DataOptions(**(given | options)), 0)


def refusal(train: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(train, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_one_label_a_picture(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, "file,label", [",cat" if n % 2 else ",dog" for n in range(N)]))
    assert dataset.classes == ("cat", "dog")
    assert dataset.input_shape == (3, 8, 8)
    assert sorted(len(split) for split in (dataset.train, dataset.val, dataset.test)) == [4, 4, 16]
    row = int(dataset.carved_rows["train"][0])
    assert np.array_equal(dataset.train.x[:1].numpy()[0], noise(row, 8, 8, 3).transpose(2, 0, 1))  # type: ignore[index]
    assert dataset.train.y[0] == 1 - row % 2


def test_lists_of_labels_in_a_cell(tmp_path: Path) -> None:
    lists = ["red", "red|white", "", "white | plates"]
    table = write(tmp_path, "image,findings", [f",{lists[n % 4]}" for n in range(N)])
    dataset = load(table, label_column="findings", label_separator="|", task="multi_label")
    assert dataset.classes == ("plates", "red", "white")
    rows = dataset.carved_rows["train"].tolist()
    wanted = [[0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]]
    assert dataset.train.y.int().tolist() == [wanted[row % 4] for row in rows]


def test_columns_of_labels_and_of_numbers(tmp_path: Path) -> None:
    table = write(tmp_path, "path;red;white", [f";{n % 2};{int(n % 3 == 0)}" for n in range(N)])
    labels = load(table, label_columns=["red", "white"], task="multi_label")
    assert labels.classes == ("red", "white")
    assert labels.train.y[:, 0].int().tolist() == [row % 2 for row in labels.carved_rows["train"].tolist()]
    table = write(tmp_path, "path\tx\ty", [f"\t{n / 2}\t{-n}" for n in range(N)], "numbers.tsv")
    numbers = load(table, label_columns=["y", "x"], task="regression")
    assert numbers.classes == ("y", "x")
    rows = numbers.carved_rows["train"].tolist()
    assert numbers.train.y.tolist() == [[-row, row / 2] for row in rows]


def test_a_column_of_numbers_is_numbers(tmp_path: Path) -> None:
    table = write(tmp_path, "file,count", [f",{n}" for n in range(N)])
    dataset = load(table, label_column="count", task="regression")
    assert dataset.train.y[:, 0].tolist() == dataset.carved_rows["train"].tolist()


def test_splits_of_their_own_and_first_rows(tmp_path: Path) -> None:
    cells = [",a" if n % 2 else ",b" for n in range(N)]
    train, test = write(tmp_path, "file,label", cells), write(tmp_path, "file,label", cells[:6], "test.csv")
    dataset = load(train, test=test, val=test, train_rows=10)
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [10, 6, 6]


def test_rows_of_one_group_stay_together(tmp_path: Path) -> None:
    table = write(tmp_path, "file,label,patient", [f",{'ab'[n % 2]},p{n // 4}" for n in range(N)])
    rows = load(table, group="patient").carved_rows
    patients = {split: {row // 4 for row in found.tolist()} for split, found in rows.items()}
    assert sum(map(len, patients.values())) == N // 4
    assert "has no column 'clip' (data.group)" in refusal(table, group="clip")


def test_missing_pictures_are_refused_or_skipped_and_counted(tmp_path: Path) -> None:
    table = write(tmp_path, "file,label", [",a" if n % 2 else ",b" for n in range(N)])
    (tmp_path / "pictures" / "3.png").unlink()
    assert "names pictures that are not in" in refusal(table)
    assert "no such picture: 1 (3.png)" in refusal(table)
    dataset = load(table, on_error="skip")
    assert dataset.about.skipped == {"no such picture": 1}
    assert any("pictures that are not there, left out: no such picture: 1 (3.png)" in note for note in dataset.notes)
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == N - 1


def test_samples_without_a_label_are_broken_ones(tmp_path: Path) -> None:
    table = write(tmp_path, "file,label", [",a" if n % 2 else ",b" for n in range(N)] + [","])
    assert "has no label" in refusal(table)
    assert load(table, on_error="skip").about.skipped == {"without a label": 1}


def test_no_file_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    table = write(tmp_path, "file,label", [",a" if n % 2 else ",b" for n in range(N)])
    (tmp_path / "secret.png").write_bytes(png(noise(99, 8, 8, 3)))
    table.write_text(table.read_text() + "../secret.png,a\n")
    assert "line 26 of train.csv names '../secret.png', which is outside of" in refusal(table)
    assert len(load(table, follow_links=True).train.x) > 0


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty; want a line of column names"),
        ("file,label\n", {}, "has no rows"),
        (
            "file,kind\n0.png,a\n",
            {},
            "has no label column (label, labels, class, target, ...); its columns: file, kind",
        ),
        ("file,label\n0.png,a\n", {"label_column": "kind"}, "has no column 'kind' (data.label_column)"),
        ("file,a\n0.png,1\n", {"label_columns": ["a", "b"]}, "has no column 'b' (data.label_columns)"),
        ("name,label\n0.png,a\n", {}, "has no image column (file, filename, file_name, image, ...)"),
        ("file,label\n0.png,a,b\n", {}, "line 2 of"),
        ("file,label,label\n0.png,a,b\n", {}, "has the column 'label' twice"),
        ("file,a,b\n0.png,1,no\n", {"label_columns": ["a", "b"]}, "has 'no' in column 'b'; want a number"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    table = write(tmp_path, "file,label", [",a"])
    table.write_text(text)
    assert message in refusal(table, **options)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    table = write(tmp_path, "file,label", [",a"])
    table.write_bytes(png(noise(0, 8, 8)))
    assert "is not a readable table: it is" in refusal(table)
    assert "no such file" in refusal(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"source 'picture_table' needs data\.train"):
        load_dataset(DataOptions(source="picture_table"), 0)


def test_a_label_that_only_validation_has_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path, "file,label", [",a" if n % 2 else ",a|b" for n in range(N)])
    val = write(tmp_path, "file,label", [",c"], "val.csv")
    message = refusal(train, val=val, label_separator="|", task="multi_label")
    assert "line 2 of val.csv has the label 'c', which no training sample has" in message


def test_quotes_byte_order_marks_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('\ufefffile , label\n"a, b.png",  x\n\n"c.png","two\nlines"\n', encoding="utf-8")
    table = read_table(path)
    assert table.names == ("file", "label")
    assert table.rows == [("a, b.png", "x"), ("c.png", "two\nlines")]
    assert table.where(0) == "line 2 of table.csv"
