"""Arrays of archives by other names, axes and labels than the plain ones: taken and said, or refused."""

import gzip
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_kd.config.options import DataOptions
from nas_kd.data.array_names import named_arrays
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import noise

Y = np.arange(20) % 2
PICTURES = noise(0, 20, 8, 8, 3)
GREY = noise(1, 20, 9, 7)


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="npz", path=path, **options), 0)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(**arrays: Any) -> Path:
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return written


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("X_train", "y_train"),
        ("train_images", "train_labels"),
        ("X", "y"),
        ("images", "labels"),
        ("data", "target"),
        ("x", "Y"),
    ],
)
def test_usual_names(write: Any, x: str, y: str) -> None:
    dataset = load(write(**{x: PICTURES, y: Y}))
    assert dataset.key == load(write(x_train=PICTURES, y_train=Y)).key
    (said,) = [note for note in load(write(**{x: PICTURES, y: Y})).notes if note.startswith("arrays that were read")]
    assert f"{x} as x_train" in said


def test_medmnist(write: Any) -> None:
    splits = {"train": 20, "val": 6, "test": 8}
    images = {f"{split}_images": noise(n, n, 28, 28) for split, n in splits.items()}
    labels = {f"{split}_labels": (np.arange(n) % 2)[:, None].astype(np.uint8) for split, n in splits.items()}
    path = write(**images, **labels)
    dataset = load(path)
    assert dataset.input_shape == (1, 28, 28)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (20, 6, 8)
    assert dataset.about.layout == "hw"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["x_train", "y_train", "x"], {"x_train": "x_train", "y_train": "y_train"}),
        (["train_images", "images", "labels"], {"x_train": "train_images", "y_train": "labels"}),
        (
            ["X-valid", "y.testing", "x_teacher_train"],
            {"x_val": "X-valid", "y_test": "y.testing", "x_teacher_train": "x_teacher_train"},
        ),
        (["weights", "xtrain", "train", "x_y", "x_train_test", "image_x"], {}),
    ],
)
def test_names(given: list[str], found: dict[str, str]) -> None:
    assert named_arrays(given, "file") == found


def test_two_names_for_one_thing_are_refused(write: Any) -> None:
    said = refusal(write(X=PICTURES, images=PICTURES, y=Y))
    assert said.endswith("'X' and 'images' could both be x_train; call the right one x_train")


def test_arrays_that_are_not_needed_may_be_anything(write: Any) -> None:
    dataset = load(write(x_train=PICTURES, y_train=Y, meta=np.array([{"a": 1}], dtype=object)))
    assert "arrays that were not read: meta" in dataset.notes


LAYOUTS: list[tuple[Any, str, tuple[int, ...]]] = [
    (GREY, "hw", (1, 9, 7)),
    (noise(1, 20, 9, 9), "auto", (1, 9, 9)),
    (PICTURES, "auto", (3, 8, 8)),
    (PICTURES, "hwc", (3, 8, 8)),
    (PICTURES, "chw", (8, 8, 3)),
    (GREY.reshape(20, -1), "auto", (63,)),
    (noise(0, 20, 2, 3, 4, 5), "auto", (2, 3, 4, 5)),
]


@pytest.mark.parametrize(("x", "layout", "shape"), LAYOUTS)
def test_layouts(write: Any, x: Any, layout: Any, shape: tuple[int, ...]) -> None:
    dataset = load(write(x_train=x, y_train=Y), layout=layout)
    assert dataset.input_shape == shape
    said = [note for note in dataset.notes if note.startswith("samples were read as")]
    assert len(said) == (len(shape) == 3)


@pytest.mark.parametrize(
    ("x", "layout", "message"),
    [
        (GREY, "auto", 'set data.layout = "hw" for pictures (or store them as (N, 1, H, W)), "ct" or "tc" for series'),
        (GREY, "ct", 'data.layout = "ct" is for series, which come later'),
        (GREY, "tc", 'data.layout = "tc" is for series, which come later'),
        (GREY, "hwc", 'data.layout = "hwc" is for arrays of 4 axes, (N, H, W, C), got shape (20, 9, 7)'),
        (PICTURES, "hw", 'data.layout = "hw" is for arrays of 3 axes, (N, H, W), got shape (20, 8, 8, 3)'),
        (noise(0, 20, 9, 10, 11), "auto", 'set data.layout = "chw" or "hwc"'),
    ],
)
def test_layouts_that_do_not_fit(write: Any, x: Any, layout: Any, message: str) -> None:
    assert message in refusal(write(x_train=x, y_train=Y), layout=layout)


def test_the_layout_is_for_the_teacher_s_view_where_it_fits(write: Any) -> None:
    both = load(write(x_train=GREY, y_train=Y, x_teacher_train=PICTURES), layout="hw").teacher_view
    assert both is not None
    assert both.input_shape == (3, 8, 8)
    assert "x_teacher_train: samples of shape (9, 7) may be" in refusal(
        write(x_train=PICTURES, y_train=Y, x_teacher_train=GREY)
    )


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint16", "int64", ">f4", ">i2", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_number_types_and_memory_orders(write: Any, dtype: str, order: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2, (20, 3, 6, 6)).astype(dtype, order=order)
    dataset = load(write(x_train=x, y_train=Y.astype(">i8"), x_test=x, y_test=Y, x_val=x, y_val=Y))
    assert np.array_equal(dataset.train.x.numpy(), x.astype(np.float32))
    assert dataset.train.y.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_val": PICTURES[:0], "y_val": Y[:0]},
            "x of val has no samples; leave val out, and it is carved from train",
        ),
        ({"x_train": PICTURES[:0], "y_train": Y[:0]}, "x of train has shape (0, 3, 8, 8)"),
        ({"x_train": np.float64(3), "y_train": np.int64(1)}, "x of train has shape (1,)"),
        ({"x_train": np.zeros(20, [("a", float)])}, "x of train has type [('a', '<f8')]; want numbers"),
        ({"x_train": np.zeros((20, 3), "M8[s]")}, "x of train has type datetime64[s]; want numbers"),
        ({"y_train": np.array([b"\xff", b"a"] * 10)}, "labels of train are bytes that are not UTF-8"),
        ({"y_train": np.array(["a", "b"] * 10, dtype=object)}, "'y_train' is an object array (a pickle)"),
    ],
)
def test_arrays_that_cannot_be_used(write: Any, arrays: Any, message: str) -> None:
    assert message in refusal(write(**({"x_train": PICTURES, "y_train": Y} | arrays)))


def test_files_of_other_kinds_are_named(write: Any, tmp_path: Path) -> None:
    whole = write(x_train=PICTURES, y_train=Y).read_bytes()
    np.save(tmp_path / "one.npy", PICTURES)
    kinds = {
        "an .npy file, which holds one array": (tmp_path / "one.npy").read_bytes(),
        "compressed by gzip (decompress it first)": gzip.compress(whole),
        "empty": b"",
        "a pickle": pickle.dumps([1]),
        "a text file": b"a,b\n1,2\n",
        "an HDF5 file": b"\x89HDF\r\n\x1a\n",
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "of an unknown kind": b"\x00\x01\x02",
    }
    for kind, content in kinds.items():
        (tmp_path / "x.npz").write_bytes(content)
        assert f"x.npz is not an .npz file, it is {kind}" in refusal(tmp_path / "x.npz")
    assert "is a folder; data.path must be the .npz file" in refusal(tmp_path)
    for name in ("ant/1.png", "x_train"):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
            file.writestr(name, b"hello")
        assert "has no x_train" in refusal(tmp_path / "x.npz") or "has no y_train" in refusal(tmp_path / "x.npz")


def test_memory_mapped_arrays_of_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", PICTURES)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mapped_arrays.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n"
        "def load():\n"
        "    x = np.load(Path(__file__).with_name('x.npy'), mmap_mode='r')\n"
        "    return {'X': x, 'labels': np.arange(20) % 2}\n"
    )
    dataset = load_dataset(DataOptions(source="mapped_arrays:load"), 0)
    assert dataset.input_shape == (3, 8, 8)
    dataset.train.x[:] = 0
    assert np.array_equal(np.load(tmp_path / "x.npy"), PICTURES)
