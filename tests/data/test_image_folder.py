"""Folders of images: splits, sizes, order, links that lead out, and broken or missing files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.folder_listing import OUTSIDE
from nas_kd.data.image_folder import interleave
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import fill, noise, png, usual_augmentation


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="image_folder", path=path, **options), 0)


def test_classes_pixels_and_carving(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path / "bugs"), image_size=8)
    assert (dataset.name, dataset.classes, dataset.input_shape) == ("bugs", ("ant", "bee"), (3, 8, 8))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (12, 4, 4)
    everything = {x.numpy().tobytes() for split in (dataset.train, dataset.val, dataset.test) for x in split.x}
    assert noise(103, 8, 8, 3).transpose(2, 0, 1).tobytes() in everything
    assert len(everything) == 20
    assert usual_augmentation(dataset).flip is True


def test_given_splits_and_default_size(tmp_path: Path) -> None:
    for split, n in (("train", 6), ("val", 2), ("test", 3)):
        fill(tmp_path / split, n=n)
    (tmp_path / "extra").mkdir()
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (12, 4, 6)
    assert dataset.input_shape == (3, 8, 8)
    assert dataset.notes[:2] == (
        "pictures: 8x8 pixels (their own size)",
        "entries that were not read: beside the splits: 1 (extra)",
    )


def test_large_images_lose_their_edges_not_their_shape(tmp_path: Path) -> None:
    fill(tmp_path, side=8)
    wide = np.zeros((64, 256, 3), np.uint8)
    wide[:, 96:160] = (200, 100, 50)  # the centre square
    for name, kind in (("00.png", "PNG"), ("01.jpg", "JPEG")):
        (tmp_path / "ant" / name).write_bytes(png(wide, kind, **({"quality": 95} if kind == "JPEG" else {})))
    dataset = load(tmp_path, image_size=8)
    everything = np.concatenate([s.x.numpy() for s in (dataset.train, dataset.val, dataset.test)]).astype(int)
    target = np.array([200, 100, 50]).reshape(3, 1, 1)
    inner = np.abs(everything - target)[:, :, 1:7, 1:7].max((1, 2, 3))
    assert int((inner <= 4).sum()) == 2


def test_upright(tmp_path: Path) -> None:
    fill(tmp_path)
    turned = Image.fromarray(
        np.repeat(np.arange(0, 256, 32, dtype=np.uint8)[None], 8, axis=0)
    )  # dark left, light right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees: dark on top
    turned.convert("RGB").save(tmp_path / "ant" / "00.png", exif=exif)
    dataset = load(tmp_path, image_size=8, test_fraction=0.1, val_fraction=0.1)
    want = np.repeat(np.arange(0, 256, 32, dtype=np.uint8)[:, None], 8, axis=1)
    splits = (dataset.train, dataset.val, dataset.test)
    assert any(np.array_equal(x[0].numpy(), want) for split in splits for x in split.x)


def test_first_rows_are_a_fair_subset(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path), image_size=8, train_rows=8)
    labels = [int(y) for split in (dataset.train, dataset.val, dataset.test) for y in split.y]
    assert sorted(labels) == [0] * 4 + [1] * 4
    by_class = {"a": [Path("1"), Path("2"), Path("3")], "b": [Path("4")]}
    assert [str(file) for _, file in interleave(by_class)] == ["1", "4", "2", "3"]


def test_links_out_of_the_folder_are_skipped_and_said(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data")
    (tmp_path / "secret.png").write_bytes(png(noise(0, 8, 8, 3)))
    fill(tmp_path / "others", ("wasp",))
    (folder / "ant" / "10.png").symlink_to(tmp_path / "secret.png")
    (folder / "wasp").symlink_to(tmp_path / "others" / "wasp")
    (folder / "bee" / "10.png").symlink_to("00.png")  # within the folder: fine
    (folder / "bee" / "11.png").symlink_to("absent.png")
    (folder / "bee" / "12.png").symlink_to("12.png")
    dataset = load(folder, image_size=8)
    assert dataset.classes == ("ant", "bee")
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 21
    assert dataset.about.skipped == {OUTSIDE: 2, "link to nothing": 2}
    (said,) = [note for note in dataset.notes if note.startswith("entries that were not read")]
    assert "link that leads out of the folder (data.follow_links = true follows it): 2 (wasp, ant/10.png)" in said
    assert load(fill(tmp_path / "real") and _link(tmp_path / "alias", tmp_path / "real"), image_size=8).name == "real"


def _link(link: Path, target: Path) -> Path:
    link.symlink_to(target)
    return link


def test_a_split_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere")
    fill(tmp_path / "data" / "train")
    (tmp_path / "data" / "test").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"test is a link that leads out of data\.path"):
        load(tmp_path / "data")


def test_other_entries_are_not_read_and_said(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "ant" / "list.txt").write_text("hello")
    (tmp_path / "ant" / ".hidden.png").write_text("hello")
    (tmp_path / "ant" / "sub.png").mkdir()
    os.mkfifo(tmp_path / "ant" / "pipe.png")
    assert load(tmp_path, image_size=8).about.skipped == {
        "not a picture by suffix": 2,
        "hidden": 1,
        "neither a file nor a folder": 1,
        "folder inside a class folder": 1,
    }


def test_mixed_modes(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "ant" / "00.png").write_bytes(png(noise(0, 8, 8)))
    dataset = load(tmp_path, image_size=8)
    assert dataset.input_shape == (3, 8, 8)
    assert "1 grey images of 20 were converted to RGB" in dataset.notes


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs data\.path"):
        load_dataset(DataOptions(source="image_folder"), 0)
    with pytest.raises(InputError, match="no such folder"):
        load(tmp_path / "absent")
    with pytest.raises(InputError, match="has no class folders"):
        load(tmp_path)
    fill(tmp_path / "data")
    (tmp_path / "data" / "cow").mkdir()
    with pytest.raises(InputError, match=r"class folder .*cow has no images"):
        load(tmp_path / "data")
    (tmp_path / "data" / "cow" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"cow/a\.png: not a readable image"):
        load(tmp_path / "data")
    (tmp_path / "data" / "cow" / "a.png").write_bytes(png(noise(0, 8, 8, 3)))
    with pytest.raises(InputError, match="class 'cow' has 1 sample in train"):
        load(tmp_path / "data")


def test_one_class_and_a_class_only_in_test(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one class only \('ant'\)"):
        load(fill(tmp_path / "one", ("ant",)))
    fill(tmp_path / "two" / "train")
    fill(tmp_path / "two" / "test", ("ant", "wasp"))
    with pytest.raises(InputError, match=r"class 'wasp' of test does not occur in train \(ant, bee\)"):
        load(tmp_path / "two")
