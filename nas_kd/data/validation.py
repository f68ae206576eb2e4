"""Validates samples that a source returned: they become uint8 or float32 arrays."""

from collections.abc import Mapping

import numpy as np

from nas_kd.data.mapped_array import MappedArray, Stored, StoredArray
from nas_kd.errors import InputError


def validated_samples(x: Stored, split: str) -> Stored:
    """Validate samples and convert all types but uint8 to float32.

    Args:
        x: (N, ...) real numbers.
        split: its name, for messages.

    Raises:
        InputError: there are no samples, or they are not numbers, or NaN or infinite.
    """
    if x.dtype == object:
        raise InputError(f"x of {split} is an array of objects; samples need equal shapes and one number type")
    if x.dtype.kind not in "uifb":
        raise InputError(f"x of {split} has type {x.dtype}; want numbers (uint8, or floats)")
    if len(x) == 0 and split != "train":
        raise InputError(f"x of {split} has no samples; leave {split} out, and it is carved from train")
    if x.ndim < 2 or x.size == 0:
        raise InputError(f"x of {split} has shape {x.shape}; want (N, ...) with at least one number a sample")
    if isinstance(x, MappedArray) or x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):  # what overflows float32 is reported below
        values = x.astype(np.float32, copy=False)
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        n_bad, first = int((~finite).sum()), int(finite.argmin())
        raise InputError(f"x of {split} has NaN or infinite values in {n_bad:,} samples, first in sample {first}")
    return values


def check_same_layout(xs: Mapping[str, StoredArray]) -> None:
    """Check that every split has samples of the training split's shape and type.

    Raises:
        InputError: a split differs.
    """
    train = xs["train"]
    for split, x in xs.items():
        if x.shape[1:] != train.shape[1:]:
            raise InputError(f"samples of {split} have shape {x.shape[1:]}, those of train {train.shape[1:]}")
        if x.dtype != train.dtype:
            raise InputError(f"x of {split} is {x.dtype}, x of train {train.dtype}; store both in the same units")
