"""The teacher's own view of the samples, for cross-modal distillation: validated and paired with the student's."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.data.dataset import Dataset
from nas_kd.data.layout import as_numpy
from nas_kd.data.source import RawData, TeacherView
from nas_kd.data.split_names import SPLITS
from nas_kd.data.validation import check_same_layout, validated_samples
from nas_kd.errors import InputError
from nas_kd.serialization import fingerprint


def paired_samples(raw: RawData, limits: Mapping[str, int | None]) -> dict[str, NDArray[Any]]:
    """Pair each of the student's samples with the teacher's.

    Args:
        raw: what the source loaded.
        limits: number of samples to take from the start of each split; None or missing: all.

    Returns:
        The teacher's samples (N, ...) by split, in the student's order; empty if the data has no view for the teacher.

    Raises:
        InputError: a split has no view, samples and rows do not match, or the samples are invalid.
    """
    view = raw.teacher_view
    if view is None:
        return {}
    labels = {name: np.atleast_1d(as_numpy(split[1])) for name in SPLITS if (split := getattr(raw, name)) is not None}
    _check_splits(view, labels.keys())
    xs = {name: _in_rows(view, name, len(y))[: limits.get(name)] for name, y in labels.items()}
    try:
        xs = {name: validated_samples(x, name) for name, x in xs.items()}
        check_same_layout(xs)
    except InputError as error:
        raise InputError(f"the teacher's view: {error}") from error
    return xs


def _check_splits(view: TeacherView, given: Collection[str]) -> None:
    for kind, found in (("x_teacher", view.x), ("pairs", view.pairs)):
        foreign = sorted(set(found) - set(given))
        if foreign:
            raise InputError(f"{kind}_{foreign[0]} has no x_{foreign[0]} that it could be paired with")
    missing = [name for name in SPLITS if name in given and name not in view.x]
    if missing:
        has = sorted({f"x_teacher_{name}" for name in view.x} | {f"pairs_{name}" for name in view.pairs})
        raise InputError(
            f"there is no x_teacher_{missing[0]}: with {' and '.join(has) or 'a view for the teacher'}, "
            f"the teacher needs its view of {' and '.join(missing)} too"
        )


def _in_rows(view: TeacherView, split: str, n_samples: int) -> NDArray[Any]:
    """Samples of `x_teacher` in the order of the student's."""
    x = np.atleast_1d(as_numpy(view.x[split]))
    if split in view.pairs:
        return x[_checked_pairs(as_numpy(view.pairs[split]), split, n_samples, len(x))]
    if len(x) != n_samples:
        raise InputError(
            f"x_teacher_{split} has {len(x):,} samples for the {n_samples:,} of x_{split}; "
            f"give as many, or pairs_{split}, the row of x_teacher_{split} for each sample"
        )
    return x


def _checked_pairs(rows: NDArray[Any], split: str, n_samples: int, n_rows: int) -> NDArray[np.int64]:
    name = f"pairs_{split}"
    if rows.dtype.kind not in "ui":
        raise InputError(f"{name} has type {rows.dtype}; want whole numbers, rows of x_teacher_{split}")
    if rows.shape != (n_samples,):
        raise InputError(f"{name} has shape {rows.shape}; want ({n_samples},), one row for each sample of x_{split}")
    bad = (rows < 0) | (rows >= n_rows)
    if bad.any():
        at = int(bad.argmax())
        raise InputError(f"{name}[{at}] is {rows[at]}; x_teacher_{split} has {n_rows:,} rows, the first is 0")
    return rows.astype(np.int64)


def with_teacher_view(dataset: Dataset, view: Dataset) -> Dataset:
    """Attach the teacher's view to a data set, with a key that covers both views."""
    note = (
        f"teacher's view: the teacher sees samples of shape {view.input_shape} ({_kind(view)}), "
        f"the student its own of shape {dataset.input_shape} ({_kind(dataset)})"
    )
    key = fingerprint([dataset.key, view.key])
    about = replace(dataset.about, sentences=(*dataset.notes, note))
    return replace(dataset, key=key, about=about, teacher_view=view)


def _kind(dataset: Dataset) -> str:
    return str(dataset.train.x.dtype).removeprefix("torch.")
