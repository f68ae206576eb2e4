"""Carves validation and test splits from the training split, stratified by class and decided by a seed."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def carve(y: Indices, fractions: dict[str, float], seed: int) -> dict[str, Indices]:
    """Carve splits that have the same share of every class.

    Of each class, round(fraction * its samples) and at least one go to each split. A split's samples do not depend on
    the splits after it.

    Args:
        y: (N,) class numbers.
        fractions: share of the whole for each split to carve, in order.
        seed: decides which samples are taken.

    Returns:
        Ascending positions in `y` for each split, and for the rest as "train".
    """
    order = np.random.default_rng(seed).permutation(len(y))
    taken: dict[str, list[Indices]] = {split: [] for split in (*fractions, "train")}
    for label in np.unique(y):
        members = order[y[order] == label]
        start = 0
        for position, (split, fraction) in enumerate(fractions.items()):
            reserved = len(fractions) - position  # one sample each for the later splits and for train
            count = min(max(1, round(fraction * len(members))), len(members) - start - reserved)
            taken[split].append(members[start : start + count])
            start += count
        taken["train"].append(members[start:])
    return {split: np.sort(np.concatenate(parts)) for split, parts in taken.items()}
