"""Samples that are in two splits are counted and said, and the count is kept with the run."""

import json
from pathlib import Path

import numpy as np

from nas_kd.config.options import DataOptions
from nas_kd.context.run_context import dataset_record
from nas_kd.data.duplicates import count_duplicates, duplicates_sentence
from nas_kd.data.prepare import load_dataset
from nas_kd.results.run_record import DatasetRecord

from .conftest import fill, noise, png


def test_counted_by_content() -> None:
    x = noise(0, 10, 3, 4, 4)
    splits = {"train": x[:6], "val": x[4:8], "test": np.concatenate([x[7:], x[:1], x[:1]])}
    assert count_duplicates(splits) == {"val": 2, "test": 3}  # test: 7 of val, 0 of train twice
    assert count_duplicates({"train": x[:6], "val": x[6:8], "test": x[8:]}) == {}
    reordered = {name: np.asfortranarray(part) for name, part in splits.items()}
    assert count_duplicates(reordered) == {"val": 2, "test": 3}


def test_twice_in_train_is_no_leak() -> None:
    x = noise(0, 4, 5)
    assert count_duplicates({"train": np.concatenate([x, x]), "val": noise(1, 3, 5), "test": noise(2, 3, 5)}) == {}


def test_said_in_one_line() -> None:
    sizes = {"train": 9, "val": 4, "test": 5000}
    assert duplicates_sentence({}, sizes) is None
    assert duplicates_sentence({"val": 2, "test": 1200}, sizes) == (
        "duplicates: 2 of 4 val samples are in train and 1,200 of 5,000 test samples are in train or val, too, "
        "to the last bit"
    )


def test_the_same_picture_in_another_file_format_is_found(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", n=2, first=900)
    fill(tmp_path / "test", n=3, first=500)
    (tmp_path / "test" / "bee" / "copy.bmp").write_bytes(png(noise(3, 8, 8, 3), "BMP"))  # under another label, too
    dataset = load_dataset(DataOptions(source="image_folder", path=tmp_path), 0)
    assert dataset.about.duplicates == {"test": 1}
    assert "duplicates: 1 of 7 test samples are in train or val, too, to the last bit" in dataset.notes


def test_the_demo_has_none() -> None:
    assert load_dataset(DataOptions(), 0).about.duplicates == {}


def test_what_was_said_is_kept_in_the_record(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", n=3)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("hello")
    dataset = load_dataset(DataOptions(source="image_folder", path=tmp_path, image_size=[6, 4], resize="stretch"), 0)
    record = DatasetRecord.model_validate(json.loads(dataset_record(dataset).model_dump_json()))
    assert record.notes == dataset.notes
    assert record.duplicates == {"test": 6}
    assert record.skipped == {"not a picture by suffix": 1}
    assert record.picture_steps == {
        "image_size": [6, 4],
        "resize": "stretch",
        "colour": "rgb",
        "interpolation": "bicubic",
        "fill": 0,
    }
    assert record.input_shape == (3, 6, 4)
