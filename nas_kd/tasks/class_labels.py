"""Validates labels that a source returned: names, class numbers, one-hot rows or -1 and 1 become numbers 0..n-1."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas_kd.errors import InputError, few, printable

Numbers = dict[str, NDArray[np.int64]]


class Labels(NamedTuple):
    """Labels of all splits.

    Attributes:
        numbers: (N,) class numbers by split.
        classes: class names in their order.
        encoding: how labels became class numbers, where it needs to be said.
    """

    numbers: Numbers
    classes: tuple[str, ...]
    encoding: str | None = None


def validated_labels(ys: dict[str, NDArray[Any]], names: tuple[str, ...] | None) -> Labels:
    """Validate labels and convert them to class numbers.

    Args:
        ys: labels by split: (N,) or (N, 1) numbers or names, or one-hot rows (N, C), the same kind throughout.
        names: class names, if the source knows them.

    Raises:
        InputError: labels are not classes, out of range or absent from train, or there are fewer than two classes.
    """
    if names is not None and len(set(names)) < len(names):
        raise InputError(f"class names occur twice: {few(names)}")
    one_hot = {split: y.shape[1] for split, y in ys.items() if _is_one_hot(y)}
    flat = {split: y.argmax(axis=1) if split in one_hot else _flat(y, split) for split, y in ys.items()}
    if one_hot:
        _check_one_hot(one_hot, flat)
    as_text = {split: y.dtype.kind in "US" for split, y in flat.items()}
    if len(set(as_text.values())) > 1:
        text = ", ".join(split for split, is_text in as_text.items() if is_text)
        raise InputError(f"labels of {text} are names, others are numbers; use one of the two throughout")
    found = _from_text(flat, names) if as_text["train"] else _from_numbers(flat, names)
    if len(np.unique(found.numbers["train"])) < 2:
        only = printable(found.classes[found.numbers["train"][0]])
        raise InputError(f"train has one class only ({only!r}); want two or more")
    return found._replace(encoding="one-hot rows were read as their class numbers") if one_hot else found


def check_class_sizes(y: NDArray[np.int64], classes: tuple[str, ...], carved: tuple[str, ...]) -> None:
    """Check that each class has a sample for train and for every split carved from it, and at least two.

    Args:
        y: (N,) class numbers of the training split.
        classes: class names.
        carved: names of the splits to carve.

    Raises:
        InputError: a class has fewer samples.
    """
    counts = np.bincount(y, minlength=len(classes))
    least = max(2, 1 + len(carved))
    small = int(counts.argmin())
    if counts[small] < least:
        purpose = f"train and the {' and '.join(carved)} split carved from it" if carved else "train"
        have = f"{counts[small]} sample" + ("" if counts[small] == 1 else "s")
        raise InputError(
            f"class {classes[small]!r} has {have} in train, {purpose} need {least}: add samples, drop the class, "
            "or raise data.train_rows if it is set"
        )


def _is_one_hot(y: NDArray[Any]) -> bool:
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "uifb":
        return False
    return bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())


def _check_one_hot(widths: dict[str, int], flat: dict[str, NDArray[Any]]) -> None:
    if len(widths) < len(flat) or len(set(widths.values())) > 1:
        given = ", ".join(f"{split}: {widths[split]}" for split in widths)
        raise InputError(f"labels are one-hot in part or differ in width (columns of {given}); use one form throughout")
    absent = sorted(set(range(widths["train"])) - set(flat["train"].tolist()))
    if absent:
        raise InputError(
            f"one-hot labels have {widths['train']} columns, but class {absent[0]} does not occur in train; drop the "
            "column, or give class numbers"
        )


def _flat(y: NDArray[Any], split: str) -> NDArray[Any]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise InputError(
            f"y of {split} has shape {y.shape}; want (N,) or (N, 1) class numbers or names, or one-hot rows with one 1 "
            "each (several classes a sample are not supported; of probabilities give the argmax)"
        )
    if y.dtype == object and all(isinstance(label, str) for label in y):  # as pandas keeps names
        return y.astype(np.str_)
    if y.dtype.kind not in "USuifb":
        raise InputError(f"y of {split} has type {y.dtype}; want class numbers or names")
    return y


def _from_text(ys: dict[str, NDArray[Any]], names: tuple[str, ...] | None) -> Labels:
    text = {split: _decoded(y, split) if y.dtype.kind == "S" else y for split, y in ys.items()}
    classes = names if names is not None else tuple(np.unique(text["train"]).tolist())
    number = {name: i for i, name in enumerate(classes)}
    for split, y in text.items():
        foreign = sorted(set(np.unique(y).tolist()) - set(number))
        if foreign:
            known = "the classes given" if names is not None else "train"
            raise InputError(f"label {printable(foreign[0])!r} of {split} does not occur in {known} ({few(classes)})")
    numbers = {split: np.array([number[name] for name in y.tolist()], dtype=np.int64) for split, y in text.items()}
    return Labels(numbers, classes)


def _decoded(y: NDArray[Any], split: str) -> NDArray[Any]:
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"labels of {split} are bytes that are not UTF-8; give them as text or numbers") from error


def _from_numbers(ys: dict[str, NDArray[Any]], names: tuple[str, ...] | None) -> Labels:
    numbers = {split: _integers(y, split) for split, y in ys.items()}
    if np.array_equal(np.unique(numbers["train"]), [-1, 1]) and all(
        np.isin(y, [-1, 1]).all() for y in numbers.values()
    ):
        signs = {split: (y > 0).astype(np.int64) for split, y in numbers.items()}
        encoding = "labels -1 and 1 were read as two classes, in this order"
        return Labels(signs, _two(names), encoding)
    n_classes = int(numbers["train"].max()) + 1 if names is None else len(names)
    for split, y in numbers.items():
        bad = (y < 0) | (y >= n_classes)
        if bad.any():
            raise InputError(_out_of_range(y, bad, split, n_classes, from_train=names is None))
    present = np.unique(numbers["train"])
    if names is None and len(present) < n_classes:
        absent = next(number for number, found in enumerate([*present.tolist(), -1]) if number != found)
        raise InputError(
            f"labels of train go up to {n_classes - 1} but {absent} does not occur; number the classes 0..n-1, "
            "or give them as names"
        )
    return Labels(numbers, names if names is not None else tuple(str(number) for number in range(n_classes)))


def _two(names: tuple[str, ...] | None) -> tuple[str, ...]:
    if names is None:
        return ("-1", "1")
    if len(names) != 2:
        raise InputError(f"labels are -1 and 1, which are two classes, but there are {len(names)} names: {few(names)}")
    return names


def _out_of_range(y: NDArray[np.int64], bad: NDArray[np.bool_], split: str, n_classes: int, *, from_train: bool) -> str:
    row = int(bad.argmax())
    allowed = f"0..{n_classes - 1}" + (", as in train" if from_train else "")
    text = f"label {y[row]} of {split} (sample {row}) is out of range: classes are {allowed}"
    if y[row] != -1:
        return text
    if (y == -1).all():
        return f"{text}; all labels of {split} are -1, which often means that there are none: leave {split} out"
    return f"{text}; -1 often marks a missing label: leave out the {int((y == -1).sum()):,} samples that have it"


def _integers(y: NDArray[Any], split: str) -> NDArray[np.int64]:
    if y.dtype.kind == "f":
        y = y.astype(np.float64)
        bad = ~np.isfinite(y) | (y != np.rint(y))
        if bad.any():
            row = int(bad.argmax())
            raise InputError(f"label {y[row]} of {split} (sample {row}) is not a class number")
        y = np.clip(y, -(2.0**53), 2.0**53)
    return y.clip(max=2**62).astype(np.int64) if y.dtype == np.uint64 else y.astype(np.int64)
