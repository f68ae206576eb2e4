"""Decodes picture files into arrays of one shape; broken ones are refused or, by option, left out and counted."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nas_kd.data.notes import LeftOut, printable
from nas_kd.data.picture_steps import (
    COLOUR,
    GREY,
    PictureSteps,
    Pixels,
    Resize,
    Size,
    default_size,
    picture_pixels,
    size_sentence,
    upright_size,
)
from nas_kd.data.source import Arrays, error_summary
from nas_kd.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
Label = int | float | str
ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


class EncodedImage(NamedTuple):
    """One labelled picture file before decoding.

    Attributes:
        content: the file's bytes, or its path; None: there are none.
        label: class number or name; None: it has none.
        where: its row or path, for messages.
        name: the same without the folders above the data, for notes.
    """

    content: bytes | Path | None
    label: Label | None
    where: str
    name: str


class DecodedImages(NamedTuple):
    """Pictures of one split, all of one size, and their labels."""

    images: list[Pixels]
    labels: list[Label]


class BrokenSampleError(InputError):
    """One sample among many cannot be used.

    Attributes:
        reason: a few words that others with the same fault share.
    """

    def __init__(self, where: str, problem: str, reason: str) -> None:
        """Say what is wrong with the sample at `where`."""
        super().__init__(printable(f"{where}: {problem}"))
        self.reason = reason


class PictureReader:
    """Decodes the pictures of all splits to one size, and keeps count of what was done to them.

    Attributes:
        left_out: samples that were broken, if the option is to skip these.
    """

    def __init__(
        self,
        size: Size,
        why: str,
        resize: Resize,
        on_error: Literal["fail", "skip"],
        colour: Literal["grey", "rgb"] | None = None,
    ) -> None:
        """Set the size.

        Args:
            size: height and width of all samples, pixels.
            why: where the size comes from, for the notes.
            resize: the rule for pictures of another size.
            on_error: refuse broken samples, or leave them out.
            colour: channels of every sample; None: as the pictures have them.
        """
        self.size, self.left_out = size, LeftOut()
        self._why, self._resize, self._skips, self._colour = why, resize, on_error == "skip", colour
        self._seen: Counter[str] = Counter()

    def read(self, images: Iterable[EncodedImage], count: int, split: str) -> DecodedImages:
        """Decode all pictures of a split.

        Args:
            images: the picture files.
            count: how many there are.
            split: its name, for messages.

        Raises:
            InputError: a picture is broken, all are, or they would not fit into memory.
        """
        decoded = DecodedImages([], [])
        broken = LeftOut()
        for encoded in images:
            try:
                pixels, label = self._decoded(encoded)
            except BrokenSampleError as error:
                if not self._skips:
                    raise InputError(f'{error}; data.on_error = "skip" leaves such samples out') from error
                broken.add(error.reason, encoded.name)
                continue
            if not decoded.images:
                check_memory(count * 2 * pixels.nbytes)  # the list, then the array made from it
            decoded.images.append(pixels)
            decoded.labels.append(label)
        if not decoded.images:
            raise InputError(f"none of the {count:,} samples of {split} can be used: {broken.summary()}")
        self.left_out.include(broken)
        return decoded

    def _decoded(self, encoded: EncodedImage) -> tuple[Pixels, Label]:
        if encoded.label is None:
            raise BrokenSampleError(encoded.where, "has no label", "without a label")
        with opened(encoded) as image:
            seen = {
                "all": True,
                "resized": upright_size(image) != self.size,
                "animated": bool(getattr(image, "is_animated", False)),
                "transparent": image.mode in ALPHA or "transparency" in image.info,
                "converted": self._colour is not None and (image.mode in GREY) != (self._colour == "grey"),
            }
            try:
                pixels = picture_pixels(image, self.size, self._resize, self._colour)
            except Exception as error:  # Pillow's readers raise many kinds of errors on broken files
                raise _unreadable(encoded, error) from error
        self._seen.update(seen)
        return pixels, encoded.label

    def steps(self, splits: dict[str, Arrays]) -> PictureSteps:
        """The steps that led to these samples, (N, C, H, W) by split."""
        return PictureSteps(self.size, self._resize, "grey" if splits["train"].x.shape[1] == 1 else "rgb")

    def notes(self) -> list[str]:
        """What was done to the pictures, one sentence each."""
        seen = self._seen
        notes = [size_sentence(self.size, self._why, self._resize, seen["resized"], seen["all"])]
        if seen["animated"]:
            notes.append(f"of {seen['animated']:,} animated or many-paged pictures the first one was taken")
        if seen["transparent"]:
            notes.append(f"transparency of {seen['transparent']:,} pictures was dropped")
        if seen["converted"]:
            notes.append(f"{seen['converted']:,} pictures were converted to {self._colour}, as samples of train are")
        if self.left_out.counts:
            notes.append(f"broken samples that were left out: {self.left_out.summary()}")
        return notes


@contextmanager
def opened(encoded: EncodedImage) -> Iterator[Image.Image]:
    """Open a picture file and read its header.

    Raises:
        BrokenSampleError: it is broken, of an unknown format, or has more than 8 bits a channel.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken metadata, which do not matter
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _open(encoded) as image:
            yield image


def _open(encoded: EncodedImage) -> Image.Image:
    content, where = encoded.content, encoded.where
    if content is None:
        raise BrokenSampleError(where, "holds no image bytes (a path alone is not followed)", "without image bytes")
    try:
        if not (len(content) if isinstance(content, bytes) else os.stat(content).st_size):
            raise BrokenSampleError(where, "not a readable image (the file is empty)", "empty")
        image = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS)
    except BrokenSampleError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds of errors on broken files
        raise _unreadable(encoded, error) from error
    if image.mode not in GREY | COLOUR:
        image.close()
        problem = f"images of mode {image.mode!r} are not supported; convert to 8-bit grey or RGB, or use npz"
        raise BrokenSampleError(where, problem, "more than 8 bits a channel")
    return image


def _unreadable(encoded: EncodedImage, error: Exception) -> BrokenSampleError:
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        most = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels" if Image.MAX_IMAGE_PIXELS else "too many pixels"
        return BrokenSampleError(encoded.where, f"not a readable image: {most}; make it smaller first", "too large")
    if isinstance(error, UnidentifiedImageError):
        known = f"none of {', '.join(FORMATS)}"
        return BrokenSampleError(encoded.where, f"not a readable image ({known}, or damaged)", "not a picture")
    return BrokenSampleError(encoded.where, f"not a readable image ({error_summary(error)})", "unreadable")


def chosen_size(given: int | tuple[int, int] | None, examples: Iterable[EncodedImage]) -> tuple[Size, str]:
    """Choose the size of samples.

    Args:
        given: `data.image_size`.
        examples: pictures whose headers are read if no size is given; broken ones do not count.

    Returns:
        Height and width in pixels, and where they come from.
    """
    if given is not None:
        return given if isinstance(given, tuple) else (given, given), "data.image_size"
    return default_size(_sizes(examples))


def _sizes(examples: Iterable[EncodedImage]) -> Sequence[Size]:
    sizes = []
    for encoded in examples:
        try:
            with opened(encoded) as image:
                sizes.append(upright_size(image))
        except BrokenSampleError:  # is met again, and then counted or refused
            continue
    return sizes


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
    """Stack each split's pictures into one array; grey ones become RGB if any picture has colour.

    Args:
        splits: decoded pictures of one size and labels by split.

    Returns:
        Arrays by split, with `x` (N, C, H, W) uint8, and notes for the user.
    """
    total = sum(len(split.images) for split in splits.values())
    grey = sum(image.ndim == 2 for split in splits.values() for image in split.images)
    notes = [f"{grey:,} grey images of {total:,} were converted to RGB"] if 0 < grey < total else []
    channels = 1 if grey == total else 3
    arrays = {name: Arrays(stack_pictures(images, channels), np.asarray(y)) for name, (images, y) in splits.items()}
    return arrays, notes


def stack_pictures(images: list[Pixels], channels: int) -> NDArray[np.uint8]:
    """Stack pictures of one size; grey ones are repeated to all channels: (N, channels, H, W)."""
    out = np.empty((len(images), channels, *images[0].shape[:2]), dtype=np.uint8)
    for target, image in zip(out, images, strict=True):
        target[...] = image.transpose(2, 0, 1) if image.ndim == 3 else image  # (H, W) broadcasts over the channels
    return out
