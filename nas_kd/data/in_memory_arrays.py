"""Samples and labels of one split, from what a Python program holds: a pair of arrays, or a map-style data set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.data.layout import MAX_CHANNELS, as_numpy
from nas_kd.data.source import Arrays
from nas_kd.errors import InputError

READ_TWICE = 4  # items of a Dataset that are read again, to find out whether it draws random numbers


def split_arrays(given: Any, split: str) -> Arrays:
    """Make arrays of one split.

    Args:
        given: `(x, y)` of arrays or tensors, x (N, ...) with images as (N, C, H, W), y (N,) class numbers or names; or
            a map-style `torch.utils.data.Dataset` with items (x, y), which is read once. PIL images are welcome.
        split: "train", "val" or "test", for messages.

    Raises:
        InputError: it is anything else, or the items do not fit together.
    """
    if isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(part, "shape") for part in given):
        x, y = as_numpy(given[0]), _labels(given[1])
    elif hasattr(given, "__getitem__") and not (
        isinstance(given, tuple | list | dict | str) or hasattr(given, "shape")
    ):
        x, y = _read(given, split)
    else:
        hint = "; give its .dataset" if hasattr(given, "dataset") else ""
        raise InputError(
            f"data: {split} must be a pair (x, y) of arrays or tensors, or a torch Dataset of (x, y), "
            f"got {type(given).__name__}{hint}"
        )
    _require_channels_first(x, split)
    return Arrays(x, y)


def unlabelled_array(given: Any) -> NDArray[Any]:
    """Make an array of samples without labels.

    Args:
        given: an array or tensor (U, ...), images as (U, C, H, W); or a map-style `torch.utils.data.Dataset` of
            samples, which is read once. The labels of a Dataset of pairs (x, y) are not read.

    Raises:
        InputError: it is anything else.
    """
    if hasattr(given, "shape"):
        x = as_numpy(given)
    elif isinstance(given, tuple | list | dict | str) or not hasattr(given, "__getitem__"):
        pair = "; unlabelled samples are x alone, not (x, y)" if isinstance(given, tuple) and len(given) == 2 else ""
        raise InputError(
            "unlabelled must be an array or tensor of samples, or a torch Dataset of them, "
            f"got {type(given).__name__}{pair}"
        )
    else:
        try:
            len(given)
        except (TypeError, NotImplementedError) as error:
            raise InputError(
                "unlabelled is a Dataset without a length; give one with __len__, or an array of its samples"
            ) from error
        x, _ = _read(_AsPairs(given), "unlabelled")
    _require_channels_first(x, "unlabelled")
    return x


class _AsPairs:
    """Items of a Dataset of samples, or of pairs whose labels do not matter, as pairs."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        item = self._dataset[index]
        return (item[0] if isinstance(item, tuple | list) and item else item), 0


def _read(dataset: Any, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if not hasattr(dataset, "__len__"):
        raise InputError(f"data: {split} is a Dataset without a length; give one with __len__, or arrays")
    items = [_item(dataset[i], f"{split}[{i}]") for i in range(len(dataset))]
    if not items:
        raise InputError(f"data: {split} is empty")
    xs = [x for x, _ in items]
    if other := next((x.shape for x in xs if x.shape != xs[0].shape), None):
        raise InputError(f"data: the samples of {split} differ in shape: {xs[0].shape} and {other}; resize them first")
    for i, x in enumerate(xs[:READ_TWICE]):
        if x.tobytes() != _item(dataset[i], f"{split}[{i}]")[0].tobytes():
            raise InputError(
                f"data: {split}[{i}] is another sample each time it is read; give the Dataset without its random "
                "transforms: nas-kd augments samples itself, see data.augment"
            )
    return np.stack(xs), _labels([y for _, y in items])


def _item(item: Any, where: str) -> tuple[NDArray[Any], Any]:
    """A sample as an array, and its label."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InputError(f"data: {where} must be a pair (x, y), got {type(item).__name__}")
    x, y = item
    array = as_numpy(x)
    if hasattr(x, "getbands"):  # a PIL image: (H, W) or (H, W, C)
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    label = as_numpy(y)
    return array, label.item() if label.size == 1 else label


def _labels(labels: Any) -> NDArray[Any]:
    """Labels as an array; names that pandas keeps as objects become text."""
    array = as_numpy(labels)
    if array.dtype == object and all(isinstance(label, str) for label in array.ravel()):
        return array.astype(np.str_)
    return array


def _require_channels_first(x: NDArray[Any], split: str) -> None:
    first, middle, last = x.shape[1:] if x.ndim == 4 else (1, 1, 1)
    if first == middle > MAX_CHANNELS >= last:
        raise InputError(
            f"data: samples of {split} have shape {(first, middle, last)}, which looks like (H, W, C); give (C, H, W), "
            "such as x.transpose(0, 3, 1, 2)"
        )
