"""Counts samples of validation and test that an earlier split has, too: scores on these say little."""

import hashlib
from collections.abc import Mapping

import numpy as np

from nas_kd.data.mapped_array import StoredArray, remembered
from nas_kd.data.split_names import SPLITS

_DIGEST_BYTES = 16


def count_duplicates(xs: Mapping[str, StoredArray]) -> dict[str, int]:
    """Count exact copies across splits.

    Args:
        xs: (N, ...) samples by split, of one shape and type.

    Returns:
        For "val", how many of its samples are in train, for "test", how many are in train or val; those without any
        are left out.
    """
    return remembered("duplicates", [xs[split] for split in SPLITS], lambda: _counted(xs))


def _counted(xs: Mapping[str, StoredArray]) -> dict[str, int]:
    seen: set[bytes] = set()
    found = {}
    for split in SPLITS:
        digests = sample_digests(xs[split])
        count = sum(digest in seen for digest in digests)
        if count:
            found[split] = count
        seen.update(digests)
    return found


def duplicates_sentence(found: Mapping[str, int], sizes: Mapping[str, int]) -> str | None:
    """Say in one line how many samples are in two splits; None if there are none.

    Args:
        found: as `count_duplicates` returns it.
        sizes: samples by split.
    """
    where = {"val": "in train", "test": "in train or val"}
    parts = [f"{n:,} of {sizes[split]:,} {split} samples are {where[split]}" for split, n in found.items()]
    return f"duplicates: {' and '.join(parts)}, too, to the last bit" if parts else None


def sample_digests(x: StoredArray) -> list[bytes]:
    """A digest of each of the samples (N, ...); copies have equal ones."""
    return [hashlib.blake2b(np.ascontiguousarray(sample).tobytes(), digest_size=_DIGEST_BYTES).digest() for sample in x]
