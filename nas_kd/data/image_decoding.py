"""Decodes picture files into arrays of one shape; broken ones are refused or, by option, left out and counted."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL
import psutil
from numpy.typing import NDArray
from PIL import features

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import (
    BrokenSampleError,
    EncodedImage,
    Pictures,
    open_picture,
    picture_warnings,
    unreadable,
)
from nas_kd.data.in_order import in_order, usable_cores
from nas_kd.data.loading_events import report_note, report_progress
from nas_kd.data.mapped_array import MappedArray
from nas_kd.data.notes import LeftOut
from nas_kd.data.picture_cache import CacheUnusableError, PictureCache
from nas_kd.data.picture_file import PictureFile
from nas_kd.data.picture_steps import (
    GREY,
    PictureSteps,
    Pixels,
    Resize,
    Size,
    picture_pixels,
    size_sentence,
    upright_size,
)
from nas_kd.data.source import Arrays
from nas_kd.data.stacked_pictures import ReadPictures, stack_pictures
from nas_kd.errors import InputError

ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
PROGRESS_EVERY = 100  # pictures


@dataclass
class DecodingLog:
    """What was met while the pictures of a split were decoded; a value of JSON, as `to_json` gives it.

    Attributes:
        seen: how many pictures had what, by what.
        broken: row and reason of each picture that cannot be used.
    """

    seen: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The log as values of JSON."""
        return {"seen": dict(self.seen), "broken": self.broken}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "DecodingLog":
        """Read the log that `to_json` wrote."""
        return DecodingLog(Counter(value["seen"]), [(row, reason) for row, reason in value["broken"]])


class PictureReader:
    """Decodes the pictures of all splits to one size, and keeps count of what was done to them.

    Attributes:
        left_out: samples that were broken, if the option is to skip these.
    """

    def __init__(
        self,
        size: Size,
        why: str,
        options: DataOptions,
        *,
        resize: Resize | None = None,
        colour: Literal["grey", "rgb"] | None = None,
    ) -> None:
        """Set the size.

        Args:
            size: height and width of all samples, pixels.
            why: where the size comes from, for the notes.
            options: `on_error`: refuse broken samples, or leave them out; `cache` and `cache_gb`: where decoded
                pictures are kept; `resize`.
            resize: the rule for pictures of another size; None: that of the options.
            colour: channels of every sample; None: as the pictures have them.
        """
        self.size, self.left_out = size, LeftOut()
        self._why, self._colour = why, colour
        self._resize: Resize = options.resize if resize is None else resize
        self._skips = options.on_error == "skip"
        self._cache = PictureCache.of(options)
        self._seen: Counter[str] = Counter()

    def read(self, pictures: Pictures, split: str) -> ReadPictures:
        """Decode all pictures of a split, or map what was decoded before.

        Args:
            pictures: the picture files.
            split: its name, for messages.

        Raises:
            InputError: a picture is broken, all are, or they would not fit into memory or into the cache.
        """
        x, log = self._kept(pictures, split) or self._in_memory(pictures, split)
        self.left_out.include(_left_out(pictures, log))
        self._seen.update(log.seen)
        broken = {row for row, _ in log.broken}
        kept = [(row, label) for row, label in enumerate(pictures.labels()) if row not in broken and label is not None]
        labels = [label for _, label in kept]
        return ReadPictures(x, labels, log.seen["grey"], np.array([row for row, _ in kept], dtype=np.int64))

    def _kept(self, pictures: Pictures, split: str) -> tuple[MappedArray, DecodingLog] | None:
        """The pictures in the cache; None: they are to be kept in memory."""
        height, width = self.size
        largest = len(pictures) * 3 * height * width
        if self._cache is None or not self._cache.is_for(largest):
            return None
        try:
            return self._mapped(self._cache, pictures, split, largest)
        except CacheUnusableError as error:
            if not self._cache.is_default:
                raise
            report_note(f"{error}; until then pictures of {split} are decoded into memory")
            return None

    def _mapped(
        self, cache: PictureCache, pictures: Pictures, split: str, largest: int
    ) -> tuple[MappedArray, DecodingLog]:
        key = cache.key(pictures, self._facts(), split)
        found = cache.find(key)
        if found is None:
            found = cache.make(key, pictures, split, largest, lambda path: self._write(path, pictures, split))
        log = DecodingLog.from_json(found.log)
        if log.broken and not self._skips:  # they were skipped when these were decoded
            self._refuse(pictures, log.broken[0][0])
        return found.array, log

    def _refuse(self, pictures: Pictures, row: int) -> None:
        with picture_warnings():
            found = self._decoded(next(islice(pictures.encoded(), row, None)))
        if isinstance(found, BrokenSampleError):
            raise _not_skipped(found)

    def _facts(self) -> list[Any]:
        """What pictures, and facts about them, follow from beside the files: rules, and versions of libraries."""
        versions = [PIL.__version__, features.version_feature("libjpeg_turbo"), np.__version__]
        return [*self.size, self._resize, self._colour, versions]

    def _write(self, path: Path, pictures: Pictures, split: str) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Decode into a file; returns its shape (N, C, H, W), and the log."""
        log = DecodingLog()
        with PictureFile(path, self.size) as file:
            self._decode(pictures, split, log, file.append)
        return file.shape, log.to_json()

    def _in_memory(self, pictures: Pictures, split: str) -> tuple[NDArray[np.uint8], DecodingLog]:
        images, log = list[Pixels](), DecodingLog()

        def keep(pixels: Pixels) -> None:
            if not images:
                check_memory(len(pictures) * 2 * pixels.nbytes)  # the list, then the array made from it
            images.append(pixels)

        self._decode(pictures, split, log, keep)
        return stack_pictures(images, 1 if log.seen["grey"] == len(images) else 3), log

    def _decode(self, pictures: Pictures, split: str, log: DecodingLog, keep: Callable[[Pixels], None]) -> None:
        """Decode all pictures in their order on all cores."""
        total = len(pictures)
        with picture_warnings(), ThreadPoolExecutor(usable_cores()) as pool:
            for row, found in enumerate(in_order(pool, self._decoded, pictures.encoded())):
                if isinstance(found, BrokenSampleError):
                    if not self._skips:
                        raise _not_skipped(found)
                    log.broken.append((row, found.reason))
                else:
                    keep(found.pixels)
                    log.seen.update(found.seen)
                if (row + 1) % PROGRESS_EVERY == 0 or row + 1 == total:
                    report_progress(f"decoding pictures of {split}:", row + 1, total)
        if len(log.broken) == total:
            raise InputError(
                f"none of the {total:,} samples of {split} can be used: {_left_out(pictures, log).summary()}"
            )

    def _decoded(self, encoded: EncodedImage) -> "DecodedImage | BrokenSampleError":
        try:
            return self._pixels(encoded)
        except BrokenSampleError as error:
            return error

    def _pixels(self, encoded: EncodedImage) -> "DecodedImage":
        if encoded.label is None:
            raise BrokenSampleError(encoded.where, "has no label", "without a label")
        with open_picture(encoded) as image:
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
                raise unreadable(encoded, error) from error
        seen["grey"] = pixels.ndim == 2
        return DecodedImage(pixels, {what: int(was) for what, was in seen.items()})

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


class DecodedImage(NamedTuple):
    """A picture (H, W) or (H, W, 3), and what was seen of it."""

    pixels: Pixels
    seen: dict[str, int]


def _not_skipped(error: BrokenSampleError) -> InputError:
    return InputError(f'{error}; data.on_error = "skip" leaves such samples out')


def _left_out(pictures: Pictures, log: DecodingLog) -> LeftOut:
    found = LeftOut()
    for row, reason in log.broken:
        found.add(reason, pictures.name(row))
    return found


def check_memory(needed_bytes: float) -> None:
    """Refuse data that is larger than the free memory.

    Raises:
        InputError: fewer than `needed_bytes` are free.
    """
    free = psutil.virtual_memory().available
    if needed_bytes > free:
        raise InputError(
            f"the samples need {needed_bytes / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            "set data.train_rows, or data.image_size or data.cache for images"
        )
