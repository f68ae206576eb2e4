"""Folders of pictures by identity: splits without shared identities, single pictures, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.identity_folder import PLUGIN
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.testing import check_source

from .conftest import noise, png, usual_augmentation


def faces(path: Path, people: list[str], n: int = 4, *, first: int = 0, channels: tuple[int, ...] = ()) -> Path:
    for number, person in enumerate(people):
        (path / person).mkdir(parents=True)
        for i in range(n):
            (path / person / f"{i}.png").write_bytes(png(noise(first + 100 * number + i, 8, 8, *channels)))
    return path


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="identity_folder", path=path, task="embedding", **options), 0)


def shown(data: Dataset) -> list[set[int]]:
    return [set(split.y.tolist()) for split in (data.train, data.val, data.test)]


def test_no_person_is_in_two_splits(tmp_path: Path) -> None:
    data = load(faces(tmp_path / "faces", [f"s{i}" for i in range(20)], channels=(3,)))
    assert (data.name, data.input_shape, data.n_classes) == ("faces", (3, 8, 8), 64)
    assert sum(map(len, shown(data))) == 20
    assert [len(members) for members in shown(data)] == [13, 3, 4]
    assert usual_augmentation(data).flip is True  # whatever identities are called
    assert any("of 4 of 20 groups (identity), none of which is in two splits" in note for note in data.notes)


def test_people_of_given_splits_need_not_be_in_train(tmp_path: Path) -> None:
    faces(tmp_path / "train", ["ann", "bob", "cem", "dan", "eva"])
    faces(tmp_path / "val", ["fay", "gus"], first=1000)
    faces(tmp_path / "test", ["eva", "hal", "ida"], first=2000)
    data = load(tmp_path)
    assert [len(members) for members in shown(data)] == [5, 2, 3]
    assert "groups in two splits (identity): 1 of the 3 in test (4 of 12 samples) are in train or val, too" in "".join(
        data.notes
    )
    with pytest.raises(InputError, match="does not occur in train"):
        load_dataset(DataOptions(source="image_folder", path=tmp_path), 0)


def test_people_with_one_picture_are_used_and_said(tmp_path: Path) -> None:
    faces(tmp_path, [f"s{i}" for i in range(8)])
    faces(tmp_path, ["once", "single"], n=1, first=5000)
    data = load(tmp_path)
    counts = np.bincount(data.train.y.numpy())
    single = int((counts == 1).sum())
    assert data.about.label_encoding is not None
    assert "2 of the identities of train have one sample only" in data.about.label_encoding
    assert sum(map(len, shown(data))) == 10
    assert single <= 2


@pytest.mark.parametrize(
    ("people", "n", "message"),
    [
        (["ann"], 8, "train has samples of 1 identity only; want two or more"),
        (["ann", "bob", "cem"], 1, "no identity has two samples in train"),
        (["ann", "bob", "cem", "dan"], 4, "splits are carved by identity, and there are 4 only: want 6 at least"),
    ],
)
def test_too_few_people_are_refused(people: list[str], n: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(faces(tmp_path, people, n))


def test_the_source_keeps_the_contract(tmp_path: Path) -> None:
    check_source(PLUGIN, DataOptions(path=faces(tmp_path / "faces", ["ann", "bob", "cem"])))
