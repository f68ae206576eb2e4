"""Validates what a source returned: samples become uint8 or float32 arrays, labels become class numbers 0..n-1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.errors import InputError


def validated_samples(x: NDArray[Any], split: str) -> NDArray[Any]:
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
    if x.ndim < 2 or x.size == 0:
        raise InputError(f"x of {split} has shape {x.shape}; want (N, ...) with at least one number a sample")
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):  # what overflows float32 is reported below
        values = x.astype(np.float32, copy=False)
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        n_bad, first = int((~finite).sum()), int(finite.argmin())
        raise InputError(f"x of {split} has NaN or infinite values in {n_bad:,} samples, first in sample {first}")
    return values


def check_same_layout(xs: dict[str, NDArray[Any]]) -> None:
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


def validated_labels(
    ys: dict[str, NDArray[Any]], names: tuple[str, ...] | None
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Validate labels and convert them to class numbers.

    Args:
        ys: (N,) labels by split, numbers or names throughout.
        names: class names, if the source knows them.

    Returns:
        Class numbers (N,) by split, and the class names.

    Raises:
        InputError: labels are not classes, out of range or absent from train, or there are fewer than two classes.
    """
    if names is not None and len(set(names)) < len(names):
        raise InputError(f"class names occur twice: {', '.join(names)}")
    flat = {split: _flat(y, split) for split, y in ys.items()}
    as_text = {split: y.dtype.kind in "US" for split, y in flat.items()}
    if len(set(as_text.values())) > 1:
        text = ", ".join(split for split, is_text in as_text.items() if is_text)
        raise InputError(f"labels of {text} are names, others are numbers; use one of the two throughout")
    if as_text["train"]:
        numbers, classes = _from_text(flat, names)
    else:
        numbers, classes = _from_numbers(flat, names)
    if len(np.unique(numbers["train"])) < 2:
        raise InputError(f"train has one class only ({classes[numbers['train'][0]]!r}); want two or more")
    return numbers, classes


def _flat(y: NDArray[Any], split: str) -> NDArray[Any]:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise InputError(f"y of {split} has shape {y.shape}; want (N,) class numbers (of one-hot rows, the argmax)")
    if y.dtype.kind not in "USuifb":
        raise InputError(f"y of {split} has type {y.dtype}; want class numbers or names")
    return y


def _from_text(
    ys: dict[str, NDArray[Any]], names: tuple[str, ...] | None
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    text = {split: np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y for split, y in ys.items()}
    classes = names if names is not None else tuple(np.unique(text["train"]).tolist())
    number = {name: i for i, name in enumerate(classes)}
    for split, y in text.items():
        foreign = sorted(set(np.unique(y).tolist()) - set(number))
        if foreign:
            known = "the classes given" if names is not None else "train"
            raise InputError(f"label {foreign[0]!r} of {split} does not occur in {known} ({_short(classes)})")
    numbers = {split: np.array([number[name] for name in y.tolist()], dtype=np.int64) for split, y in text.items()}
    return numbers, classes


def _from_numbers(
    ys: dict[str, NDArray[Any]], names: tuple[str, ...] | None
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    numbers = {split: _integers(y, split) for split, y in ys.items()}
    n_classes = int(numbers["train"].max()) + 1 if names is None else len(names)
    for split, y in numbers.items():
        bad = (y < 0) | (y >= n_classes)
        if bad.any():
            row = int(bad.argmax())
            allowed = f"0..{n_classes - 1}" + (", as in train" if names is None else "")
            raise InputError(f"label {y[row]} of {split} (sample {row}) is out of range: classes are {allowed}")
    present = np.unique(numbers["train"])
    if names is None and len(present) < n_classes:
        absent = next(number for number, found in enumerate([*present.tolist(), -1]) if number != found)
        raise InputError(
            f"labels of train go up to {n_classes - 1} but {absent} does not occur; number the classes 0..n-1, "
            "or give them as names"
        )
    return numbers, names if names is not None else tuple(str(number) for number in range(n_classes))


def _integers(y: NDArray[Any], split: str) -> NDArray[np.int64]:
    if y.dtype.kind == "f":
        y = y.astype(np.float64)
        bad = ~np.isfinite(y) | (y != np.rint(y))
        if bad.any():
            row = int(bad.argmax())
            raise InputError(f"label {y[row]} of {split} (sample {row}) is not a class number")
        y = np.clip(y, -1, 2.0**53)
    return y.clip(max=2**62).astype(np.int64) if y.dtype == np.uint64 else y.astype(np.int64)


def _short(names: tuple[str, ...], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
