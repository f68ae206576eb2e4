"""Unlabelled samples: read from folders, Parquet files and arrays, in train's form, or refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.data.unlabelled import LARGEST_SHARE
from nas_kd.errors import InputError

SIDE, N = 6, 24
rng = np.random.default_rng(0)
COLOUR = rng.integers(0, 256, (90, SIDE, SIDE, 3), dtype=np.uint8)


def write_pictures(folder: Path, pictures: np.ndarray[Any, Any], *, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")


@pytest.fixture
def labelled(tmp_path: Path) -> dict[str, Any]:
    """Options of a folder with two classes of colour pictures."""
    for number, name in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "data" / name, COLOUR[number * N : (number + 1) * N])
    return {"source": "image_folder", "path": tmp_path / "data"}


def arrays(tmp_path: Path, **further: Any) -> dict[str, Any]:
    """Options of an archive with 40 labelled rows of 4 numbers."""
    x = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=np.arange(40) % 2, **further)
    return {"source": "npz", "path": tmp_path / "data.npz"}


def load(options: dict[str, Any], **further: Any) -> Dataset:
    return load_dataset(DataOptions(**options, **further), seed=0)


def unlabelled(data: Dataset) -> np.ndarray[Any, Any]:
    assert data.unlabelled is not None
    x: np.ndarray[Any, Any] = data.unlabelled.x.numpy()
    return x


def test_a_folder_of_any_nesting_is_read(labelled: dict[str, Any], tmp_path: Path) -> None:
    write_pictures(tmp_path / "more", COLOUR[50:53])
    write_pictures(tmp_path / "more" / "a" / "b", COLOUR[53:55], start=53)
    (tmp_path / "more" / "notes.txt").write_text("no picture")
    data = load(labelled, unlabelled=tmp_path / "more")
    assert np.array_equal(unlabelled(data), COLOUR[50:55].transpose(0, 3, 1, 2))
    assert any("unlabelled: 5 samples" in note for note in data.notes)
    assert any("notes.txt" in note for note in data.notes)
    assert data.about.skipped["not a picture by suffix"] == 1


def test_pictures_are_resized_and_coloured_as_those_of_train(labelled: dict[str, Any], tmp_path: Path) -> None:
    grey = np.full((12, 12), 77, dtype=np.uint8)
    write_pictures(tmp_path / "more", grey[None])
    assert np.array_equal(unlabelled(load(labelled, unlabelled=tmp_path / "more")), np.full((1, 3, SIDE, SIDE), 77))


def test_colour_pictures_become_grey_where_train_is(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        write_pictures(tmp_path / "data" / name, COLOUR[number * N : (number + 1) * N, :, :, 0])
    write_pictures(tmp_path / "more", COLOUR[60:62])
    data = load({"source": "image_folder", "path": tmp_path / "data"}, unlabelled=tmp_path / "more")
    expected = [np.asarray(Image.fromarray(picture).convert("L")) for picture in COLOUR[60:62]]
    assert np.array_equal(unlabelled(data)[:, 0], expected)
    assert any("2 pictures were converted to grey" in note for note in data.notes)


def write_parquet(path: Path, pictures: np.ndarray[Any, Any], labels: list[int] | None = None) -> None:
    cells = []
    for picture in pictures:
        Image.fromarray(picture).save(path.with_suffix(".png"))
        cells.append({"bytes": path.with_suffix(".png").read_bytes()})
    path.with_suffix(".png").unlink()
    pq.write_table(pa.table({"image": cells} | ({} if labels is None else {"label": labels})), path)


def test_parquet_files_need_no_labels_and_any_are_left_unread(labelled: dict[str, Any], tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", COLOUR[50:52])
    write_parquet(tmp_path / "b.parquet", COLOUR[52:55], [0, 1, 7])
    data = load(labelled, unlabelled=(tmp_path / "a.parquet", tmp_path / "b.parquet"))
    assert np.array_equal(unlabelled(data), COLOUR[50:55].transpose(0, 3, 1, 2))
    assert any("column label were not read" in note for note in data.notes)


@pytest.mark.parametrize("name", ["more.npy", "more.npz"])
def test_arrays_are_read(tmp_path: Path, name: str) -> None:
    x = np.random.default_rng(2).normal(size=(30, 4))
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, x)
    assert np.array_equal(unlabelled(load(arrays(tmp_path), unlabelled=tmp_path / name)), x.astype(np.float32))


def test_an_archive_may_hold_them_itself(tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    data = load(arrays(tmp_path, x_unlabelled=x))
    assert np.array_equal(unlabelled(data), x)
    assert data.training_key != data.key == load(arrays(tmp_path)).key
    assert data.epoch_samples == len(data.train) + 30


def test_copies_of_labelled_samples_are_counted_and_left_out(labelled: dict[str, Any], tmp_path: Path) -> None:
    plain = load(labelled)
    write_pictures(tmp_path / "more", COLOUR[: 2 * N + 4])
    data = load(labelled, unlabelled=tmp_path / "more")
    assert np.array_equal(unlabelled(data), COLOUR[2 * N : 2 * N + 4].transpose(0, 3, 1, 2))
    sizes = {"train": len(plain.train), "val": len(plain.val), "test": len(plain.test)}
    assert data.about.unlabelled_duplicates == sizes
    assert any(f"{sizes['test']} are in test" in note for note in data.notes)


def test_which_rows_were_left_out_is_part_of_the_identity(tmp_path: Path) -> None:
    """Stored outputs belong to rows: the same samples in other rows have other outputs."""
    x, copy = (
        np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32),
        np.load(arrays(tmp_path)["path"])["x_train"],
    )
    keys = set()
    for given in (x, np.concatenate([copy[:1], x]), np.concatenate([x, copy[:1]]), np.concatenate([copy[:2], x])):
        data = load(arrays(tmp_path, x_unlabelled=given))
        assert np.array_equal(unlabelled(data), x)
        keys.add(data.training_key)
    assert len(keys) == 4


def test_the_share_is_as_the_data_divide_but_bounded_or_as_given(tmp_path: Path) -> None:
    options = arrays(tmp_path, x_unlabelled=np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32))
    data = load(options)
    assert data.unlabelled is not None
    assert data.unlabelled.share == 9 / (9 + len(data.train))
    given = load(options, unlabelled_share=0.3).unlabelled
    assert given is not None
    assert given.share == 0.3
    many = load(arrays(tmp_path, x_unlabelled=np.random.default_rng(2).normal(size=(999, 4)).astype(np.float32)))
    assert many.unlabelled is not None
    assert many.unlabelled.share == LARGEST_SHARE


def refusal(options: dict[str, Any], **further: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(options, **further)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_does_not_fit_is_refused_in_one_line(labelled: dict[str, Any], tmp_path: Path) -> None:
    table, x = arrays(tmp_path), np.zeros((5, 4), dtype=np.float32)
    (tmp_path / "empty").mkdir()
    assert "has no pictures" in refusal(labelled, unlabelled=tmp_path / "empty")
    assert "no such file or folder" in refusal(labelled, unlabelled=tmp_path / "missing")
    assert "would be pictures" in refusal(table, unlabelled=tmp_path / "empty")
    np.savez(tmp_path / "pairs.npz", x=x, y=np.zeros(5))
    assert "has labels (y), but unlabelled samples have none" in refusal(table, unlabelled=tmp_path / "pairs.npz")
    np.save(tmp_path / "labels.npy", np.zeros(5))
    assert "are these labels?" in refusal(table, unlabelled=tmp_path / "labels.npy")
    np.save(tmp_path / "wide.npy", np.zeros((5, 7), dtype=np.float32))
    assert "have shape (7,), those of train (4,)" in refusal(table, unlabelled=tmp_path / "wide.npy")
    np.save(tmp_path / "bytes.npy", x.astype(np.uint8))
    assert "is uint8, x of train float32" in refusal(table, unlabelled=tmp_path / "bytes.npy")
    np.save(tmp_path / "none.npy", x[:0])
    assert "has no samples" in refusal(table, unlabelled=tmp_path / "none.npy")
    (tmp_path / "text.npy").write_text("no array")
    assert "cannot read" in refusal(table, unlabelled=tmp_path / "text.npy")
    np.save(tmp_path / "grey.npy", rng.integers(0, 256, (5, 1, SIDE, SIDE), dtype=np.uint8))
    assert f"have shape (1, {SIDE}, {SIDE})" in refusal(labelled, unlabelled=tmp_path / "grey.npy")
    assert "data.unlabelled, which is not given" in refusal(table, unlabelled_share=0.5)


def test_several_paths_are_parquet_files(labelled: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pictures(tmp_path / name, COLOUR[50:52])
    np.save(tmp_path / "more.npy", COLOUR[:2])
    said = refusal(labelled, unlabelled=(tmp_path / "one", tmp_path / "two"))
    assert "one is a folder without *.parquet files, but several paths must be Parquet files" in said
    assert "put folders of pictures below one folder" in said
    write_parquet(tmp_path / "a.parquet", COLOUR[50:52])
    said = refusal(labelled, unlabelled=(tmp_path / "a.parquet", tmp_path / "more.npy"))
    assert "more.npy is an array, but several paths must be Parquet files" in said


def test_hidden_files_do_not_decide_what_a_folder_holds(labelled: dict[str, Any], tmp_path: Path) -> None:
    write_pictures(tmp_path / "more", COLOUR[50:53])
    (tmp_path / "more/.cache").mkdir()
    write_parquet(tmp_path / "more/.cache/a.parquet", COLOUR[60:62])
    data = load(labelled, unlabelled=tmp_path / "more")
    assert np.array_equal(unlabelled(data), COLOUR[50:53].transpose(0, 3, 1, 2))


def test_pictures_beside_parquet_files_are_not_read_and_a_note_says_so(
    labelled: dict[str, Any], tmp_path: Path
) -> None:
    write_pictures(tmp_path / "more/inner", COLOUR[50:53])
    write_parquet(tmp_path / "more/a.parquet", COLOUR[60:62])
    data = load(labelled, unlabelled=tmp_path / "more")
    assert np.array_equal(unlabelled(data), COLOUR[60:62].transpose(0, 3, 1, 2))
    assert any("more the *.parquet files were read, and not its 3 pictures" in note for note in data.notes)


def test_a_broken_picture_is_refused_or_left_out(labelled: dict[str, Any], tmp_path: Path) -> None:
    write_pictures(tmp_path / "more", COLOUR[50:52])
    (tmp_path / "more" / "broken.png").write_bytes(b"\x89PNG broken")
    assert "broken.png" in refusal(labelled, unlabelled=tmp_path / "more")
    assert len(unlabelled(load(labelled, unlabelled=tmp_path / "more", on_error="skip"))) == 2


def test_a_view_for_the_teacher_and_unlabelled_samples_do_not_go_together(tmp_path: Path) -> None:
    x = np.zeros((40, 4), dtype=np.float32)
    assert "teacher's view" in refusal(arrays(tmp_path, x_unlabelled=x + 1, x_teacher_train=x))
