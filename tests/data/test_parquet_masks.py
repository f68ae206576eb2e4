"""Parquet files with a mask beside each picture: read as the same files in folders are, and what is refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nas_kd.config.options import DataOptions
from nas_kd.data.mask_folder import PLUGIN as FOLDER
from nas_kd.data.parquet_masks import PLUGIN
from nas_kd.data.prepare import load_dataset
from nas_kd.data.source import RawData
from nas_kd.errors import InputError

from .test_mask_folder import write


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    pq.write_table(pa.table(dict(columns)), path)
    return path


def cells(folder: Path, *, plain: bool = False) -> list[Any]:
    content = [file.read_bytes() for file in sorted(folder.iterdir())]
    return content if plain else [{"bytes": one, "path": None} for one in content]


def table_of(folder: Path, path: Path, image: str = "image", mask: str = "annotation", *, plain: bool = False) -> Path:
    columns = {image: cells(folder / "images", plain=plain), mask: cells(folder / "masks", plain=plain)}
    return write_table(path, columns | {"scene_category": ["a"] * len(columns[image])})


def load(train: Path, **options: Any) -> RawData:
    return PLUGIN.load(DataOptions(train=train, **options))


@pytest.mark.parametrize(("plain", "image", "mask"), [(False, "image", "annotation"), (True, "photo", "classes")])
def test_they_are_read_as_files_in_folders_are(tmp_path: Path, plain: bool, image: str, mask: str) -> None:
    folder = write(tmp_path / "folder", "train")
    expected = FOLDER.load(DataOptions(path=folder, image_size=8))
    raw = load(table_of(folder / "train", tmp_path / "a.parquet", image, mask, plain=plain), image_size=8)
    assert np.array_equal(raw.train.x, expected.train.x)
    assert np.array_equal(raw.train.y, expected.train.y)
    assert (raw.val, raw.test, raw.classes) == (None, None, ("0", "1", "2"))
    assert f"masks are those of column {mask!r}" in raw.notes


def test_a_data_set_is_made_of_shards(tmp_path: Path) -> None:
    folder, shards = write(tmp_path / "folder", "train", 12), tmp_path / "shards"
    shards.mkdir()
    table_of(folder / "train", shards / "train-0.parquet")
    table_of(folder / "train", shards / "train-1.parquet")
    options = DataOptions(source="parquet_masks", train=shards, task="segmentation", train_rows=20)
    data = load_dataset(options, 0)
    assert len(data.train) + len(data.val) + len(data.test) == 20
    grouped = options.model_copy(update={"group": "scene_category"})
    with pytest.raises(InputError, match="all samples are of one"):
        load_dataset(grouped, 0)


def test_broken_masks_are_refused_or_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", "train") / "train"
    images, masks = cells(folder / "images"), cells(folder / "masks")
    masks[1], masks[3], images[4] = {"bytes": None, "path": None}, images[3], {"bytes": b"no picture", "path": None}
    path = write_table(tmp_path / "a.parquet", {"image": images, "mask": masks})
    with pytest.raises(InputError, match=r"row 1 of .*, column 'mask'"):
        load(path)
    raw = load(path, on_error="skip")
    whole = FOLDER.load(DataOptions(path=tmp_path / "folder"))
    assert np.array_equal(raw.train.y, whole.train.y[[0, 2, 5]])
    assert np.array_equal(raw.train.x, whole.train.x[[0, 2, 5]])
    assert sum(raw.skipped.values()) == 3


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"image": [b"x"]}, {}, "no label column"),
        ({"image": [b"x"], "label": [3]}, {}, "column 'label' holds no pictures, so it has no masks"),
        ({"image": [b"x"], "mask": [b"y"]}, {"label_column": "depth"}, "no column 'depth'"),
        ({"image": [b"x"], "a": [b"y"], "b": [b"z"]}, {}, "several columns that may be the label"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(write_table(tmp_path / "a.parquet", columns), **options)


def test_the_source_of_labels_names_the_one_of_masks(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", "train")
    path = table_of(folder / "train", tmp_path / "a.parquet", mask="label")
    with pytest.raises(InputError, match=r'has a picture for a label; .* data.source = "parquet_masks"'):
        load_dataset(DataOptions(source="parquet", train=path), 0)
    with pytest.raises(InputError, match=r"needs data\.train"):
        PLUGIN.load(DataOptions(source="parquet_masks"))
