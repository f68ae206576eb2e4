"""Decodes image files into arrays of one shape, resizing and converting them where needed."""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas_kd.data.source import Arrays, error_summary
from nas_kd.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
GREY = frozenset({"1", "L", "LA", "La"})
COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
Pixels = NDArray[np.uint8]  # (H, W) grey or (H, W, 3) colour


class EncodedImage(NamedTuple):
    """One labelled image file before decoding.

    Attributes:
        content: the file's bytes, or its path.
        label: class number or name.
        where: its row or path, for messages.
    """

    content: bytes | Path
    label: int | float | str
    where: str


class DecodedImages(NamedTuple):
    """Images of one split, all of one size, and their labels."""

    images: list[Pixels]
    labels: list[int | float | str]


def decode_image(encoded: EncodedImage, size: int | None) -> Pixels:
    """Decode one image, and optionally resize its centre square.

    Args:
        encoded: the image file.
        size: side in pixels that the centre square is resized to; None: keep the size.

    Returns:
        (H, W) for grey images, (H, W, 3) for colour, uint8.

    Raises:
        InputError: it is broken, of an unknown format, or has more than 8 bits a channel.
    """
    content = io.BytesIO(encoded.content) if isinstance(encoded.content, bytes) else encoded.content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content, formats=FORMATS) as image:
                return _pixels(image, size)
    except InputError as error:
        raise InputError(f"{encoded.where}: {error}") from error
    except Exception as error:  # Pillow's readers raise many kinds of errors on broken files
        raise InputError(f"{encoded.where}: not a readable image ({error_summary(error)})") from error


def _pixels(image: Image.Image, size: int | None) -> Pixels:
    if image.mode not in GREY | COLOUR:
        raise InputError(f"images of mode {image.mode!r} are not supported; convert to 8-bit grey or RGB, or use npz")
    if size is not None:
        image.draft(None, (2 * size, 2 * size))  # large JPEGs decode straight to a smaller scale
    upright = ImageOps.exif_transpose(image) if "exif" in image.info else image
    if upright.mode in ("P", "PA") and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    flat = upright.convert("L" if image.mode in GREY else "RGB")
    if size is not None and flat.size != (size, size):
        flat = ImageOps.fit(flat, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(flat)


def decode_images(images: Iterable[EncodedImage], count: int, size: int | None) -> DecodedImages:
    """Decode all images of a split.

    Args:
        images: the image files.
        count: how many there are.
        size: side in pixels that the centre squares are resized to; None: all must be of one size.

    Raises:
        InputError: an image is broken or differs in size from the first, or they would not fit into memory.
    """
    decoded = DecodedImages([], [])
    for encoded in images:
        pixels = decode_image(encoded, size)
        if not decoded.images:
            check_memory(count * 2 * pixels.nbytes)  # the list, then the array made from it
        elif pixels.shape[:2] != decoded.images[0].shape[:2]:
            got, first = _size_text(pixels), _size_text(decoded.images[0])
            raise InputError(f"{encoded.where} is {got} pixels, the first image {first}; set data.image_size")
        decoded.images.append(pixels)
        decoded.labels.append(encoded.label)
    return decoded


def check_memory(needed_bytes: float) -> None:
    """Refuse data that is larger than the free memory.

    Raises:
        InputError: fewer than `needed_bytes` are free.
    """
    free = psutil.virtual_memory().available
    if needed_bytes > free:
        raise InputError(
            f"the samples need {needed_bytes / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            "set data.train_rows, or data.image_size for images"
        )


def stack_splits(splits: dict[str, DecodedImages]) -> tuple[dict[str, Arrays], list[str]]:
    """Stack each split's images into one array; grey images become RGB if any image has colour.

    Args:
        splits: decoded images and labels by split.

    Returns:
        Arrays by split, with `x` (N, C, H, W) uint8, and notes for the user.

    Raises:
        InputError: the splits' images differ in size.
    """
    first_name, first = next((name, split.images[0]) for name, split in splits.items())
    for name, (images, _) in splits.items():
        if images[0].shape[:2] != first.shape[:2]:
            got, want = _size_text(images[0]), _size_text(first)
            raise InputError(f"{name} has images of {got} pixels, {first_name} of {want}; set data.image_size")
    total = sum(len(split.images) for split in splits.values())
    grey = sum(image.ndim == 2 for split in splits.values() for image in split.images)
    notes = [f"{grey:,} grey images of {total:,} were converted to RGB"] if 0 < grey < total else []
    channels = 1 if grey == total else 3
    arrays = {name: Arrays(_stack(images, channels), np.asarray(y)) for name, (images, y) in splits.items()}
    return arrays, notes


def _stack(images: list[Pixels], channels: int) -> NDArray[np.uint8]:
    out = np.empty((len(images), channels, *images[0].shape[:2]), dtype=np.uint8)
    for target, image in zip(out, images, strict=True):
        target[...] = image.transpose(2, 0, 1) if image.ndim == 3 else image  # (H, W) broadcasts over the channels
    return out


def _size_text(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
