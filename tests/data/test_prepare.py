"""Preparing a data set: sources by name, carving, statistics, keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_kd import plugins
from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.prepare import channel_statistics, load_dataset
from nas_kd.data.source import Arrays, RawData, is_flip_safe, optional_module
from nas_kd.data.splits import carve
from nas_kd.errors import InputError
from nas_kd.tasks.class_labels import check_class_sizes

Write = Callable[..., Path]
MODULE = """
import numpy as np, torch
from nas_kd.data.source import Arrays, RawData

x, y = np.random.default_rng(0).normal(size=(20, 6)), np.arange(20) % 2

def arrays():
    return {"x_train": x, "y_train": y}

def tensors():
    return {"x_train": torch.tensor(x, requires_grad=True), "y_train": torch.tensor(y).bool()}

def lists():
    return {"x_train": x.tolist(), "y_train": y.tolist()}

def ragged():
    return {"x_train": [[1, 2], [3]], "y_train": [0, 1]}

def objects():
    return {"x_train": np.array([None] * 20), "y_train": y}

def raw():
    return RawData(name="mine", train=Arrays(x, y), classes=("no", "yes"), notes=("hello",))

def number():
    return 3

def fails():
    raise KeyError("oops")

class Own:
    name, summary, uses = "own", "mine", frozenset({"path"})
    def load(self, options):
        return RawData(name=str(options.path), train=(x, y))

own = Own()
text = "hello"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"user_data_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_the_sources_there_are() -> None:
    of_demos = ["digit_boxes", "digit_masks", "digit_numbers", "digits"]
    folders = ["identity_folder", "image_folder", "mask_folder", "voc", "yolo"]
    of_files = [*folders, "coco", "npz", "parquet", "parquet_masks", "picture_table"]
    assert list(plugins.available("dataset")) == sorted([*of_demos, *of_files])


def test_digits() -> None:
    dataset = load_dataset(DataOptions(), 0)
    assert (dataset.name, dataset.input_shape, dataset.n_classes) == ("digits", (1, 8, 8), 10)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (1169, 269, 359)
    stored = torch.cat([dataset.train.x, dataset.val.x, dataset.test.x])
    assert stored.dtype == torch.uint8
    assert torch.unique(stored).tolist() == [round(255 * v / 16) for v in range(17)]  # one value for each level
    levels = (stored.double() * 16 / 255).round()
    assert int(levels.sum()) == 561718  # the sum over the original's values
    assert [note.split(":")[0] for note in dataset.notes] == ["test", "val"]
    assert "seed 0" in dataset.notes[0]


def test_same_seed_same_data_other_seed_other_split() -> None:
    first, again, other = (load_dataset(DataOptions(), seed) for seed in (0, 0, 1))
    assert first.key == again.key != other.key
    assert torch.equal(first.val.x, again.val.x)
    fewer = load_dataset(DataOptions(train_rows=500), 0)
    assert sum(map(len, (fewer.train, fewer.val, fewer.test))) == 500


@pytest.mark.parametrize("name", ["arrays", "tensors", "lists"])
def test_factory_that_returns_a_mapping(module: str, name: str) -> None:
    dataset = load_dataset(DataOptions(source=f"{module}:{name}"), 0)
    assert (dataset.name, dataset.source, dataset.input_shape) == (name, f"{module}:{name}", (6,))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (12, 4, 4)


def test_factory_that_returns_raw_data_and_own_source(module: str) -> None:
    dataset = load_dataset(DataOptions(source=f"{module}:raw"), 0)
    assert (dataset.name, dataset.classes, dataset.notes[0]) == ("mine", ("no", "yes"), "hello")
    for name in ("own", "Own"):
        assert load_dataset(DataOptions(source=f"{module}:{name}", path=Path("p")), 0).name == "p"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", "returned int; want a mapping"),
        ("fails", "failed: KeyError: 'oops'"),
        ("ragged", "samples have equal shapes"),
        ("objects", "array of objects"),
        ("text", "is str; want a function"),
        ("array", "did you mean 'arrays'"),
    ],
)
def test_factory_mistakes(module: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(DataOptions(source=f"{module}:{name}"), 0)


def test_unknown_source_and_options_without_meaning() -> None:
    with pytest.raises(InputError, match="unknown dataset 'parket'; did you mean 'parquet'"):
        load_dataset(DataOptions(source="parket"), 0)
    with pytest.raises(InputError, match=r"data\.path is not used by source 'digits'"):
        load_dataset(DataOptions(path=Path("x")), 0)
    with pytest.raises(InputError, match=r"data\.train is not used by source 'npz', which takes data\.group, data\.l"):
        load_dataset(DataOptions(source="npz", train=Path("x")), 0)
    with pytest.raises(InputError, match="needs nothing_like_it"):
        optional_module("nothing_like_it", "nothing_like_it", "x")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(3, 30), min_size=2, max_size=6),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
    st.integers(0, 9),
)
def test_carving_is_a_stratified_partition(sizes: list[int], test: float, val: float, seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = carve(y, {"test": test, "val": val}, seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(y)))
    for rows in parts.values():
        assert np.array_equal(rows, np.sort(rows))
        assert set(y[rows]) == set(range(len(sizes)))  # every class in every split
    for label, size in enumerate(sizes):
        assert abs((y[parts["test"]] == label).sum() - test * size) <= 1
    assert np.array_equal(parts["test"], carve(y, {"test": test}, seed)["test"])


def test_least_samples_of_a_class() -> None:
    check_class_sizes(np.array([0, 0, 1, 1]), ("a", "b"), ())
    check_class_sizes(np.array([0, 0, 0, 1, 1, 1]), ("a", "b"), ("test", "val"))
    with pytest.raises(InputError, match="class 'b' has 2 samples in train, train and the test and val split"):
        check_class_sizes(np.array([0, 0, 0, 1, 1]), ("a", "b"), ("test", "val"))


def test_statistics_by_hand() -> None:
    x = np.zeros((2, 3, 1, 2), dtype=np.uint8)
    x[:, 0] = [[[0, 2]], [[4, 6]]]  # mean 3, variance 5
    x[:, 1] = [[[10, 10]], [[250, 250]]]  # mean 130, std 120
    x[:, 2] = 7  # constant
    mean, std = channel_statistics(x)
    assert mean.tolist() == [3.0, 130.0, 7.0]
    assert std.tolist() == pytest.approx([5**0.5, 120.0, 1.0])
    mean, std = channel_statistics(np.array([[1.0, 3.0], [5.0, 7.0]], dtype=np.float32))
    assert mean.tolist() == [4.0]
    assert std.tolist() == pytest.approx([5**0.5])


def test_statistics_in_pieces_equal_those_of_the_whole() -> None:
    x = np.random.default_rng(0).normal(1000, 1, (9000, 1, 32, 32)).astype(np.float32)  # more than one piece
    mean, std = channel_statistics(x)
    assert float(mean) == pytest.approx(x.mean(dtype=np.float64), rel=1e-7)
    assert float(std) == pytest.approx(x.std(dtype=np.float64), rel=1e-6)


def test_augmentation_that_the_samples_cannot_have_is_refused(write_npz: Write) -> None:
    with pytest.raises(InputError, match=r"data\.augment\.crop must be below the image's side of 8 pixels, got 8"):
        load_dataset(DataOptions(augment=Augmentation(crop=8)), 0)
    path = write_npz(x_train=np.random.default_rng(0).normal(size=(20, 4)))
    with pytest.raises(InputError, match=r"data\.augment needs images \(C, H, W\), samples have shape \(4,\)"):
        load_dataset(DataOptions(source="npz", path=path, augment=Augmentation(strength="standard")), 0)


@pytest.mark.parametrize(("pictures", "strength"), [(True, "standard"), (False, "none"), (None, "none")])
def test_a_source_may_say_whether_its_samples_are_pictures(
    monkeypatch: pytest.MonkeyPatch, pictures: bool | None, strength: str
) -> None:
    x = np.random.default_rng(0).normal(size=(20, 1, 16, 16))
    raw = RawData("own", Arrays(x, np.arange(20) % 2), pictures=pictures)

    class Own:
        def load(self, _options: DataOptions) -> RawData:
            return raw

    monkeypatch.setattr("nas_kd.data.prepare.find_source", lambda _options: Own())
    assert load_dataset(DataOptions(), 0).augmentation.usual_strength == strength


def test_key_depends_on_every_sample_and_label(write_npz: Write) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2

    def key(**arrays: Any) -> str:
        given = {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "x_val": x, "y_val": y} | arrays
        return load_dataset(DataOptions(source="npz", path=write_npz(**given)), 0).key

    changed = x.copy()
    changed[3, 1] += 1
    keys = [key(), key(x_train=changed), key(x_test=changed), key(y_val=1 - y), key(classes=np.array(["a", "b"]))]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_mirror_safe() -> None:
    assert is_flip_safe(("cat", "ship"))
    assert not any(is_flip_safe(names) for names in (None, (), ("cat", "x"), ("cat", "12"), ("Left hand", "foot")))
