"""Checks samples and labels that a user passes, and converts them into what networks and losses take."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_kd.errors import InputError

SHOWN_KEYS = 4  # of a dict, in messages


def length_of(data: Any, name: str) -> int:
    """Count the samples or batches of a user's data.

    Raises:
        InputError: it has no length, or is empty.
    """
    try:
        length = len(data)
    except (TypeError, NotImplementedError) as error:
        kind = type(data).__name__
        raise InputError(f"{name}: {kind} has no length: define __len__ in it, or in its dataset") from error
    if length == 0:
        raise InputError(f"{name} is empty")
    return length


def as_pair(value: Any, where: str) -> tuple[Any, Any]:
    """Take a pair (x, y) apart.

    Args:
        value: what a data set or a loader yielded.
        where: for messages, e.g. "a batch of train" or "train[0]".

    Raises:
        InputError: it is anything but a tuple or list of two.
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        return value[0], value[1]
    raise InputError(f"{where} is {_described(value)}; want a pair (x, y)")


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = ", ".join(repr(key) for key in list(value)[:SHOWN_KEYS])
        return f"a {type(value).__name__} with keys {keys}{', ...' if len(value) > SHOWN_KEYS else ''}"
    if isinstance(value, Tensor | np.ndarray):
        return f"a single array of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def as_network_input(x: Any, where: str) -> Tensor:
    """Convert samples (B, ...) of any number type: token ids to int64, everything else to float32.

    Whole numbers wider than uint8 are token ids.

    Args:
        x: a tensor on any device, or a NumPy array.
        where: for messages.

    Raises:
        InputError: it is no array of real numbers, or has NaN or infinite values.
    """
    values = as_tensor(x, where)
    if not values.is_floating_point() and values.dtype not in {torch.uint8, torch.bool}:
        return values.long()
    values = values.float()
    if not torch.isfinite(values).all():
        raise InputError(f"x of {where} has NaN or infinite values")
    return values


def as_tensor(value: Any, where: str) -> Tensor:
    """Bring an array to the CPU as a tensor without a gradient.

    Args:
        value: a tensor on any device, or a NumPy array.
        where: for messages.

    Raises:
        InputError: it is something else, or an array of anything but real numbers.
    """
    if isinstance(value, Tensor):
        if value.is_complex():
            raise InputError(f"x of {where} has type {value.dtype}; want real numbers")
        return value.detach().cpu()
    if not isinstance(value, np.ndarray):
        raise InputError(f"x of {where} is of type {type(value).__name__}; want a tensor or a NumPy array")
    if value.dtype.kind not in "uifb":
        raise InputError(f"x of {where} has type {value.dtype}; want real numbers")
    native = value.astype(value.dtype.newbyteorder("="), copy=not (value.flags.writeable and value.flags.c_contiguous))
    if native.dtype.kind == "u" and native.dtype.itemsize > 1:  # torch knows few operations on these
        native = native.astype(np.int64)
    return torch.from_numpy(native)


def as_labels(
    y: Any, n_samples: int, n_classes: int | None, where: str, indices: Sequence[int] | None = None
) -> Tensor:
    """Convert labels to class numbers (N,) int64.

    Args:
        y: a tensor, a NumPy array or a list of whole numbers, (N,) or (N, 1).
        n_samples: N.
        n_classes: labels must be below it; None: they are not compared with anything.
        where: for messages.
        indices: numbers of the samples, for messages; None: 0..N-1.

    Raises:
        InputError: they have another shape, are no whole numbers, or out of range.
    """
    values = y.detach().cpu() if isinstance(y, Tensor) else torch.from_numpy(_numbers(y, where))
    if values.dim() == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if tuple(values.shape) != (n_samples,):
        raise InputError(f"y of {where} has shape {tuple(values.shape)}; want ({n_samples},) class numbers")
    numbers = values.long()
    if values.is_complex() or (values.is_floating_point() and not torch.equal(numbers.to(values.dtype), values)):
        raise InputError(f"y of {where} has values that are no whole numbers; want class numbers")
    wrong = (numbers < 0) | (numbers >= (torch.iinfo(torch.int64).max if n_classes is None else n_classes))
    if wrong.any():
        at = int(wrong.int().argmax())
        allowed = "not negative" if n_classes is None else f"0..{n_classes - 1}, one per logit"
        number = at if indices is None else indices[at]
        raise InputError(
            f"label {int(numbers[at])} of {where} (sample {number}) is out of range: classes are {allowed}"
        )
    return numbers


def _numbers(y: Any, where: str) -> Any:
    array = np.asarray(y)
    if array.dtype.kind not in "uifb":
        raise InputError(f"y of {where} has type {array.dtype}; want class numbers")
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of samples (B, ...): (C,) of images (B, C, H, W), else (1,); no deviation is 0."""
    values = x.double().transpose(0, 1).flatten(1) if x.dim() == 4 else x.double().reshape(1, -1)
    std = values.std(dim=1, correction=0)
    return values.mean(dim=1).float(), torch.where(std > 0, std, 1.0).float()
