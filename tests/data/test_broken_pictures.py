"""Pictures of every kind, and broken ones among them: read right, refused in one line, or left out and counted."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import fill, noise, png

N = 20  # good pictures beside the one in question


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="image_folder", path=path, **options), 0)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def beside(tmp_path: Path) -> Any:
    """Twenty good pictures, and one more file of these bytes."""

    def written(content: bytes, name: str = "more.png") -> Path:
        folder = fill(tmp_path / "bugs")
        (folder / "ant" / name).write_bytes(content)
        return folder

    return written


def size(dataset: Dataset) -> int:
    return len(dataset.train) + len(dataset.val) + len(dataset.test)


JPEG = png(noise(0, 64, 64, 3), "JPEG")
BROKEN: list[tuple[bytes, str, str]] = [
    (b"", "not a readable image (the file is empty)", "empty"),
    (b"hello", "none of PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM, or damaged", "not a picture"),
    (JPEG[: len(JPEG) // 2], "image file is truncated", "unreadable"),
    (png(noise(0, 64, 64, 3))[:900], "image file is truncated", "unreadable"),
    (
        png(noise(0, 8, 8).astype(np.uint16) * 256),
        "mode 'I;16' are not supported; convert to 8-bit",
        "more than 8 bits a",
    ),
    (
        encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
        "mode 'F' are not supported",
        "more than 8 bits a ch",
    ),
    (encoded(Image.new("1", (12_000, 12_000)), "PNG"), "more than 89,478,485 pixels; make it smaller", "too large"),
]


@pytest.mark.parametrize(("content", "message", "reason"), BROKEN, ids=[reason for *_, reason in BROKEN])
def test_one_broken_picture_is_refused_or_left_out(beside: Any, content: bytes, message: str, reason: str) -> None:
    folder = beside(content)
    with pytest.raises(InputError) as caught:
        load(folder)
    said = str(caught.value)
    assert f"{folder}/ant/more.png: " in said
    assert message in said
    assert said.endswith('data.on_error = "skip" leaves such samples out')
    assert said.isprintable()
    dataset = load(folder, on_error="skip")
    assert size(dataset) == N
    (counted,) = dataset.about.skipped.items()
    assert counted[0].startswith(reason)
    assert counted[1] == 1
    (note,) = [note for note in dataset.notes if note.startswith("broken samples that were left out")]
    assert note.endswith(f"{counted[0]}: 1 (ant/more.png)")
    assert dataset.key == load(_without(folder)).key


def _without(folder: Path) -> Path:
    (folder / "ant" / "more.png").unlink()
    return folder


def test_many_broken_ones_are_counted_by_reason_and_the_first_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "bugs")
    for i in range(5):
        (folder / "bee" / f"x{i}.png").write_bytes(b"hello")
    (folder / "ant" / "empty.png").write_bytes(b"")
    dataset = load(folder, on_error="skip")
    assert dataset.about.skipped == {"not a picture": 5, "empty": 1}
    (note,) = [note for note in dataset.notes if "left out" in note]
    assert "not a picture: 5 (bee/x0.png, bee/x1.png, bee/x2.png, ...)" in note


def test_a_split_of_broken_ones_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    (tmp_path / "val" / "ant").mkdir(parents=True)
    (tmp_path / "val" / "ant" / "x.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 1 samples of val can be used: empty: 1 \(ant/x\.png\)"):
        load(tmp_path, on_error="skip")


def test_a_class_whose_pictures_are_all_broken_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "bugs")
    (folder / "cow").mkdir()
    (folder / "cow" / "x.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"class 'cow' has 0 samples .*left out before: empty: 1"):
        load(folder, on_error="skip")


def test_on_error_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(InputError, match=r"data\.on_error is not used by source 'digits'"):
        load_dataset(DataOptions(on_error="skip"), 0)


RGB = Image.fromarray(noise(99, 8, 8, 3))
GOOD: list[tuple[str, bytes]] = [
    ("palette", encoded(RGB.quantize(9), "PNG")),
    ("palette.gif", encoded(RGB.quantize(9), "GIF")),
    ("cmyk.jpg", encoded(RGB.convert("CMYK"), "JPEG")),
    ("rgba", encoded(RGB.convert("RGBA"), "PNG")),
    ("grey with alpha", encoded(RGB.convert("LA"), "PNG")),
    ("bits", encoded(RGB.convert("1"), "PNG")),
    ("lab.tif", encoded(RGB.convert("LAB"), "TIFF")),
    ("UPPER.JPEG", encoded(RGB, "JPEG")),
    ("webp.webp", encoded(RGB, "WEBP")),
    ("bmp.bmp", encoded(RGB, "BMP")),
    ("tif.TIF", encoded(RGB, "TIFF")),
    ("ppm.ppm", encoded(RGB, "PPM")),
    ("jfif.jfif", encoded(RGB, "JPEG")),
    ("a JPEG called.png", encoded(RGB, "JPEG")),
    ("exif that is broken.jpg", encoded(RGB, "JPEG", exif=b"Exif\0\0garbage")),
    ("one pixel", encoded(Image.new("RGB", (1, 1)), "PNG")),
    ("a line", encoded(Image.new("RGB", (300, 1)), "PNG")),
]


@pytest.mark.parametrize(("name", "content"), GOOD, ids=[name for name, _ in GOOD])
def test_pictures_of_other_kinds_are_read(beside: Any, name: str, content: bytes) -> None:
    dataset = load(beside(content, name if "." in name else f"{name}.png"))
    assert size(dataset) == N + 1
    assert dataset.input_shape == (3, 8, 8)


def test_colours_survive_palettes_and_lossless_formats(tmp_path: Path) -> None:
    flat = Image.new("RGB", (8, 8), (200, 100, 50))
    for kind, image in (("PNG", flat.quantize(2)), ("GIF", flat.quantize(2)), ("TIFF", flat), ("BMP", flat)):
        fill(tmp_path / kind / "train")
        (tmp_path / kind / "test" / "ant").mkdir(parents=True)
        (tmp_path / kind / "test" / "ant" / "x.png").write_bytes(encoded(image, kind))
        x = load(tmp_path / kind).test.x
        assert x[0, :, 0, 0].tolist() == [200, 100, 50]


def test_cmyk_has_the_colours_that_it_shows(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    (tmp_path / "test" / "ant").mkdir(parents=True)
    blue = Image.new("CMYK", (8, 8), (255, 255, 0, 0))
    (tmp_path / "test" / "ant" / "x.jpg").write_bytes(encoded(blue, "JPEG", quality=95))
    assert np.abs(load(tmp_path).test.x[0, :, 4, 4].numpy().astype(int) - [0, 0, 255]).max() < 6


def test_of_an_animation_the_first_frame_is_taken_and_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    fill(tmp_path / "train")
    (tmp_path / "test" / "ant").mkdir(parents=True)
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "test" / "ant" / "x.gif").write_bytes(content)
    dataset = load(tmp_path)
    assert dataset.test.x[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "of 1 animated or many-paged pictures the first one was taken" in dataset.notes


def test_transparency_that_is_dropped_is_said(beside: Any) -> None:
    assert "transparency of 1 pictures was dropped" in load(beside(png(noise(0, 8, 8, 4)))).notes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    fill(tmp_path / "train", side=(6, 10))
    (tmp_path / "test" / "ant").mkdir(parents=True)
    shown = Image.fromarray(noise(5, 6, 10, 3))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that make the stored of the shown
    stored = shown if orientation == 1 else shown.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "test" / "ant" / "x.png", exif=exif)
    dataset = load(tmp_path)
    assert dataset.input_shape == (3, 6, 10)
    assert np.array_equal(dataset.test.x[0].numpy(), np.asarray(shown).transpose(2, 0, 1))
    assert "resized" not in dataset.notes[0]
