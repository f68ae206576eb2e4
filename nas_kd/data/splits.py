"""Carves validation and test splits from the training split: by strata, or by groups that stay together."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
DRAWS, MIN_DRAWS, WORK = 200, 20, 2 * 10**7  # of splits by group: at most, at least, and samples in all of them


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


def carve_groups(
    groups: Indices, strata: Indices, fractions: Mapping[str, float], seed: int, least: int = 1
) -> dict[str, Indices]:
    """Carve splits that share no group, as large and with as equal shares of every stratum as groups allow.

    Groups are drawn at random, as many for each split as come nearest to its size; of many such draws the one is taken
    whose splits are nearest to the shares that were asked for, of all samples and of every stratum.

    Args:
        groups: (N,) the group of each sample; at least `least` for each split, "train" included.
        strata: (N,) the stratum of each sample.
        fractions: share of the whole for each split to carve, in order.
        seed: decides which groups are drawn.
        least: groups that every split has.

    Returns:
        Ascending positions for each split, and for the rest as "train".
    """
    names = (*fractions, "train")
    numbers, layers = (np.unique(values, return_inverse=True)[1] for values in (groups, strata))
    sizes, totals = np.bincount(numbers), np.bincount(layers)
    shares = np.array([*fractions.values(), 1 - sum(fractions.values())])
    generator, best, nearest = np.random.default_rng(seed), np.zeros(0, dtype=np.int64), np.inf
    for _ in range(min(DRAWS, max(MIN_DRAWS, WORK // len(groups)))):
        drawn = _drawn(generator.permutation(len(sizes)), sizes, shares[:-1] * len(groups), least)[numbers]
        counts = np.bincount(drawn * len(totals) + layers, minlength=len(names) * len(totals)).reshape(len(names), -1)
        off = np.abs(counts / totals - shares[:, None]).sum(axis=0).mean()
        off += np.abs(counts.sum(axis=1) / len(groups) - shares).sum() + (counts[-1] == 0).sum()
        if off < nearest:
            best, nearest = drawn, off
    return {name: np.flatnonzero(best == place) for place, name in enumerate(names)}


def _drawn(order: Indices, sizes: Indices, wanted: NDArray[np.float64], least: int) -> Indices:
    """The split of each group: the first groups in this order for the first split, and so on; the rest for train."""
    split_of, start = np.full(len(sizes), len(wanted)), 0
    for place, samples in enumerate(wanted):
        reserved = least * (len(wanted) - place)  # for the later splits and for train
        count = 1 + int(np.abs(np.cumsum(sizes[order[start:]]) - samples).argmin())
        count = min(max(count, least), len(order) - start - reserved)
        split_of[order[start : start + count]] = place
        start += count
    return split_of
