"""Picture files before they are decoded: what a source found, in the order of its samples."""

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image, UnidentifiedImageError

from nas_kd.data.picture_steps import COLOUR, GREY, Size, default_size, upright_size
from nas_kd.data.source import error_summary
from nas_kd.errors import InputError, printable

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
Label = int | float | str | tuple[float, ...]


class EncodedImage(NamedTuple):
    """One labelled picture file before decoding.

    Attributes:
        content: the file's bytes, or its path; None: there are none.
        label: class number or name, or a number for each label or target; None: it has none.
        where: its row or path, for messages.
    """

    content: bytes | Path | None
    label: Label | None
    where: str


class Pictures(Protocol):
    """The picture files of one split, in the order of its samples."""

    def __len__(self) -> int:
        """Number of pictures, broken ones included."""

    def encoded(self) -> Iterator[EncodedImage]:
        """Read all pictures as they are stored, in order."""

    def labels(self) -> Iterator[Label | None]:
        """Their labels; None: there is none."""

    def name(self, row: int) -> str:
        """Name of a picture without the folders above the data, for notes."""

    def files(self) -> Sequence[tuple[str, Path]]:
        """Files that the pictures are read from, with names that stay the same when all are moved together."""

    def selection(self) -> Any:
        """What decides, beside the content of the files, which pictures there are: a value of JSON."""


@dataclass(frozen=True)
class FolderPictures:
    """Picture files that lie in folders.

    Attributes:
        samples: label and path of each.
        naming: gives a picture's name from both.
    """

    samples: Sequence[tuple[Label | None, Path]]
    naming: Callable[[Label | None, Path], str]

    def __len__(self) -> int:
        return len(self.samples)

    def encoded(self) -> Iterator[EncodedImage]:
        """Read all pictures as they are stored, in order."""
        return (EncodedImage(file, label, str(file)) for label, file in self.samples)

    def labels(self) -> Iterator[Label | None]:
        """Labels of the pictures, in order."""
        return (label for label, _ in self.samples)

    def name(self, row: int) -> str:
        """Name of a picture, for notes."""
        return self.naming(*self.samples[row])

    def files(self) -> Sequence[tuple[str, Path]]:
        """Files that the pictures come from, by name."""
        return [(self.naming(*sample), sample[1]) for sample in self.samples]

    def selection(self) -> Any:
        """Each file is one picture."""
        return None


class BrokenSampleError(InputError):
    """One sample among many cannot be used.

    Attributes:
        reason: a few words that others with the same fault share.
    """

    def __init__(self, where: str, problem: str, reason: str) -> None:
        """Say what is wrong with the sample at `where`."""
        super().__init__(printable(f"{where}: {problem}"))
        self.reason = reason


@contextmanager
def picture_warnings() -> Iterator[None]:
    """Treat warnings of Pillow as it suits data inside; they are set for all threads, so enter it in one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken metadata, which do not matter
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_picture(encoded: EncodedImage) -> Image.Image:
    """Open a picture file and read its header, within `picture_warnings`; the caller closes it.

    Raises:
        BrokenSampleError: it is broken, of an unknown format, or has more than 8 bits a channel.
    """
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
        raise unreadable(encoded, error) from error
    if image.mode not in GREY | COLOUR:
        image.close()
        problem = f"images of mode {image.mode!r} are not supported; convert to 8-bit grey or RGB, or use npz"
        raise BrokenSampleError(where, problem, "more than 8 bits a channel")
    return image


def unreadable(encoded: EncodedImage, error: Exception) -> BrokenSampleError:
    """Make the error for a picture on which Pillow raised another."""
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
            with picture_warnings(), open_picture(encoded) as image:
                sizes.append(upright_size(image))
        except BrokenSampleError:  # is met again, and then counted or refused
            continue
    return sizes
