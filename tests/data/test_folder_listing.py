"""Which folders are splits and which are classes, and what is said where that cannot be told."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.folder_listing import OUTSIDE
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import fill, noise, png


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="image_folder", path=path, **options), 0)


def sizes(dataset: Dataset) -> tuple[int, int, int]:
    return len(dataset.train), len(dataset.val), len(dataset.test)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "Val", "Test"),
        ("training", "validation", "testing"),
        ("TRAIN", "valid", "TESTING"),
        ("train", "Dev", "test"),
    ],
)
def test_splits_in_every_usual_spelling_give_the_same_data(tmp_path: Path, train: str, val: str, test: str) -> None:
    for place, names in (("plain", ("train", "val", "test")), ("other", (train, val, test))):
        for n, (name, first) in enumerate(zip(names, (0, 1000, 2000), strict=True)):
            fill(tmp_path / place / "bugs" / name, n=6 - n, first=first)
    plain, other = load(tmp_path / "plain" / "bugs"), load(tmp_path / "other" / "bugs")
    assert sizes(other) == (12, 10, 8)
    assert other.key == plain.key


def test_splits_among_other_entries(tmp_path: Path) -> None:
    for split in ("Train", "Test"):
        fill(tmp_path / split)
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "photos.zip").write_bytes(b"PK")
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "Train" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "extra").mkdir()
    dataset = load(tmp_path)
    assert sizes(dataset) == (16, 4, 20)
    assert dataset.about.skipped == {"hidden": 3, "not a picture by suffix": 2, "beside the splits": 1}


def test_train_alone(tmp_path: Path) -> None:
    assert sizes(load(fill(tmp_path / "Train").parent)) == (12, 4, 4)


@pytest.mark.parametrize("inside", ["data", "a/b/c"])
def test_a_folder_nested_too_deep_is_entered_and_said(tmp_path: Path, inside: str) -> None:
    fill(tmp_path / "data" / inside / "train")
    fill(tmp_path / "data" / inside / "test" / "test", n=4)
    dataset = load(tmp_path / "data")
    assert sizes(dataset) == (16, 4, 8)
    assert f"read from {inside}/: the only folder there is" in dataset.notes
    assert f"test was read from {inside}/test/test/: the only folder there is" in dataset.notes


def test_nested_classes(tmp_path: Path) -> None:
    assert load(fill(tmp_path / "data" / "photos").parent).classes == ("ant", "bee")


def test_classes_that_are_called_like_splits(tmp_path: Path) -> None:
    assert load(fill(tmp_path / "vehicles", ("train", "bus", "car"))).classes == ("bus", "car", "train")
    assert load(fill(tmp_path / "words", ("test", "dev", "testing"))).classes == ("dev", "test", "testing")


def empty(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).mkdir(parents=True)
    return path


def flat(path: Path) -> Path:
    path.mkdir()
    for i in range(5):
        (path / f"{i}.jpg").write_bytes(png(noise(i, 8, 8, 3), "JPEG"))
    return path


REFUSED: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda d: fill(d / "Test", ("a", "b", "c")),
        "Test has 3 folders and no images: is this a split? want <class>/*.png",
    ),
    (
        lambda d: [fill(d / "setA"), fill(d / "setB")],
        "setA has 2 folders and no images; setB has 2 folders and no images",
    ),
    (
        lambda d: [fill(d / "train"), fill(d / "val"), fill(d / "Valid")],
        "has Valid/ and val/, all for val: keep one of them",
    ),
    (
        lambda d: [fill(d / "train"), flat(d / "test")],
        "test has 5 pictures and no class folders, which would be their lab",
    ),
    (
        lambda d: flat(d / "train"),
        "train has 5 pictures and no class folders, which would be their labels; want train/<cl",
    ),
    (flat, "has no class folders: found 5 pictures; want <class>"),
    (lambda d: [fill(d / "train"), empty(d, "val")], "val has no class folders: found nothing"),
    (
        lambda d: [fill(d / "train"), empty(d / "val", "ant", "bee")],
        "no pictures in any of its 2 class folders; remove it",
    ),
    (lambda d: [fill(d), empty(d, "cow")], "cow has no images (found nothing); add some, or remove the folder"),
    (
        lambda d: [fill(d / "train", ("Ant", "b")), fill(d / "test", ("ant", "b"))],
        "class 'ant' of test does not occur in tra",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_was_found_is_said(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    folder = tmp_path / "data"
    if make is not flat:
        folder.mkdir()
    make(folder)
    assert message in refusal(folder)


def test_a_class_folder_without_pictures_says_what_it_has(tmp_path: Path) -> None:
    fill(tmp_path)
    empty(tmp_path, "cow")
    for name in ("1.heic", "2.heic", "3.txt", ".hidden"):
        (tmp_path / "cow" / name).write_bytes(b"x")
    said = refusal(tmp_path)
    assert "not a picture by suffix: 3 (cow/1.heic, cow/2.heic, cow/3.txt)" in said
    assert "hidden: 1 (.hidden)" in said


def test_a_class_that_val_lacks_is_said(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", ("ant",))
    empty(tmp_path / "val", "bee")
    assert "classes without pictures in val: bee" in load(tmp_path).notes


def test_files_given_for_a_folder(tmp_path: Path) -> None:
    for content, kind in ((b"PK\x03\x04...", "a zip archive"), (b"a,b\n1,2\n", "a text file"), (b"", "empty")):
        (tmp_path / "given").write_bytes(content)
        assert f"is {kind}; data.path must be the folder" in refusal(tmp_path / "given")


@pytest.mark.parametrize("names", [("ключ", "猫 🐈"), ("0", "10"), ("a\nb", "c"), ("x y", "-"), ("[red]", "<b>")])
def test_any_name_of_a_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert set(load(fill(tmp_path / "a [b] ü", names)).classes) == set(names)


def test_accents_stored_in_two_ways_are_one_class(tmp_path: Path) -> None:
    fill(tmp_path / "train", ("caf\u00e9", "bar"))
    fill(tmp_path / "test", ("cafe\u0301", "bar"))
    dataset = load(tmp_path)
    assert dataset.classes == ("bar", "caf\u00e9")
    assert dataset.test.y.bincount().tolist() == [10, 10]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    fill(tmp_path)
    broken = Path(os.fsdecode(os.fsencode(tmp_path) + b"/ant/\xff.png"))
    broken.write_bytes(b"x")
    assert r"ant/\udcff.png: not a readable image" in refusal(tmp_path)
    assert "not a picture: 1 (ant/\\udcff.png)" in " ".join(load(tmp_path, on_error="skip").notes)
    broken.parent.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert r"\udcff is not UTF-8; rename it" in refusal(tmp_path)


def test_links_out_are_followed_by_option(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", ("cow",))
    folder = fill(tmp_path / "data")
    (folder / "cow").symlink_to(tmp_path / "elsewhere" / "cow")
    (folder / "bug").symlink_to(folder / "ant")  # inside: followed
    assert load(folder).classes == ("ant", "bee", "bug")
    assert load(folder).about.skipped == {OUTSIDE: 1}
    assert load(folder, follow_links=True).classes == ("ant", "bee", "bug", "cow")


def test_a_linked_split_is_followed_by_option(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", first=500)
    fill(tmp_path / "data" / "train")
    (tmp_path / "data" / "Testing").symlink_to(tmp_path / "elsewhere")
    assert "Testing is a link that leads out of data.path; data.follow_links = true follows" in refusal(
        tmp_path / "data"
    )
    assert sizes(load(tmp_path / "data", follow_links=True)) == (16, 4, 20)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data")
    (folder / "ant" / "up").symlink_to("..")
    (folder / "ant" / "self.png").symlink_to("self.png")
    for follow in (False, True):
        assert load(folder, follow_links=follow).about.skipped == {
            "link to nothing": 1,
            "folder inside a class folder": 1,
        }


def test_what_was_left_out_is_said_where_the_rest_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", ("cow",))
    (fill(tmp_path / "data", ("ant",)) / "cow").symlink_to(tmp_path / "elsewhere" / "cow")
    said = refusal(tmp_path / "data")
    assert "train has one class only ('ant')" in said
    assert "left out before: link that leads out of the folder (data.follow_links = true follows it): 1" in said


def test_two_thousand_classes(tmp_path: Path) -> None:
    names = tuple(f"c{i:04}" for i in range(2000))
    fill(tmp_path / "train", names, n=3, side=4)
    fill(tmp_path / "test", ("unknown",), n=1, side=4)
    assert len(refusal(tmp_path)) < 500
    assert len(load(tmp_path / "train").classes) == 2000
