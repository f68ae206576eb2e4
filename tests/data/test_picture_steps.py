"""From a decoded picture to a sample: size, rule, colour; and the default size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.picture_steps import PictureSteps, default_size, picture_pixels
from nas_kd.data.prepare import load_dataset
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.search_space import load_space

from .conftest import fill, noise, png


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="image_folder", path=path, **options), 0)


@pytest.mark.parametrize(
    ("sizes", "size", "why"),
    [
        ([(28, 28)] * 3, (28, 28), "their own size"),
        ([(30, 50)] * 3, (30, 50), "their own size"),
        ([(64, 64)], (64, 64), "their own size"),
        ([(300, 400)] * 3, (48, 64), "their own size is 300x400 (height x width); at most 64"),
        ([(96, 96)] * 3, (64, 64), "their own size is 96x96; at most 64"),
        ([(1000, 3)], (64, 1), "their own size is 1000x3"),
        ([(30, 50)] * 9 + [(7, 7)], (30, 50), "the size of most"),
        ([(30, 50), (40, 20), (25, 80)], (25, 25), "they differ in size, the median of their shorter sides is 25"),
        (
            [(300, 500), (400, 200)],
            (64, 64),
            "they differ in size, the median of their shorter sides is 200; at most 64",
        ),
        ([], (64, 64), "at most 64"),
    ],
)
def test_default_size(sizes: list[tuple[int, int]], size: tuple[int, int], why: str) -> None:
    found, said = default_size(sizes)
    assert found == size
    assert said.startswith(why)


def bars(height: int, width: int) -> Image.Image:
    """White, with the outer quarters of the longer side red and blue."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    long = max(height, width)
    ends = (slice(0, long // 4), slice(long - long // 4, long))
    for end, colour in zip(ends, ((255, 0, 0), (0, 0, 255)), strict=True):
        pixels[(slice(None), end) if width > height else (end, slice(None))] = colour
    return Image.fromarray(pixels)


def test_crop_keeps_the_centre() -> None:
    assert (picture_pixels(bars(16, 32), (16, 16), "crop") == 255).all()
    tall = picture_pixels(bars(16, 32), (8, 16), "crop")
    assert tall.shape == (8, 16, 3)
    assert tall[4, 0].tolist() == [255, 0, 0]  # the same shape: nothing is lost


def test_letterbox_keeps_everything_between_black_bars() -> None:
    shown = picture_pixels(bars(16, 32), (32, 32), "letterbox")
    assert (shown[:7] == 0).all()
    assert (shown[-7:] == 0).all()
    assert shown[16, 0].tolist() == [255, 0, 0]
    assert shown[16, -1].tolist() == [0, 0, 255]


def test_stretch_keeps_everything_and_fills_the_shape() -> None:
    shown = picture_pixels(bars(16, 32), (32, 32), "stretch")
    assert shown[0, 0].tolist() == shown[-1, 0].tolist() == [255, 0, 0]
    assert shown[0, -1].tolist() == shown[-1, -1].tolist() == [0, 0, 255]


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_a_picture_of_the_size_stays_as_it_is(resize: Any) -> None:
    pixels = noise(0, 12, 20, 3)
    assert np.array_equal(picture_pixels(Image.fromarray(pixels), (12, 20), resize), pixels)


def test_crop_to_a_square_is_what_it_always_was() -> None:
    pixels = noise(0, 40, 56, 3)
    old = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC, box=(8, 0, 48, 40))
    assert np.array_equal(picture_pixels(Image.fromarray(pixels), (16, 16), "crop"), np.asarray(old))


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_the_steps_alone_reproduce_the_samples(tmp_path: Path, resize: Any) -> None:
    fill(tmp_path / "train", side=(9, 14))
    fill(tmp_path / "val", n=1, first=300)
    fill(tmp_path / "test", ("ant",), n=1)
    large = Image.fromarray(noise(7, 200, 330, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(tmp_path / "test" / "ant" / "00.png", "JPEG", exif=exif.tobytes(), quality=90)
    dataset = load(tmp_path, image_size=[12, 20], resize=resize)
    assert dataset.input_shape == (3, 12, 20)
    assert dataset.picture_steps is not None
    written = json.loads(json.dumps(dataset.picture_steps.to_json()))
    steps = PictureSteps.from_json(written)
    assert steps == dataset.picture_steps == PictureSteps((12, 20), resize, "rgb")
    with Image.open(tmp_path / "test" / "ant" / "00.png") as image:
        pixels = picture_pixels(image, steps.image_size, steps.resize)
    assert np.array_equal(dataset.test.x[0].numpy(), pixels.transpose(2, 0, 1))


def test_colour_and_size_are_said(tmp_path: Path) -> None:
    for c, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for i in range(10):
            (tmp_path / name / f"{i}.png").write_bytes(png(noise(100 * c + i, 20, 10)))
    dataset = load(tmp_path, image_size=(10, 8), resize="stretch")
    assert dataset.picture_steps == PictureSteps((10, 8), "stretch", "grey")
    assert dataset.notes[0] == (
        "pictures: 10x8 (height x width) pixels (data.image_size); 20 of 20 were resized: the whole picture, distorted "
        "to the shape, bicubic"
    )
    assert load(tmp_path).input_shape == (1, 20, 10)


def test_samples_that_were_not_picture_files_have_no_steps() -> None:
    assert load_dataset(DataOptions(), 0).picture_steps is None


@pytest.mark.parametrize("space", ["resnet", "mobilenet"])
def test_the_spaces_take_samples_that_are_not_square(space: str) -> None:
    found = load_space(space)
    for architecture in found.size_ladder(2):
        network = found.build(architecture, (3, 12, 20), 5).eval()
        x = torch.rand(3, 3, 12, 20)
        with torch.no_grad():
            want = network(x)
        assert want.shape == (3, 5)
        logits = OnnxClassifier(export_onnx(network, (3, 12, 20))).predict(x)
        np.testing.assert_allclose(logits, want.numpy(), atol=1e-4, rtol=1e-3)


def by_the_book(path: Path, steps: dict[str, Any]) -> Any:
    """The steps as `PictureSteps` describes them, by Pillow alone: what a program without nas-kd does."""
    (height, width), image = steps["image_size"], Image.open(path)
    if image.format == "JPEG":
        image.draft(None, (2 * max(height, width),) * 2)
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("P", "PA") and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    flat = upright.convert("L" if steps["colour"] == "grey" else "RGB")
    if flat.size != (width, height):
        bicubic = Image.Resampling[steps["interpolation"].upper()]
        if steps["resize"] == "crop":
            flat = ImageOps.fit(flat, (width, height), bicubic)
        elif steps["resize"] == "letterbox":
            bar = (steps["fill"],) * len(flat.getbands())
            flat = ImageOps.pad(flat, (width, height), bicubic, color=bar)
        else:
            flat = flat.resize((width, height), bicubic)
    pixels = np.asarray(flat)
    image.close()
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def odd_pictures(colour: str) -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    rgb, grey = Image.fromarray(noise(1, 30, 44, 3)), Image.fromarray(noise(2, 30, 44))
    exif = Image.Exif()
    exif[0x0112] = 8
    greys = {
        "grey.png": (grey, {}),
        "large grey.jpg": (Image.fromarray(noise(4, 300, 500)), {"exif": exif.tobytes()}),
        "with alpha.png": (grey.convert("LA"), {}),
        "bits.png": (grey.convert("1"), {}),
    }
    if colour == "grey":
        return greys
    return greys | {
        "clear palette.png": (rgb.quantize(9), {"transparency": 3}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "large.jpg": (Image.fromarray(noise(3, 300, 500, 3)), {"exif": exif.tobytes()}),
        "alpha.png": (Image.fromarray(noise(5, 20, 21, 4)), {}),
    }


@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_the_steps_can_be_followed_without_this_package(tmp_path: Path, resize: Any, colour: str) -> None:
    pictures = odd_pictures(colour)
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for file, (image, options) in pictures.items():
                image.save(tmp_path / split / name / file, **options)
    dataset = load(tmp_path, image_size=[12, 20], resize=resize)
    assert dataset.picture_steps is not None
    steps = json.loads(json.dumps(dataset.picture_steps.to_json()))
    assert steps["colour"] == colour
    for x, path in zip(dataset.test.x[::2], sorted((tmp_path / "test" / "ant").iterdir()), strict=True):
        assert np.array_equal(x.numpy(), by_the_book(path, steps)), path.name
