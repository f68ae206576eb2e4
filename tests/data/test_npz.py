"""npz files: layouts, label types, and every way in which a file can be wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.layout import axis_order
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import usual_augmentation

Write = Callable[..., Path]
LABELS = np.arange(20) % 2
RNG = np.random.default_rng(0)


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="npz", path=path, **options), 0)


@pytest.mark.parametrize(
    ("shape", "sample"),
    [((5,), (5,)), ((3, 8, 8), (3, 8, 8)), ((8, 8, 3), (3, 8, 8)), ((2, 3, 4, 5), (2, 3, 4, 5))],
)
def test_samples_of_any_rank(write_npz: Write, shape: tuple[int, ...], sample: tuple[int, ...]) -> None:
    x = RNG.normal(size=(20, *shape))
    dataset = load(write_npz(x_train=x))
    assert dataset.input_shape == sample
    assert dataset.train.x.dtype == torch.float32
    assert dataset.scale == 1.0
    augment = usual_augmentation(dataset)
    assert (augment.crop, augment.flip, augment.cutout) == (0, False, 0)  # of unknown meaning, not pictures
    if len(sample) != 3:
        assert dataset.augmentation.strengths == ("none",)
        assert dataset.mean.shape == (1,)


def test_channels_last_keeps_the_pixels(write_npz: Write) -> None:
    x = RNG.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    path = write_npz(x_train=x, x_val=x, y_val=LABELS, x_test=x, y_test=LABELS)
    dataset = load(path)
    assert dataset.train.x.dtype == torch.uint8
    assert np.array_equal(dataset.train.x.numpy(), x.transpose(0, 3, 1, 2))
    assert dataset.scale == 255.0
    assert dataset.notes[0] == "samples were read as (H, W, C), channels last"
    assert dataset.about.layout == "hwc"
    assert load(path, layout="chw").input_shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("dtype", "channels", "strength"),
    [(np.uint8, 3, "standard"), (np.uint8, 1, "none"), (np.uint8, 4, "none"), (np.float32, 3, "none")],
)
def test_arrays_of_8_bit_colours_alone_are_pictures(write_npz: Write, dtype: Any, channels: int, strength: str) -> None:
    path = write_npz(
        x_train=RNG.integers(0, 256, (20, channels, 16, 16)).astype(dtype), classes=np.array(["ant", "bee"])
    )
    dataset = load(path)
    shown = strength == "standard"
    assert dataset.augmentation.usual_strength == strength
    assert usual_augmentation(dataset) == Augmentation(strength=strength, crop=2 * shown, flip=shown, cutout=0)
    assert dataset.augmentation.strengths == ("none", "standard", "strong")  # what is usual is but a start
    assert load(path, augment=Augmentation(strength="strong")).augmentation.strengths == ("strong",)


def test_split_shorter_layout_is_decided_by_train_for_all(write_npz: Write) -> None:
    x = RNG.normal(size=(20, 8, 6, 3))
    dataset = load(write_npz(x_train=x, x_test=x[:4], y_test=LABELS[:4]))
    assert tuple(dataset.test.x.shape) == (4, 3, 8, 6)


@pytest.mark.parametrize(
    ("shape", "order"), [((3, 32, 32), "chw"), ((32, 32, 3), "hwc"), ((1, 28, 20), "chw"), ((12, 16, 16), "chw")]
)
def test_axis_order(shape: tuple[int, ...], order: str) -> None:
    assert axis_order((10, *shape), "auto", "file") == order


@pytest.mark.parametrize("shape", [(512, 4, 4), (3, 3, 3), (12, 16, 20)])
def test_ambiguous_axes_are_asked_for(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r'set data\.layout = "chw" or "hwc"'):
        axis_order((10, *shape), "auto", "file")
    assert axis_order((10, *shape), "hwc", "file") == "hwc"


def test_string_labels_and_class_names(write_npz: Write) -> None:
    names = np.array(["cat", "ant"])
    dataset = load(write_npz(y_train=names[LABELS]))
    assert dataset.classes == ("ant", "cat")
    assert set(dataset.train.y.tolist()) == {0, 1}
    assert load(write_npz(y_train=names.astype("S")[LABELS])).classes == ("ant", "cat")
    assert load(write_npz(classes=names)).classes == ("cat", "ant")
    ordered = load(write_npz(y_train=names[LABELS], classes=names))
    assert ordered.classes == ("cat", "ant")
    assert torch.equal(ordered.train.y, load(write_npz()).train.y)


def test_labels_as_floats_columns_and_booleans(write_npz: Write) -> None:
    want = load(write_npz()).train.y
    for labels in (LABELS.astype(np.float32), LABELS[:, None], LABELS.astype(bool), LABELS.astype(np.uint64)):
        assert torch.equal(load(write_npz(y_train=labels)).train.y, want)


def test_unknown_arrays_are_named(write_npz: Write) -> None:
    assert "arrays that were not read: weights" in load(write_npz(weights=np.ones(3))).notes


X = np.zeros((20, 4), dtype=np.float32)
X[::2] = 1
NAN = X.copy()
NAN[7, 2] = np.nan
BAD: list[tuple[dict[str, Any], str]] = [
    ({"x_train": NAN}, "NaN or infinite values in 1 samples, first in sample 7"),
    ({"x_train": X.astype(np.float64) * 1e300}, "NaN or infinite"),
    ({"x_train": X[:19]}, "train has 19 samples but 20 labels"),
    ({"x_train": X[:, :0]}, r"shape \(20, 0\)"),
    ({"x_train": X[:, 0]}, r"shape \(20,\)"),
    ({"x_train": X.astype(str)}, "want numbers"),
    ({"x_train": X.astype(complex)}, "want numbers"),
    ({"x_train": np.ones_like(X)}, "all training samples are the same"),
    ({"x_train": np.array([1, "a", None] * 6 + [1, 2], dtype=object)}, "'x_train' is an object array"),
    ({"y_train": LABELS - 1}, r"label -1 of train \(sample 0\) is out of range"),
    ({"y_train": LABELS * 2}, "labels of train go up to 2 but 1 does not occur"),
    ({"y_train": LABELS + 1}, "labels of train go up to 2 but 0 does not occur"),
    ({"y_train": LABELS.astype(np.uint64) * 2**63}, "go up to"),
    ({"y_train": LABELS + 0.5}, r"label 0.5 of train \(sample 0\) is not a class number"),
    ({"y_train": np.where(LABELS, np.nan, 0)}, "label nan of train"),
    ({"y_train": np.eye(2)[LABELS] + 0.1}, "of probabilities give the argmax"),
    ({"y_train": LABELS.astype("datetime64[s]")}, "want class numbers or names"),
    ({"y_train": np.zeros(20, int)}, "one class only"),
    ({"y_train": np.array([0] * 19 + [1])}, "class '1' has 1 sample in train, train and the test and val split"),
    ({"classes": np.array(["a"])}, "out of range: classes are 0..0"),
    ({"classes": np.array(["a", "a"])}, "class names occur twice"),
    ({"classes": np.array(["a", "b", "c"])}, "class 'c' has 0 samples"),
    ({"x_test": X[:4], "y_test": LABELS[:4]}, "samples of test have shape"),
    ({"x_train": X, "x_test": X[:4].astype(np.uint8), "y_test": LABELS[:4]}, "x of test is uint8, x of train float32"),
    ({"x_train": X, "x_test": X[:4], "y_test": [0, 1, 2, 0]}, r"label 2 of test \(sample 2\).*0..1, as in train"),
    ({"x_train": X, "x_test": X[:2], "y_test": ["a", "b"]}, "labels of test are names, others are numbers"),
    ({"x_test": X[:4]}, "has no y_test; it has x_test, x_train, y_train"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_what_is_wrong_with_the_arrays_is_said_in_one_line(write_npz: Write, arrays: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(write_npz(**arrays))
    assert "\n" not in str(caught.value)


def test_foreign_string_label(write_npz: Write) -> None:
    names = np.array(["cat", "ant"])[LABELS]
    x = RNG.normal(size=(20, 3))
    with pytest.raises(InputError, match="label 'dog' of test does not occur in train \\(ant, cat\\)"):
        load(write_npz(x_train=x, y_train=names, x_test=x[:1], y_test=np.array(["dog"])))


def test_one_sample_of_a_class_is_too_few_even_if_nothing_is_carved(write_npz: Write) -> None:
    x = RNG.normal(size=(20, 3))
    given = {f"{axis}_{split}": values for split in ("val", "test") for axis, values in (("x", x), ("y", LABELS))}
    with pytest.raises(InputError, match="class '1' has 1 sample in train, train need"):
        load(write_npz(x_train=x, y_train=np.array([0] * 19 + [1]), **given))


def test_files_that_are_not_npz(tmp_path: Path, write_npz: Write) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "absent.npz")
    with pytest.raises(InputError, match=r"needs data\.path"):
        load_dataset(DataOptions(source="npz"), 0)
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(InputError, match=r"not an \.npz file"):
        load(text)
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(InputError, match=r"not an \.npz file"):
        load(tmp_path / "one.npy")
    whole = write_npz().read_bytes()
    for keep in (10, len(whole) // 2, len(whole) - 30):
        text.write_bytes(whole[:keep])
        with pytest.raises(InputError, match="cannot read"):
            load(text)
    text.write_bytes(whole[:300] + b"\0" * 40 + whole[340:])
    with pytest.raises(InputError, match="cannot read 'x_train'"):
        load(text)


def test_missing_training_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", cells=X, kind=LABELS)
    with pytest.raises(InputError, match="has no x_train and no y_train; it has cells, kind"):
        load(tmp_path / "data.npz")
