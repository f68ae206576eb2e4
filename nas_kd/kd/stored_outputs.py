"""A teacher that exists only as its outputs on samples: read from a file, checked, and turned into logits.

Outputs belong to a sample, not to an augmented view of it: a student learns the same output for every view, as stored
predictions are usually distilled (Hinton et al. 2015, arXiv:1503.02531, section 3). Of the k largest values the others
are filled in: of probabilities, the remaining probability is shared evenly by the other classes; of logits, the other
classes together are as likely as the least likely one that was kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_kd.config.options import TeacherOptions
from nas_kd.data.array_files import read_arrays
from nas_kd.data.dataset import Dataset
from nas_kd.data.split_names import SPLITS
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError, few, printable
from nas_kd.serialization import fingerprint, sha256

OPTION = "teacher.outputs"
PARTS = (*SPLITS, "unlabelled")
WHOLE, TOP_VALUES, TOP_INDICES = ("logits", "probabilities", "outputs"), "values", "indices"
SUM_TOLERANCE = 1e-2  # of probabilities that were stored with few digits
SMALLEST = 1e-8  # probability, before its logarithm is taken


class NoNetwork(nn.Module):
    """Stands where a teacher's network would be."""

    def forward(self, x: Tensor) -> Tensor:
        """Refuse: there is no network.

        Raises:
            InputError: always.
        """
        raise InputError(f"{OPTION}: the teacher is known by its outputs alone, it cannot be run on other samples")


@dataclass(frozen=True)
class StoredTeacher:
    """A teacher whose outputs were read; `notes`: what was recognised, one sentence each."""

    teacher: Teacher
    notes: tuple[str, ...]


def from_outputs(options: TeacherOptions, data: Dataset) -> StoredTeacher:
    """Read a teacher's outputs, and bring them into the order of the splits' samples.

    Args:
        options: with `outputs`, the file.
        data: that they are about.

    Raises:
        InputError: the file cannot be read, or does not fit the data.
    """
    path = options.outputs or Path()
    arrays, notes = _read(path), list[str]()
    found: dict[str, Tensor] = {}
    for part in PARTS:
        logits = _logits_of(part, arrays, data.n_classes, notes)
        if logits is not None:
            found[part] = torch.from_numpy(logits)
    if "train" not in found:
        raise InputError(
            f"{OPTION}: {printable(path)} has no rows for train; it has {few(sorted(arrays.names)) or 'nothing'}"
        )
    if unread := sorted(set(arrays.names) - arrays.used):
        notes.append(f"arrays of {printable(path.name)} that were not read: {few(unread)}")
    rows = _by_split(found, data)
    key = fingerprint(["stored outputs", sha256(path.read_bytes())])
    teacher = Teacher(NoNetwork(), key, f"{printable(path.name)}, stored outputs", stored=rows)
    return StoredTeacher(teacher, tuple(dict.fromkeys(notes)))


@dataclass(frozen=True)
class _StoredArrays:
    """What a file has: the names of all its arrays, those that may be outputs, and the names that were looked up."""

    names: tuple[str, ...]
    arrays: Mapping[str, NDArray[Any]]
    used: set[str] = field(default_factory=set)

    def named(self, part: str, kind: str) -> NDArray[Any] | None:
        """Look up the outputs of a kind for a split; None if there are none."""
        for name in _names(part, kind):
            if name in self.arrays:
                self.used.add(name)
                return self.arrays[name]
        return None


def _names(part: str, kind: str) -> list[str]:
    """Names that outputs may have: `KIND_PART`; `KIND` alone, and `PART` alone of whole rows, mean the same."""
    names = [f"{kind}_{part}", f"{part}_{kind}", *([kind] if part == "train" else [])]
    return names + ([part] if kind == WHOLE[-1] else [])


def _read(path: Path) -> _StoredArrays:
    """Read the arrays that may be outputs; that of an .npy file is of train."""
    known = {name for part in PARTS for kind in (*WHOLE, TOP_VALUES, TOP_INDICES) for name in _names(part, kind)}
    file = read_arrays(path, OPTION, lambda names: [name for name in names if name in known])
    if "" in file.arrays:
        return _StoredArrays(("outputs_train",), {"outputs_train": file.arrays[""]})
    return _StoredArrays(file.names, file.arrays)


def _logits_of(part: str, arrays: _StoredArrays, n_classes: int, notes: list[str]) -> NDArray[np.float32] | None:
    """The logits (n, C) of a split as stored; None if the file has none."""
    for kind in WHOLE:
        if (given := arrays.named(part, kind)) is not None:
            return _whole(_checked(given, f"{kind} of {part}"), kind, part, n_classes, notes)
    values, indices = arrays.named(part, TOP_VALUES), arrays.named(part, TOP_INDICES)
    if values is None and indices is None:
        return None
    if values is None or indices is None:
        raise InputError(f"{OPTION}: {part} has {'no values' if values is None else 'no indices'}; top-k needs both")
    return _from_top(_checked(values, f"values of {part}"), indices, part, n_classes, notes)


def _checked(values: NDArray[Any], what: str) -> NDArray[np.float64]:
    if values.ndim != 2 or not values.shape[1] or values.dtype.kind not in "uif":
        raise InputError(f"{OPTION}: {what} are {values.dtype} of shape {values.shape}; want numbers, a row a sample")
    with np.errstate(over="ignore", invalid="ignore"):
        logits = values.astype(np.float32)  # as students get them
        spread = logits.max(axis=1) - logits.min(axis=1)
    finite = np.isfinite(logits).all(axis=1) & np.isfinite(spread)
    if not finite.all():
        given = np.isfinite(values.astype(np.float64)).all()
        kind = "values too large for float32 (mask classes by -1e4, say)" if given else "NaN or infinite values"
        raise InputError(
            f"{OPTION}: {what} have {kind} in {int((~finite).sum()):,} rows, first in row {int(finite.argmin())}"
        )
    return values.astype(np.float64)


def _whole(values: NDArray[np.float64], kind: str, part: str, n_classes: int, notes: list[str]) -> NDArray[np.float32]:
    if values.shape[1] != n_classes:
        raise InputError(
            f"{OPTION}: {kind} of {part} have {values.shape[1]} columns, the data have {n_classes} classes"
        )
    in_range = bool((values >= 0).all() and (values <= 1 + SUM_TOLERANCE).all())
    sums_to_one = in_range and bool((np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE).all())
    if kind == "probabilities" and not sums_to_one:
        raise InputError(f"{OPTION}: probabilities of {part} must be >= 0 and sum to 1 in every row; are these logits?")
    if not sums_to_one:
        return values.astype(np.float32)
    if kind != "probabilities":
        notes.append("its outputs are probabilities, whose logarithms are taken as logits")
    return np.log(np.maximum(values, SMALLEST)).astype(np.float32)


def _from_top(
    values: NDArray[np.float64], indices: NDArray[Any], part: str, n_classes: int, notes: list[str]
) -> NDArray[np.float32]:
    """Logits of all classes from the k largest values and the classes that they belong to."""
    if indices.shape != values.shape or indices.dtype.kind not in "ui":
        raise InputError(
            f"{OPTION}: indices of {part} are {indices.dtype} of shape {indices.shape}; want whole numbers, "
            f"{values.shape} as the values"
        )
    k, sorted_rows = values.shape[1], np.sort(indices, axis=1)
    twice = bool((sorted_rows[:, 1:] == sorted_rows[:, :-1]).any())
    if twice or not ((indices >= 0) & (indices < n_classes)).all():
        raise InputError(f"{OPTION}: indices of {part} must be different classes 0..{n_classes - 1} in every row")
    others, total = n_classes - k, values.sum(axis=1)
    probable = bool((values >= 0).all() and (total <= 1 + SUM_TOLERANCE).all())
    notes.append(f"its outputs are the {k} largest {'probabilities' if probable else 'logits'} of {n_classes}")
    logits = np.log(np.maximum(values, SMALLEST)) if probable else values
    out = np.empty((len(values), n_classes))
    if others:
        rest = np.log(np.maximum((1 - total) / others, SMALLEST)) if probable else logits.min(axis=1) - log(others)
        out[:] = rest[:, None]
    np.put_along_axis(out, indices.astype(np.int64), logits, axis=1)
    return out.astype(np.float32)


def _by_split(found: Mapping[str, Tensor], data: Dataset) -> dict[str, Tensor]:
    """Bring rows of the stored splits into the order of the prepared ones: some of these were carved from train."""
    carved = data.carved_rows
    given = {s: len(getattr(data, s)) for s in SPLITS if s not in carved}
    if carved:
        given["train"] = sum(map(len, carved.values()))
    if data.unlabelled is not None:
        given["unlabelled"] = data.unlabelled.total
        if "unlabelled" not in found:
            raise InputError(
                f"{OPTION} has no rows for the unlabelled samples (logits_unlabelled): add them, or leave "
                "data.unlabelled out"
            )
    if "val" in given and "val" not in found:
        raise InputError(
            f"{OPTION} has no rows for val, by which the teacher is judged: add them (logits_val), or leave val out of "
            "the data, so that it is carved from train with its rows"
        )
    for part, logits in found.items():
        if part not in given:
            raise InputError(
                f"{OPTION} has rows for {part}, which the data do not have: it is carved from train"
                if part in SPLITS
                else f"{OPTION} has rows for unlabelled samples, but there are none"
            )
        more = len(logits) > given[part] == data.limited.get(part)
        if len(logits) != given[part] and not more:
            raise InputError(
                f"{OPTION} has {len(logits):,} rows for {part}, the data have {given[part]:,} samples there; want a "
                f"row for each, in their order{_left_out(data)}"
            )
    rows = {part: logits[: given[part]] for part, logits in found.items()}
    train = rows["train"]
    rows |= {split: train[torch.as_tensor(where)] for split, where in carved.items()}
    if data.unlabelled is not None:
        rows["unlabelled"] = rows["unlabelled"][data.unlabelled.rows]
    return {part: logits.contiguous() for part, logits in rows.items()}


def _left_out(data: Dataset) -> str:
    """What to add where rows and samples differ in number, if something was left out when the data were read."""
    skipped = "; ".join(f"{reason}: {count:,}" for reason, count in data.about.skipped.items())
    return f"; samples that were left out have no rows: remove theirs, too ({skipped})" if skipped else ""
