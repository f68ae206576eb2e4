"""Parquet in several files: folders, patterns, lists, the layouts of Hugging Face, and what is missing of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nas_kd.config.loading import dump_config, load_config
from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import noise, png


def write(path: Path, first: int, n: int = 20, names: tuple[str, ...] = ("ant", "bee")) -> Path:
    """A file of `n` pictures; `first`: the seed of the first one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(noise(first + i, 6, 6, 3)), "path": None} for i in range(n)]
    table = pa.table({"image": cells, "label": [i % 2 for i in range(n)]})
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)
    return path


def load(train: Any, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="parquet", train=train, **options), 0)


def refusal(train: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(train, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two shards for training, as Hugging Face has them, in `bugs/data`."""
    folder = tmp_path / "bugs" / "data"
    for i in range(2):
        write(folder / f"train-0000{i}-of-00002.parquet", 100 * i)
    return folder


def test_a_folder_a_pattern_and_a_list_are_the_same(data: Path) -> None:
    files = [data / f"train-0000{i}-of-00002.parquet" for i in range(2)]
    want = load(files)
    assert (want.name, len(want.train) + len(want.val) + len(want.test)) == ("bugs", 40)
    for given in (data, data.parent, data / "train-*.parquet", data / "*.parquet", data.parent / "**" / "*-of-*"):
        assert load(given).key == want.key
    assert want.notes[1] == f"train was read from 2 files ({files[0].name}, {files[1].name})"
    assert load(files[::-1]).key != want.key  # a list is read in its order


def test_the_order_of_shards_is_that_of_their_numbers(tmp_path: Path) -> None:
    for i in (10, 2, 1):
        write(tmp_path / f"part-{i}.parquet", 100 * i, n=6)
    dataset = load(tmp_path)
    assert dataset.notes[1] == "train was read from 3 files (part-1.parquet, part-2.parquet, part-10.parquet)"
    assert dataset.key == load([tmp_path / f"part-{i}.parquet" for i in (1, 2, 10)]).key


def test_other_splits_of_the_folder_are_taken_and_said(data: Path) -> None:
    write(data / "validation-00000-of-00001.parquet", 300, n=6)
    test = write(data / "test-00000-of-00001.parquet", 400, n=4)
    dataset = load(data)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (40, 6, 4)
    assert "test was read from 1 file (test-00000-of-00001.parquet), as there is no data.test" in dataset.notes
    assert load(data, test=test).key == dataset.key
    other = write(data.parent / "mine.parquet", 500, n=8)
    assert len(load(data, test=other).test) == 8
    only_train = load(data / "train-*.parquet")
    assert len(only_train.train) + len(only_train.val) + len(only_train.test) == 40


def test_splits_in_folders_of_their_own(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 100)):
        for i in range(2):
            write(tmp_path / "default" / split / f"000{i}.parquet", first + 30 * i, n=10)
    dataset = load(tmp_path / "default")
    assert (len(dataset.train) + len(dataset.val), len(dataset.test)) == (20, 20)


def test_missing_shards_are_said(data: Path) -> None:
    (data / "train-00001-of-00002.parquet").unlink()
    said = "train was read from 1 file (train-00000-of-00002.parquet); 1 of 2 shards are missing"
    assert said in load(data).notes
    assert said in load(data / "train-00000-of-00002.parquet").notes


def test_rows_are_counted_over_shards(data: Path) -> None:
    one = data / "train-00000-of-00002.parquet"
    whole = load(data, val=one, test=one)
    few = load(data, val=one, test=one, train_rows=25)
    assert len(few.train) == 25
    assert bool((few.train.x == whole.train.x[:25]).all())


def test_folders_with_special_characters(tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path / "a [b] *ü" / f"train-{i}.parquet", 100 * i)
    assert len(load(tmp_path / "a [b] *ü" / "train-?.parquet").train) == 26
    assert len(load(tmp_path / "a [b] *ü").train) == 26


def test_what_is_not_there_is_said(data: Path, tmp_path: Path) -> None:
    file = data / "train-00000-of-00002.parquet"
    assert "no file matches" in refusal(data / "nope-*.parquet")
    assert "is not a usable pattern" in refusal(data / "**x" / "*.parquet")
    assert "no such file" in refusal(data / "absent.parquet")
    assert "twice; each shard must be there once" in refusal([file, file])
    assert "no such file" in refusal([file, data / "absent.parquet"])
    (tmp_path / "empty").mkdir()
    assert "is a folder that has no *.parquet files" in refusal(tmp_path / "empty")
    write(tmp_path / "tests" / "test-0.parquet", 0)
    assert "is a folder that has Parquet files of test only" in refusal(tmp_path / "tests")


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    for content, kind in ((b"a,b\n1,2\n", "a text file"), (b"\x1f\x8b\x08rest", "compressed by gzip"), (b"", "empty")):
        (tmp_path / "x.parquet").write_bytes(content)
        assert f"is not a readable Parquet file, it is {kind}" in refusal(tmp_path / "x.parquet")


def test_shards_whose_classes_differ_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", 0)
    write(tmp_path / "train-1.parquet", 0, names=("bee", "ant"))
    assert "class names of train (train-1.parquet) differ from those of train: bee, ant, ant, bee" in refusal(tmp_path)


def test_lists_and_patterns_in_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[data]\nsource = "parquet"\ntrain = ["a-*.parquet", "/b.parquet"]\ntest = "t"\n')
    config = load_config(path)
    folder = tmp_path.resolve()
    assert config.data.train == (folder / "a-*.parquet", Path("/b.parquet"))
    assert config.data.test == folder / "t"
    monkeypatch.chdir("/")
    (tmp_path / "written.toml").write_text(dump_config(config))
    assert load_config(tmp_path / "written.toml") == config
    assert load_config(path, {"data.train": ["x", "y"]}, tmp_path).data.train == (folder / "x", folder / "y")
    mistakes: list[Any] = [3, [], [3], {}]
    for wrong in mistakes:
        with pytest.raises(InputError, match=r"data\.train: must be a file, a folder or a pattern"):
            load_config(path, {"data.train": wrong})
