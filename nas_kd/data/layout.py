"""The order of the axes of stored samples: which arrays are pictures, and where their channels are."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, bfloat16

from nas_kd.data.mapped_array import MappedArray, StoredArray
from nas_kd.data.source import error_summary
from nas_kd.errors import InputError

Layout = Literal["auto", "chw", "hwc", "hw", "ct", "tc"]
PictureOrder = Literal["chw", "hwc", "hw"]
MAX_CHANNELS = 4  # an axis no longer than this may be the colour channels
RANKS = {"chw": 4, "hwc": 4, "hw": 3, "ct": 3, "tc": 3}  # of arrays, the axis of samples included
_MEANINGS = {
    "chw": "(C, H, W), channels first",
    "hwc": "(H, W, C), channels last",
    "hw": "(H, W), grey pictures",
}


def axis_order(shape: tuple[int, ...], layout: Layout, where: str) -> PictureOrder | None:
    """Find the order of the axes of pictures.

    Args:
        shape: of the array, N included.
        layout: the user's option; "auto" guesses from the shape where channels are.
        where: the array, for messages.

    Returns:
        The order, or None for samples that are not pictures: arrays of any rank but 3 and 4.

    Raises:
        InputError: the layout does not fit the array, or it is "auto" and the shape leaves a choice.
    """
    match layout:
        case "auto":
            return _order_by_shape(shape, where)
        case "ct" | "tc":
            raise InputError(
                f'data.layout = "{layout}" is for series, which come later; "hw" reads samples (a, b) as grey pictures'
            )
        case _:
            if len(shape) != RANKS[layout]:
                axes = ", ".join(("N", *layout.upper()))
                raise InputError(
                    f'{where}: data.layout = "{layout}" is for arrays of {RANKS[layout]} axes, ({axes}), '
                    f"got shape {shape}; set another or leave it out"
                )
            return layout


def _order_by_shape(shape: tuple[int, ...], where: str) -> PictureOrder | None:
    if len(shape) == RANKS["hw"]:
        if shape[1] == shape[2]:  # a series has hardly ever as many channels as steps
            return "hw"
        raise InputError(
            f"{where}: samples of shape {shape[1:]} may be grey pictures or series; set data.layout = "
            '"hw" for pictures (or store them as (N, 1, H, W)), "ct" or "tc" for series of channels and time, which '
            "come later"
        )
    return _guessed_order(shape, where) if len(shape) == RANKS["chw"] else None


def _guessed_order(shape: tuple[int, ...], where: str) -> PictureOrder:
    first, middle, last = shape[1:]
    votes = set[PictureOrder]()
    if (first == middle) != (middle == last):  # images are mostly square ...
        votes.add("chw" if middle == last else "hwc")
    if (first <= MAX_CHANNELS) != (last <= MAX_CHANNELS):  # ... and have few channels
        votes.add("chw" if first <= MAX_CHANNELS else "hwc")
    if len(votes) != 1:
        raise InputError(
            f"{where}: cannot tell channels from pixels in samples of shape {(first, middle, last)}; "
            'set data.layout = "chw" or "hwc"'
        )
    return votes.pop()


def order_of_view(shape: tuple[int, ...], layout: Layout, where: str) -> PictureOrder | None:
    """Find the order of the teacher's view, to which the option applies where it fits its rank.

    Raises:
        InputError: the shape leaves a choice.
    """
    fits = layout == "auto" or len(shape) == RANKS[layout]
    return axis_order(shape, layout if fits else "auto", where)


def to_chw(x: NDArray[Any], order: PictureOrder | None) -> NDArray[Any]:
    """Bring pictures of this order to (N, C, H, W); other arrays, and those of another rank, stay as they are."""
    if order is None or x.ndim != RANKS[order]:
        return x
    if order == "hw":
        return x[:, None]
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if order == "hwc" else x


def layout_sentence(layout: str | None) -> str | None:
    """Say in one line how axes were read; None: there is nothing to say."""
    return f"samples were read as {_MEANINGS.get(layout, layout)}" if layout else None


def as_stored(values: Any) -> StoredArray:
    """Convert samples to a NumPy array of one axis or more; those that are mapped from a file stay there.

    Raises:
        InputError: rows of a list differ in length.
    """
    return values if isinstance(values, MappedArray) else np.atleast_1d(as_numpy(values))


def as_numpy(values: Any) -> NDArray[Any]:
    """Convert an array, a tensor or nested lists to a NumPy array.

    Raises:
        InputError: rows of a list differ in length.
    """
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        return np.asarray(tensor.float() if tensor.dtype == bfloat16 else tensor)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"want arrays whose samples have equal shapes ({error_summary(error)})") from error
