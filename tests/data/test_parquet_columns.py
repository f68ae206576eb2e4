"""Columns of Parquet files by name, type and option; and labels of every type, missing ones among them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import noise, png

Write = Callable[..., Path]
N = 20
LABELS: list[Any] = [i % 2 for i in range(N)]
PICTURES = [png(noise(i, 8, 8, 3)) for i in range(N)]


def load(train: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="parquet", train=train, **options), 0)


def refusal(train: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(train, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def with_column(path: Path, name: str, values: Any) -> Path:
    table = pq.read_table(path)
    pq.write_table(table.append_column(name, pa.array(values)), path)
    return path


@pytest.mark.parametrize(
    "columns",
    [
        ("img", "fine_label"),
        ("Image", "Label"),
        ("picture", "class"),
        ("photo", "target"),
        ("scan", "category"),
        ("x", "y"),
    ],
)
def test_columns_that_can_be_told(write_parquet: Write, columns: tuple[str, str]) -> None:
    dataset = load(write_parquet(PICTURES, LABELS, columns=columns))
    assert dataset.key == load(write_parquet(PICTURES, LABELS)).key
    said = f"columns that were read: {columns[0]!r} and {columns[1]!r}" in dataset.notes
    assert said == (columns != ("img", "fine_label"))


def test_a_column_of_class_labels_is_one_whatever_its_name(write_parquet: Write) -> None:
    assert load(write_parquet(PICTURES, LABELS, columns=("image", "breed"))).classes == ("ant", "bee")
    plain = write_parquet(PICTURES, LABELS, columns=("image", "breed"), names=None)
    assert "no label column (label or labels or fine_label); its columns: breed; set data.label_column" in refusal(
        plain
    )
    assert load(plain, label_column="breed").n_classes == 2


def test_several_columns_are_several_labels_or_numbers(write_parquet: Write) -> None:
    path = with_column(write_parquet(PICTURES, LABELS), "red", [n % 3 == 0 for n in range(N)])
    path = with_column(path, "size", [n / 4 for n in range(N)])
    labels = load(path, label_columns=["label", "red"], task="multi_label")
    rows = labels.carved_rows["train"].tolist()
    assert labels.classes == ("label", "red")
    assert labels.train.y.int().tolist() == [[row % 2, int(row % 3 == 0)] for row in rows]
    numbers = load(path, label_columns=["size", "label"], task="regression")
    assert numbers.train.y.tolist() == [[row / 4, row % 2] for row in numbers.carved_rows["train"].tolist()]
    assert "has no column 'blue' (data.label_columns)" in refusal(path, label_columns=["red", "blue"])
    assert "leave data.label_column out" in refusal(path, label_columns=["red", "size"], label_column="red")
    words = with_column(path, "word", ["a"] * N)
    assert "has the labels 0.0, 'a'; want numbers" in refusal(words, label_columns=["size", "word"], task="regression")


def test_several_that_could_be_meant_are_asked_for(write_parquet: Write) -> None:
    path = with_column(write_parquet(PICTURES, LABELS, columns=("scan", "label"), plain=True), "photo_b", PICTURES)
    assert 'may be the image: scan, photo_b; set data.image_column = "scan"' in refusal(path)
    assert load(path, image_column="photo_b").input_shape == (3, 8, 8)
    path = with_column(write_parquet(PICTURES, LABELS, columns=("image", "target"), names=None), "category", LABELS)
    assert 'may be the label: target, category; set data.label_column = "target"' in refusal(path)


def test_of_fine_and_coarse_labels_the_fine_are_taken_and_the_choice_is_said(write_parquet: Write) -> None:
    path = with_column(
        write_parquet(PICTURES, LABELS, columns=("img", "fine_label")), "coarse_label", [i // 10 for i in range(N)]
    )
    dataset = load(path)
    assert "labels are those of column 'fine_label', not coarse_label (data.label_column chooses)" in dataset.notes
    coarse = load(path, label_column="coarse_label")
    assert coarse.classes == ("0", "1")
    assert not [note for note in coarse.notes if note.startswith("labels are")]


def test_options_that_name_no_column(write_parquet: Write) -> None:
    path = write_parquet(PICTURES, LABELS)
    assert "has no column 'pic' (data.image_column); its columns: image, label" in refusal(path, image_column="pic")
    assert "has no column 'image' (data.label_column)" in refusal(path, label_column="image")
    with pytest.raises(InputError, match=r"data\.label_column is not used by source 'digits'"):
        load_dataset(DataOptions(label_column="x"), 0)


def test_no_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "t.parquet")
    assert "no image column (image or img); its columns: text, label; set data.image_column" in refusal(
        tmp_path / "t.parquet"
    )
    pq.write_table(pa.table({"image": ["a.png"] * N, "label": LABELS}), tmp_path / "t.parquet")
    assert "row 0 of" in (said := refusal(tmp_path / "t.parquet"))
    assert "holds no image bytes (a path alone is not followed)" in said


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([float(label) for label in LABELS], ("0", "1")),
        ([bool(label) for label in LABELS], ("0", "1")),
        (pa.array(LABELS, pa.uint8()), ("0", "1")),
        ([("ant", "bée")[label] for label in LABELS], ("ant", "bée")),
        (pa.array([("ant", "bee")[label] for label in LABELS]).dictionary_encode(), ("ant", "bee")),
        ([2 * label - 1 for label in LABELS], ("-1", "1")),
    ],
)
def test_labels_of_any_type(write_parquet: Write, labels: Any, classes: tuple[str, ...]) -> None:
    dataset = load(write_parquet(PICTURES, labels, names=None))
    assert dataset.classes == classes
    assert bool((dataset.train.y == load(write_parquet(PICTURES, LABELS)).train.y).all())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([label + 0.5 for label in LABELS], r"label 0\.5 of train \(sample 0\) is not a class number"),
        ([[label] for label in LABELS], r"has the label \[0\]; want a class number or name"),
        (pa.array(LABELS, pa.decimal128(5)), r"has the label Decimal\('0'\); want a class number or name"),
        ([b"ant", b"bee"] * 10, "has the label b'ant'; want a class number or name"),
    ],
)
def test_labels_that_are_none(write_parquet: Write, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(write_parquet(PICTURES, labels, names=None))


@pytest.mark.parametrize(
    ("missing", "names"), [(None, ("ant", "bee")), (None, None), (-1, ("ant", "bee")), (-1, None), (float("nan"), None)]
)
def test_a_missing_label_is_refused_or_left_out(write_parquet: Write, missing: Any, names: Any) -> None:
    labels = [float(label) if isinstance(missing, float) else label for label in LABELS]
    labels[3] = missing
    path = write_parquet(PICTURES, labels, names=names)
    said = refusal(path)
    assert said.startswith("row 3 of ")
    assert said.endswith('has no label; data.on_error = "skip" leaves such samples out')
    dataset = load(path, on_error="skip")
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == N - 1
    assert dataset.about.skipped == {"without a label": 1}
    assert any("without a label: 1 (row 3 of bugs-train.parquet)" in note for note in dataset.notes)


def test_a_split_without_labels_is_named(write_parquet: Write) -> None:
    train = write_parquet(PICTURES, LABELS)
    for labels in ([-1] * N, pa.array([None] * N, pa.int64())):
        test = write_parquet(PICTURES, labels, file="test.parquet")
        for on_error in ("fail", "skip"):
            said = refusal(train, test=test, on_error=on_error)
            assert said == (
                "test has no labels: all of column 'label' are missing; leave data.test out, and test is carved from "
                "train"
            )


def test_a_class_that_test_lacks_is_no_mistake(write_parquet: Write) -> None:
    train = write_parquet(PICTURES, LABELS)
    assert len(load(train, test=write_parquet(PICTURES[:4], [1] * 4, file="test.parquet")).test) == 4


def test_broken_pictures_are_left_out_by_option(write_parquet: Write) -> None:
    path = write_parquet([b"hello", b"", None, *PICTURES[3:]], LABELS)
    dataset = load(path, on_error="skip")
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == N - 3
    assert dataset.about.skipped == {"not a picture": 1, "empty": 1, "without image bytes": 1}
    assert "none of the 20 samples of train can be used: not a picture: 20" in refusal(
        write_parquet([b"x"] * N, LABELS), on_error="skip"
    )
