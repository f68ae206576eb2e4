"""Samples without labels: found, read, and brought into the form of the training samples."""

import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import UnlabelledSamples
from nas_kd.data.duplicates import sample_digests
from nas_kd.data.layout import as_numpy
from nas_kd.data.mapped_array import Stored, StoredArray, remembered, select_rows
from nas_kd.data.samples import Samples, chunks
from nas_kd.data.source import RawData
from nas_kd.data.split_names import SPLITS
from nas_kd.data.tensors import as_samples, as_tensor
from nas_kd.data.unlabelled_files import UnlabelledFiles, read_unlabelled
from nas_kd.data.validation import validated_samples
from nas_kd.errors import InputError, printable

# Of a batch, unless the option says otherwise: 7 unlabelled samples to 1 labelled one, as in FixMatch (Sohn et al.
# 2020, arXiv:2001.07685), so that few labels among many pictures are still in every batch.
LARGEST_SHARE = 7 / 8


@dataclass(frozen=True)
class FoundUnlabelled:
    """Unlabelled samples, and what is to be said about them.

    Attributes:
        samples: none of which is in the labelled splits.
        duplicates: how many were left out because a labelled split has them, too, by split.
        sentences: for people.
        skipped: how many files were left out, by reason.
    """

    samples: UnlabelledSamples
    duplicates: Mapping[str, int]
    sentences: tuple[str, ...]
    skipped: Mapping[str, int]


def find_unlabelled(options: DataOptions, raw: RawData, xs: Mapping[str, StoredArray]) -> FoundUnlabelled | None:
    """Read the unlabelled samples of a data set; None if it has none.

    Args:
        options: `[data]`.
        raw: what the source loaded.
        xs: (N, ...) checked samples of all three splits.

    Raises:
        InputError: they are missing or broken, or do not fit the labelled samples.
    """
    if raw.unlabelled is None and options.unlabelled is None:
        if options.unlabelled_share is not None:
            raise InputError("data.unlabelled_share is for data.unlabelled, which is not given")
        return None
    if raw.unlabelled is not None and options.unlabelled is not None:
        raise InputError("the data have unlabelled samples of their own (x_unlabelled): leave data.unlabelled out")
    if raw.teacher_view is not None:
        raise InputError(
            "unlabelled samples do not go with a teacher's view (x_teacher_*): the teacher would need its view of them"
        )
    if options.unlabelled is None:
        where, files = "x_unlabelled", UnlabelledFiles(as_numpy(raw.unlabelled), ())
    else:
        where, files = "data.unlabelled", read_unlabelled(options, raw, xs["train"])
    x = checked_unlabelled(files.x, xs["train"], where)
    copies, duplicates = remembered("copies", [x, *(xs[split] for split in SPLITS)], lambda: _copies(x, xs))
    if len(copies) == len(x):
        raise InputError(f"{where}: all of its {len(x):,} samples are in train, val or test, too; give others")
    samples = _samples(x, copies, len(xs["train"]), options.unlabelled_share)
    return FoundUnlabelled(samples, duplicates, _sentences(samples, files, duplicates, len(x)), files.skipped)


def checked_unlabelled(x: Stored, train: StoredArray, where: str) -> Stored:
    """Check that samples are like those of the training split, and convert them as these were.

    Args:
        x: (U, ...) as stored.
        train: (N, ...) checked training samples.
        where: the samples come from, for messages.

    Raises:
        InputError: there are none, or they differ in shape or type, or are NaN or infinite.
    """
    if x.ndim >= 1 and len(x) == 0:
        raise InputError(f"{where} has no samples; leave it out")
    if x.ndim < 2 and train.ndim >= 2:
        raise InputError(
            f"{where} has shape {x.shape}: are these labels? It takes samples (U, ...) like those of train"
        )
    try:
        values = validated_samples(x, "unlabelled")
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if values.shape[1:] != train.shape[1:]:
        raise InputError(f"{where}: its samples have shape {values.shape[1:]}, those of train {train.shape[1:]}")
    if values.dtype != train.dtype:
        raise InputError(f"{where}: x is {values.dtype}, x of train {train.dtype}; store both in the same units")
    return values


def find_copies(x: StoredArray, known: Mapping[str, AbstractSet[bytes]]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Find exact copies of labelled samples.

    Args:
        x: (U, ...) unlabelled samples.
        known: digests of the labelled ones, by split.

    Returns:
        (U,) which of them no split has; and how many each of the splits has, without those that have none.
    """
    digests, keep, found = sample_digests(x), np.ones(len(x), dtype=bool), {}
    for split, labelled in known.items():
        there = np.array([digest in labelled for digest in digests])
        keep &= ~there
        if there.any():
            found[split] = int(there.sum())
    return keep, found


def _copies(x: StoredArray, xs: Mapping[str, StoredArray]) -> tuple[list[int], dict[str, int]]:
    """Rows of unlabelled samples that a labelled split has, too; and how many each of the splits has."""
    keep, found = find_copies(x, {split: set(sample_digests(xs[split])) for split in SPLITS})
    return np.flatnonzero(~keep).tolist(), found


def copies_sentence(found: Mapping[str, int], total: int) -> str | None:
    """Say in one line how many of `total` unlabelled samples were left out; None: none were.

    Args:
        found: as `find_copies` returns it.
        total: number of samples that were given.
    """
    splits = ", ".join(f"{count:,} are in {split}" for split, count in found.items())
    return f"unlabelled: of {total:,} samples, {splits}, too, to the last bit, and were left out" if splits else None


def _samples(given: StoredArray, copies: list[int], n_labelled: int, share: float | None) -> UnlabelledSamples:
    rows = np.delete(np.arange(len(given)), copies)
    x = as_samples(select_rows(given, rows) if copies else given)
    key = remembered(f"unlabelled of {len(given)}", [x], lambda: _digest(x, rows, len(given)))
    usual = min(len(x) / (n_labelled + len(x)), LARGEST_SHARE)
    return UnlabelledSamples(x, usual if share is None else share, key, as_tensor(rows), len(given))


def _digest(x: Samples, rows: NDArray[np.int64], total: int) -> str:
    """Sha256 (hex) of samples and of their rows, which decide which stored outputs belong to samples."""
    dtype = str(x.dtype).removeprefix("torch.")
    digest = hashlib.sha256(f"{dtype} {tuple(x.shape)} of {total}".encode())
    for part in chunks(x):
        digest.update(part.contiguous().numpy().data)
    digest.update(rows.data)
    return digest.hexdigest()


def _sentences(
    samples: UnlabelledSamples, files: UnlabelledFiles, duplicates: Mapping[str, int], total: int
) -> tuple[str, ...]:
    counted = (
        f"unlabelled: {len(samples):,} samples, about {samples.share:.0%} of each batch; students learn from the "
        "teacher's outputs on them; there is no label loss"
    )
    notes = (f"unlabelled: {printable(note)}" for note in files.notes)
    return (counted, *notes, *filter(None, [copies_sentence(duplicates, total)]))
