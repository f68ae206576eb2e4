"""Folders of pictures and masks: real files, their values, and what is refused or left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.mask_folder import PLUGIN
from nas_kd.data.prepare import load_dataset
from nas_kd.data.source import RawData
from nas_kd.errors import InputError

SIDE = 12
GENERATOR = np.random.default_rng(0)


def write(folder: Path, split: str, n: int = 6, classes: int = 3, suffix: str = ".png") -> Path:
    """Colour pictures and palette masks of blocks; the corner pixel is void."""
    for inner in ("images", "masks"):
        (folder / split / inner).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        mask = GENERATOR.integers(0, classes, (3, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        mask[0, :classes] = range(classes)
        picture = (60 * mask[..., None] + GENERATOR.integers(0, 40, (SIDE, SIDE, 3))).astype(np.uint8)
        mask[-1, -1] = 255
        Image.fromarray(picture).save(folder / split / "images" / f"{i:02}{suffix}")
        image = Image.fromarray(mask)
        image.putpalette([*range(256)] * 3)
        image.save(folder / split / "masks" / f"{i:02}.png")
    return folder


def load(path: Path, **options: Any) -> RawData:
    return PLUGIN.load(DataOptions(path=path, **options))


def masks_of(folder: Path) -> np.ndarray[Any, Any]:
    return np.stack([pixels_of(p) for p in sorted((folder / "masks").iterdir())])


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_pictures_and_masks_are_read_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, "train")
    write(tmp_path, "test", 3)
    raw = load(tmp_path)
    assert raw.train.x.shape == (6, 3, SIDE, SIDE)
    assert np.array_equal(raw.train.y, masks_of(tmp_path / "train"))
    assert raw.test is not None
    assert np.array_equal(raw.test.y, masks_of(tmp_path / "test"))
    assert (raw.val, raw.classes) == (None, ("0", "1", "2"))


def test_a_data_set_is_made_of_them(tmp_path: Path) -> None:
    (write(tmp_path, "train", 20) / "classes.txt").write_text("sky\nroad\ncar\n")
    options = DataOptions(path=tmp_path, source="mask_folder", task="segmentation")
    data = load_dataset(options, 0)
    assert data.classes == ("sky", "road", "car")
    assert (len(data.train), len(data.val), len(data.test)) == (13, 3, 4)
    assert data.task.targets(data.train.y).shape == (13 * 36,)
    with pytest.raises(InputError, match="pixels of value 255; classes are 0, 1, 2"):
        load_dataset(options.model_copy(update={"void_value": -1}), 0)


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_masks_are_resized_as_their_pictures(tmp_path: Path, resize: str) -> None:
    """Of blocks as large as 3 by 3 pixels, the nearest pixel's class is that of the resized picture."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    mask = np.arange(8).reshape(2, 4).repeat(12, 0).repeat(12, 1).astype(np.uint8)  # 24 x 48
    for i in range(2):
        Image.fromarray((30 * mask).astype(np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    raw = load(tmp_path, image_size=24, resize=resize)
    x, y = np.asarray(raw.train.x)[0, 0], np.asarray(raw.train.y)[0]
    assert y.shape == (24, 24)
    bars = y == 255
    assert bars.any() == (resize == "letterbox")
    assert (x[bars] <= 8).all()
    assert (np.abs(x[~bars] / 30 - y[~bars]) < 0.3).mean() > 0.7


def test_values_with_gaps_are_numbered(tmp_path: Path) -> None:
    folder = write(tmp_path, "train", 4, classes=2)
    for path in (folder / "train" / "masks").iterdir():
        mask = pixels_of(path)
        Image.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match=r"one value only beside void \(0\): nothing to learn; is that one of two"):
        load(tmp_path)
    raw = load(tmp_path, void_value=-1)
    assert raw.classes == ("0", "255")
    assert set(np.unique(np.asarray(raw.train.y))) == {0, 1}
    assert any("values of masks (0, 255) are classes" in note for note in raw.notes)


def spoil_size(mask: Path) -> None:
    Image.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(mask)


def spoil_colour(mask: Path) -> None:
    Image.fromarray(pixels_of(mask)).convert("RGB").save(mask)


def spoil_value(mask: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE), 7, dtype=np.uint8)).save(mask)


def spoil_bytes(mask: Path) -> None:
    mask.write_bytes(b"no picture")


def remove(mask: Path) -> None:
    mask.unlink()


def remove_picture(mask: Path) -> None:
    (mask.parent.parent / "images" / mask.name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message", "reason"),
    [
        (spoil_size, r"02\.png: is 5x5, its picture 12x12", "mask of another size"),
        (spoil_colour, r"02\.png: is a colour picture \(RGB\); want a grey or palette one", "colour picture as mask"),
        (spoil_value, r"02\.png: has pixels of value 7; classes are 0, 1, 2, 255 is void", "with unknown values"),
        (spoil_bytes, r"02\.png: not a readable image", "not a picture"),
        (remove, r"images/02\.png: has no mask of its name", "without a mask"),
        (remove_picture, r"masks/02\.png: has no picture of its name", "without a picture"),
    ],
)
def test_what_is_wrong_is_refused_or_left_out(
    tmp_path: Path, spoil: Callable[[Path], None], message: str, reason: str
) -> None:
    folder = write(write(tmp_path, "train"), "test")
    spoil(folder / "test" / "masks" / "02.png")
    with pytest.raises(InputError, match=message):
        load(tmp_path)
    raw = load(tmp_path, on_error="skip")
    assert raw.test is not None
    assert len(raw.test.x) == len(raw.test.y) == 5
    kept = [i for i in range(6) if i != 2]
    assert np.array_equal(raw.train.y, masks_of(tmp_path / "train"))
    if spoil not in (remove, remove_picture):
        for path in (folder / "test" / "masks").glob("02.png"):
            path.unlink()
    if spoil is not remove_picture:
        assert np.array_equal(raw.test.y, masks_of(tmp_path / "test"))
        assert len(masks_of(tmp_path / "test")) == len(kept)
    assert raw.skipped[reason] == 1
    assert any(reason in note for note in raw.notes)


def test_a_broken_picture_takes_its_mask_along(tmp_path: Path) -> None:
    folder = write(tmp_path, "train")
    (folder / "train" / "images" / "03.png").write_bytes(
        Path(folder / "train" / "images" / "03.png").read_bytes()[:150]
    )
    raw = load(tmp_path, on_error="skip")
    expected = np.delete(masks_of(folder / "train"), 3, axis=0)
    assert np.array_equal(raw.train.y, expected)
    assert len(raw.train.x) == 5


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ((), "has nothing; want images/ and masks/"),
        (("train/images",), r"has no folder masks/"),
        (("images", "masks"), "has 0 pictures and 0 masks"),
    ],
)
def test_folders_that_are_not_there_are_said(tmp_path: Path, layout: tuple[str, ...], message: str) -> None:
    for inner in layout:
        (tmp_path / inner).mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        load(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        load(tmp_path / "nowhere")
