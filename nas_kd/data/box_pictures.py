"""Pictures with boxes, as sources find them, become samples of one size with targets that follow the pixels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.box_rules import Box, BoxRules
from nas_kd.data.encoded_pictures import (
    BrokenSampleError,
    EncodedImage,
    FolderPictures,
    chosen_size,
    open_picture,
    picture_warnings,
)
from nas_kd.data.image_decoding import PictureReader
from nas_kd.data.picture_steps import Size, letterboxed, upright_size
from nas_kd.data.source import Arrays, RawData, is_flip_safe
from nas_kd.data.stacked_pictures import with_same_channels
from nas_kd.errors import InputError

N_EXAMPLES = 500  # training pictures whose headers decide the size of samples
BOX_OPTIONS = frozenset({"image_size", "on_error", "cache", "cache_gb"})  # that all sources of boxes read
ANOTHER_SIZE = "of another size than its boxes are for"


class BoxPicture(NamedTuple):
    """A picture file and its boxes.

    Attributes:
        file: the picture.
        name: for notes.
        boxes: as they were stored.
        shares: whether they are in shares of the picture's sides, rather than in pixels.
        size: height and width that the boxes are said to be for; None: nothing is said.
    """

    file: Path
    name: str
    boxes: Sequence[Box]
    shares: bool = False
    size: Size | None = None


@dataclass(frozen=True)
class FoundPictures:
    """What a source found.

    Attributes:
        name: of the data set.
        splits: pictures by split; "train" is there.
        classes: names in their order; those without a box are left out.
        rules: that boxes go through; they may have counted something already.
        notes: what was found, one sentence each.
    """

    name: str
    splits: Mapping[str, Sequence[BoxPicture]]
    classes: Sequence[str]
    rules: BoxRules
    notes: tuple[str, ...] = ()


def load_box_pictures(found: FoundPictures, options: DataOptions) -> RawData:
    """Decode pictures to one size, the whole of each with black bars where its shape differs, and move their boxes.

    Args:
        found: pictures and boxes.
        options: `image_size`, `on_error`, `train_rows`, `test_rows`, `cache`, `cache_gb`.

    Raises:
        InputError: a picture or a box is broken, or val or test have a class that train has not.
    """
    limits = {"train": options.train_rows, "test": options.test_rows}
    wanted = {split: listed[: limits.get(split)] for split, listed in found.splits.items()}
    pictures = {split: [_cleaned(picture, found.rules) for picture in listed] for split, listed in wanted.items()}
    classes = _learned_classes(found.classes, pictures, found.rules)
    train = pictures["train"]
    examples = _files(train[:: max(1, -(-len(train) // N_EXAMPLES))])
    size, why = chosen_size(options.image_size, examples.encoded())
    reader = PictureReader(size, why, options, resize="letterbox")
    read = {split: reader.read(_files(listed), split) for split, listed in pictures.items()}
    targets = {
        split: _targets([listed[row] for row in read[split].rows.tolist()], classes, size)
        for split, listed in pictures.items()
    }
    arrays, notes = with_same_channels(read)
    splits = {split: Arrays(both.x, targets[split]) for split, both in arrays.items()}
    return RawData(
        name=found.name,
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
        classes=tuple(classes),
        flip_safe=is_flip_safe(tuple(classes)),
        pictures=True,
        notes=(*reader.notes(), *notes, *found.notes, *found.rules.notes(), *_empty(targets)),
        skipped=reader.left_out.counts + found.rules.left_out.counts,
        picture_steps=reader.steps(splits),
    )


class _Sized(NamedTuple):
    """A picture with its boxes in pixels, and its height and width as it is shown."""

    picture: BoxPicture
    boxes: list[Box]
    size: Size


def _cleaned(picture: BoxPicture, rules: BoxRules) -> _Sized:
    size = _shown_size(picture.file)
    if size is None:  # it is refused or left out when it is decoded
        return _Sized(picture, [], (1, 1))
    if picture.size not in (None, size):
        stated, shown = (f"{width}x{height}" for height, width in (picture.size or size, size))
        message = f"{picture.name}: its boxes are for a picture of {stated}, it has {shown} (width x height)"
        rules.refuse_or_skip(message, ANOTHER_SIZE, picture.name)
        return _Sized(picture, [], size)
    height, width = size if picture.shares else (1, 1)
    boxes = [b._replace(x1=b.x1 * width, y1=b.y1 * height, x2=b.x2 * width, y2=b.y2 * height) for b in picture.boxes]
    return _Sized(picture, rules.cleaned(boxes, size, picture.name), size)


def _shown_size(file: Path) -> Size | None:
    try:
        with picture_warnings(), open_picture(EncodedImage(file, 0, str(file))) as image:
            return upright_size(image)
    except BrokenSampleError:
        return None


def _learned_classes(names: Sequence[str], pictures: Mapping[str, list[_Sized]], rules: BoxRules) -> tuple[str, ...]:
    """The classes with boxes in train; those of others are refused, or taken from the pictures and counted."""
    there = {split: Counter(box.label for one in listed for box in one.boxes) for split, listed in pictures.items()}
    if not there["train"]:
        raise InputError("no picture of train has a box that can be learned: " + ("; ".join(rules.notes()) or "none"))
    for split, listed in pictures.items():
        for one in listed:
            strange = [box for box in one.boxes if box.label not in there["train"]]
            for box in strange:
                message = f"{split} has boxes of class {box.label!r}, train has none"
                rules.refuse_or_skip(message, "of a class that train has not", one.picture.name)
                one.boxes.remove(box)
    return tuple(name for name in names if name in there["train"])


def _targets(pictures: Sequence[_Sized], classes: Sequence[str], size: Size) -> NDArray[np.float32]:
    """(N, M, 5) class, x1, y1, x2, y2 in pixels of the samples; rows of class -1 are no boxes."""
    number = {name: place for place, name in enumerate(classes)}
    y = np.full((len(pictures), max((len(p.boxes) for p in pictures), default=0) or 1, 5), -1, dtype=np.float32)
    for rows, one in zip(y, pictures, strict=True):
        scale, start = letterboxed(one.size, size)
        for row, box in zip(rows, one.boxes, strict=False):
            corners = np.array(box[1:5]).reshape(2, 2) * scale + start
            row[:] = [number[box.label], *corners.ravel()]
    return y


def _files(pictures: Sequence[_Sized]) -> FolderPictures:
    """The picture files, whose boxes are read apart from them."""
    names = {one.picture.file: one.picture.name for one in pictures}
    return FolderPictures([(0, one.picture.file) for one in pictures], lambda _, file: names[file])


def _empty(targets: Mapping[str, NDArray[np.float32]]) -> list[str]:
    without = sum(int((y[:, :, 0] < 0).all(axis=1).sum()) for y in targets.values())
    return [f"{without:,} pictures have no box: there is nothing to find in them"] if without else []
