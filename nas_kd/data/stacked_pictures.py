"""Pictures of all splits as arrays with as many channels: grey ones become RGB if any picture has colour."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas_kd.data.encoded_pictures import Label
from nas_kd.data.mapped_array import MappedArray, StoredArray
from nas_kd.data.picture_steps import Pixels
from nas_kd.data.source import Arrays


class ReadPictures(NamedTuple):
    """Pictures of one split, all of one size, and their labels.

    Attributes:
        x: (N, C, H, W) uint8; C is 1 if all are grey, else 3.
        labels: as many.
        n_grey: how many of the pictures are grey.
        rows: (N,) which of the split's picture files they are: all but broken ones.
    """

    x: StoredArray
    labels: list[Label]
    n_grey: int
    rows: NDArray[np.int64]


def with_same_channels(splits: dict[str, ReadPictures]) -> tuple[dict[str, Arrays], list[str]]:
    """Show the pictures of all splits with as many channels; grey ones become RGB if any picture has colour.

    Args:
        splits: pictures of one size and labels by split.

    Returns:
        Arrays by split, with `x` (N, C, H, W) uint8, and notes for the user.
    """
    total = sum(len(split.labels) for split in splits.values())
    grey = sum(split.n_grey for split in splits.values())
    notes = [f"{grey:,} grey images of {total:,} were converted to RGB"] if 0 < grey < total else []
    channels = max(split.x.shape[1] for split in splits.values())
    return {s: Arrays(_with_channels(x, channels), np.asarray(y)) for s, (x, y, *_) in splits.items()}, notes


def _with_channels(x: StoredArray, channels: int) -> StoredArray:
    if isinstance(x, MappedArray):
        return x.with_channels(channels)
    return x if x.shape[1] == channels else np.repeat(x, channels, axis=1)


def stack_pictures(images: list[Pixels], channels: int) -> NDArray[np.uint8]:
    """Stack pictures of one size; grey ones are repeated to all channels: (N, channels, H, W)."""
    out = np.empty((len(images), channels, *images[0].shape[:2]), dtype=np.uint8)
    for target, image in zip(out, images, strict=True):
        target[...] = image.transpose(2, 0, 1) if image.ndim == 3 else image  # (H, W) broadcasts over the channels
    return out
