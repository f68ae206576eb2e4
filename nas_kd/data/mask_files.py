"""Reads masks of pictures: their values become class numbers, and they are brought to the size of samples."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import BrokenSampleError, EncodedImage, open_picture, picture_warnings, unreadable
from nas_kd.data.in_order import in_order, usable_cores
from nas_kd.data.notes import LeftOut
from nas_kd.data.picture_steps import Size, size_text, upright_size
from nas_kd.errors import InputError, few
from nas_kd.tasks.masks import VOID

MASK_MODES = frozenset({"L", "P", "1"})
VALUES = 256


class MaskedPicture(NamedTuple):
    """A picture's file, and that of its mask.

    Attributes:
        picture: the one.
        mask: the other.
        name: of the mask, for counts of what is left out.
    """

    picture: EncodedImage
    mask: EncodedImage
    name: str


class MaskReader:
    """Reads the masks of all splits; `check` comes first, for the training split before the others.

    Attributes:
        left_out: pictures whose mask is broken, if the option is to skip these.
    """

    def __init__(self, size: Size, options: DataOptions, names: tuple[str, ...] | None) -> None:
        """Set size and classes.

        Args:
            size: height and width of samples, pixels.
            options: `resize`, `on_error` and `void_value`.
            names: of the classes, from value 0 on; None: the values of training masks are classes.
        """
        self.left_out = LeftOut()
        self._size, self._options, self._names = size, options, names
        self._void = options.void_value if options.void_value >= 0 else None
        self._values: tuple[int, ...] = tuple(range(len(names))) if names is not None else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return self._names or tuple(str(value) for value in self._values)

    def notes(self) -> list[str]:
        """What values stand for, where it is not plain."""
        gaps = self._values != tuple(range(len(self._values)))
        return [f"values of masks ({few(self.classes)}) are classes in this order"] if gaps else []

    def check(self, files: Iterable[MaskedPicture], split: str) -> list[int]:
        """Find the pictures whose masks can be used, by place; the first call decides which values are classes.

        Args:
            files: of a split.
            split: its name, for messages.

        Raises:
            InputError: a mask is broken and not to be skipped, or all are.
        """
        with picture_warnings(), ThreadPoolExecutor(usable_cores()) as pool:
            found = list(in_order(pool, _inspected, files))
        if not self._values:
            counted = Counter(value for seen in found for value in seen.values)
            self._values = tuple(sorted(value for value in counted if value != self._void))
        usable = list[int]()
        for place, seen in enumerate(found):
            fault = seen.fault or self._unknown(seen)
            if fault is None:
                usable.append(place)
                continue
            if self._options.on_error == "fail":
                raise InputError(f'{fault}; data.on_error = "skip" leaves such pictures out') from None
            self.left_out.add(fault.reason, seen.name)
        if not usable:
            raise InputError(f"none of the {len(found):,} masks of {split} can be used: {self.left_out.summary()}")
        if len(self._values) < 2:
            only = few([str(value) for value in self._values]) or "void"
            hint = "; is that one of two classes? data.void_value = -1 says that no value is void" if self._void else ""
            raise InputError(f"masks of {split} have one value only beside void ({only}): nothing to learn{hint}")
        return usable

    def _unknown(self, seen: "_Seen") -> BrokenSampleError | None:
        values = seen.values - {*self._values, self._void}
        if not values:
            return None
        there = f"classes are {few([f'{v}' for v in self._values])}" + (f", {self._void} is void" if self._void else "")
        return BrokenSampleError(seen.where, f"has pixels of value {min(values)}; {there}", "with unknown values")

    def read(self, masks: Iterable[EncodedImage], n: int) -> NDArray[np.uint8]:
        """Read masks that were checked: (N, H, W) class numbers, 255 for void; `n`: their number."""
        table = np.full(VALUES, VOID, dtype=np.uint8)
        for number, value in enumerate(self._values):
            table[value] = number
        height, width = self._size
        out = np.empty((n, height, width), dtype=np.uint8)
        with picture_warnings(), ThreadPoolExecutor(usable_cores()) as pool:
            for row, mask in enumerate(in_order(pool, _pixels, masks)):
                out[row] = self._sized(Image.fromarray(table[mask]))
        return out

    def _sized(self, mask: Image.Image) -> NDArray[np.uint8]:
        """Bring a mask to the size of samples as its picture is, by the nearest pixel; bars are void."""
        height, width = self._size
        if mask.size == (width, height):
            return np.asarray(mask)
        nearest = Image.Resampling.NEAREST
        ways: dict[str, Any] = {
            "crop": partial(ImageOps.fit, method=nearest),
            "letterbox": partial(ImageOps.pad, method=nearest, color=VOID),
            "stretch": partial(Image.Image.resize, resample=nearest),
        }
        return np.asarray(ways[self._options.resize](mask, (width, height)))


class _Seen(NamedTuple):
    """What is known of a mask: its values, or what is wrong with it."""

    where: str
    name: str
    values: frozenset[int] = frozenset()
    fault: BrokenSampleError | None = None


def _inspected(file: MaskedPicture) -> _Seen:
    where, name = file.mask.where, file.name
    try:
        mask = _pixels(file.mask)
        with open_picture(file.picture) as picture:
            size = upright_size(picture)
    except BrokenSampleError as error:
        return _Seen(where, name, fault=error)
    if mask.shape != size:
        text = f"is {size_text((mask.shape[0], mask.shape[1]))}, its picture {size_text(size)}"
        return _Seen(where, name, fault=BrokenSampleError(where, text, "mask of another size"))
    return _Seen(where, name, frozenset(np.unique(mask).tolist()))


def _pixels(encoded: EncodedImage) -> NDArray[np.uint8]:
    """The values (H, W) of a mask.

    Raises:
        BrokenSampleError: it cannot be read, or is a colour picture.
    """
    with open_picture(encoded) as image:
        if image.mode not in MASK_MODES:
            problem = f"is a colour picture ({image.mode}); want a grey or palette one whose values are classes"
            raise BrokenSampleError(encoded.where, problem, "colour picture as mask")
        try:
            return np.asarray(image).astype(np.uint8)
        except Exception as error:  # Pillow's readers raise many kinds of errors on broken files
            raise unreadable(encoded, error) from error
