"""Parquet in the Hugging Face image layout: columns, modes, sizes, rows, and broken files."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import noise, png, usual_augmentation

Write = Callable[..., Path]
N = 20
LABELS = [i % 2 for i in range(N)]
COLOUR = [png(noise(i, 8, 8, 3)) for i in range(N)]
GREY = [png(noise(i, 8, 8)) for i in range(N)]


def load(train: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="parquet", train=train, **options), 0)


def test_pixels_names_and_splits(write_parquet: Write) -> None:
    train = write_parquet(COLOUR, LABELS)
    test = write_parquet(COLOUR[:6], LABELS[:6], file="bugs-test.parquet")
    dataset = load(train, val=test, test=test)
    assert (dataset.name, dataset.classes) == ("bugs", ("ant", "bee"))
    assert dataset.notes[0] == "pictures: 8x8 pixels (their own size)"
    assert np.array_equal(
        dataset.train.x.numpy(), np.stack([noise(i, 8, 8, 3) for i in range(N)]).transpose(0, 3, 1, 2)
    )
    assert dataset.train.y.tolist() == LABELS
    assert (len(dataset.val), len(dataset.test)) == (6, 6)
    assert usual_augmentation(dataset).flip is True


@pytest.mark.parametrize("columns", [("img", "fine_label"), ("image", "labels")])
@pytest.mark.parametrize("plain", [False, True])
def test_other_column_names_and_plain_bytes(write_parquet: Write, columns: tuple[str, str], plain: bool) -> None:
    dataset = load(write_parquet(GREY, LABELS, columns=columns, plain=plain))
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.classes == ("ant", "bee")
    assert usual_augmentation(dataset).flip is False  # grey


def test_without_names_classes_are_numbers_and_not_mirrored(write_parquet: Write) -> None:
    dataset = load(write_parquet(COLOUR, LABELS, names=None))
    assert dataset.classes == ("0", "1")
    assert usual_augmentation(dataset).flip is False
    description = [("cat", "dog")[label] for label in LABELS]
    assert load(write_parquet(COLOUR, description, names=None)).classes == ("cat", "dog")


@pytest.mark.parametrize("names", [("3", "8"), ("b", "d"), ("turn left", "stop")])
def test_symbols_are_not_mirrored(write_parquet: Write, names: tuple[str, str]) -> None:
    assert usual_augmentation(load(write_parquet(COLOUR, LABELS, names=names))).flip is False


def test_only_the_first_rows_are_read(write_parquet: Write) -> None:
    broken: list[bytes | None] = [*COLOUR[:12], b"broken", *COLOUR[13:]]
    path = write_parquet(broken, LABELS, row_group_size=4)
    whole = path.read_bytes()
    assert len(load(path, train_rows=12, test=write_parquet(COLOUR, LABELS, file="t.parquet")).train) == 10
    offset = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset
    path.write_bytes(whole[:offset] + b"\xff" * 60 + whole[offset + 60 :])
    load(path, train_rows=12)
    with pytest.raises(InputError):
        load(path, train_rows=13)


def test_test_rows(write_parquet: Write) -> None:
    path = write_parquet(COLOUR, LABELS)
    assert len(load(path, test=path, test_rows=7).test) == 7
    with pytest.raises(InputError, match=r"data\.test_rows needs test data of its own"):
        load(path, test_rows=7)


def test_mixed_modes_become_rgb_and_are_counted(write_parquet: Write) -> None:
    train = write_parquet([*GREY[:5], *COLOUR[5:]], LABELS)
    test = write_parquet(GREY, LABELS, file="t.parquet")
    dataset = load(train, test=test)
    assert dataset.input_shape == (3, 8, 8)
    assert dataset.notes[1] == "25 grey images of 40 were converted to RGB"
    assert np.array_equal(dataset.test.x[3].numpy(), np.broadcast_to(noise(3, 8, 8), (3, 8, 8)))


def test_palette_alpha_and_black_and_white(write_parquet: Write) -> None:
    rgba = Image.fromarray(noise(0, 8, 8, 4))
    palette = Image.fromarray(noise(1, 8, 8, 3)).quantize(16)
    clear = png(np.asarray(rgba))
    as_palette = io.BytesIO()
    palette.save(as_palette, "PNG", transparency=bytes(16))
    bits = png(noise(2, 8, 8) > 128)
    dataset = load(write_parquet([clear, as_palette.getvalue(), bits, *COLOUR[3:]], LABELS, names=None))
    assert dataset.input_shape == (3, 8, 8)


def test_sizes(write_parquet: Write) -> None:
    large = png(noise(9, 12, 10, 3))
    mixed = write_parquet([*COLOUR[:9], large, *COLOUR[10:]], LABELS)
    assert load(mixed).input_shape == (3, 8, 8)
    assert load(mixed).notes[0] == (
        "pictures: 8x8 pixels (the size of most); 1 of 20 were resized: centre crop of the right shape, bicubic"
    )
    assert load(mixed, image_size=6).input_shape == (3, 6, 6)
    other = load(write_parquet(COLOUR, LABELS), test=write_parquet([large] * 4, [0, 1, 0, 1], file="t.parquet"))
    assert other.test.x.shape == (4, 3, 8, 8)
    assert "4 of 24 were resized" in other.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row 4 of .*not a readable image"),
        (b"hello", "row 4 of .*not a readable image"),
        (COLOUR[0][:60], "row 4 of .*not a readable image"),
        (png(noise(0, 8, 8, 3), "JPEG")[:300], "row 4 of .*not a readable image"),
        (None, "row 4 of .*holds no image bytes"),
        (png(noise(0, 8, 8).astype(np.uint16)), "row 4 of .*mode 'I;16' are not supported"),
    ],
)
def test_broken_images_are_named_by_row(write_parquet: Write, content: bytes | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(write_parquet([*COLOUR[:4], content, *COLOUR[5:]], LABELS))
    assert "\n" not in str(caught.value)


def test_images_too_large_for_the_memory(write_parquet: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    with pytest.raises(InputError, match=r"of memory, 0\.0 GB are free; set data\.train_rows"):
        load(write_parquet(COLOUR, LABELS))


def test_broken_files(tmp_path: Path, write_parquet: Write) -> None:
    with pytest.raises(InputError, match=r"needs data\.train"):
        load_dataset(DataOptions(source="parquet"), 0)
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "absent.parquet")
    with pytest.raises(InputError, match=r"is a folder that has no \*\.parquet files"):
        load(tmp_path)
    path = tmp_path / "x.parquet"
    whole = write_parquet(COLOUR, LABELS).read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:50] + bytes(500) + whole[550:]):
        path.write_bytes(content)
        with pytest.raises(InputError):
            load(path)
    with pytest.raises(InputError, match="has no rows"):
        load(write_parquet([], pa.array([], type=pa.int64())))


def test_columns_labels_and_names(tmp_path: Path, write_parquet: Write) -> None:
    with pytest.raises(InputError, match=r"row 3 of .* has no label; data\.on_error"):
        load(write_parquet(COLOUR, [*LABELS[:3], None, *LABELS[4:]]))
    with pytest.raises(InputError, match=r"has the label \[0\]"):
        load(write_parquet(COLOUR, [[label] for label in LABELS]))
    with pytest.raises(InputError, match=r"label 2 of train \(sample 19\) is out of range: classes are 0..1"):
        load(write_parquet(COLOUR, [*LABELS[:19], 2]))
    train, other = write_parquet(COLOUR, LABELS), write_parquet(COLOUR, LABELS, names=("bee", "ant"), file="t.parquet")
    with pytest.raises(InputError, match=r"class names of test \(t\.parquet\) differ from .*: bee, ant, ant, bee"):
        load(train, test=other)
    table = pq.read_table(write_parquet(COLOUR, LABELS))
    for metadata in ("{", "[]", json.dumps({"info": {}})):
        pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "m.parquet")
        with pytest.raises(InputError, match="metadata of its schema cannot be read"):
            load(tmp_path / "m.parquet")
