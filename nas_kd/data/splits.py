"""Carving validation and test samples from the training set: stratified, by seed."""

import numpy as np
from numpy.typing import NDArray

from nas_kd.errors import InputError

Indices = NDArray[np.int64]


def check_class_sizes(y: Indices, classes: tuple[str, ...], carved: tuple[str, ...]) -> None:
    """Each class needs a sample for train and one for every split carved from it, and two in any case.

    Raises:
        InputError: a class has fewer.
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


def carve(y: Indices, fractions: dict[str, float], seed: int) -> dict[str, Indices]:
    """Positions of each carved split, and of what is left as "train"; ascending, so that the order is kept.

    Of each class, round(fraction * its samples) and at least one go to each split. `fractions` are shares of
    the whole; a split's samples do not depend on what the splits after it take.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    taken: dict[str, list[Indices]] = {split: [] for split in (*fractions, "train")}
    for label in np.unique(y):
        members = order[y[order] == label]
        start = 0
        for position, (split, fraction) in enumerate(fractions.items()):
            waiting = len(fractions) - position  # later splits, and train: one sample each at least
            count = min(max(1, round(fraction * len(members))), len(members) - start - waiting)
            taken[split].append(members[start : start + count])
            start += count
        taken["train"].append(members[start:])
    return {split: np.sort(np.concatenate(parts)) for split, parts in taken.items()}
