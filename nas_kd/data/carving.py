"""Carves the splits that a source does not give from its training samples, and says how."""

from collections.abc import Mapping

import numpy as np

from nas_kd.config.options import DataOptions
from nas_kd.data.groups import Groups
from nas_kd.data.splits import Indices, carve, carve_groups
from nas_kd.errors import InputError
from nas_kd.tasks.base import Targets


def carved(
    targets: Targets, groups: Groups | None, options: DataOptions, seed: int
) -> tuple[dict[str, Indices], list[str]]:
    """Choose rows of the given training split for each split that is missing, and for the rest.

    Args:
        targets: of all splits that were given, checked.
        groups: of samples that stay together; None: nothing does.
        options: the `[data]` section.
        seed: decides which samples are taken.

    Returns:
        Rows by split, none if nothing is missing; and notes for the user.

    Raises:
        InputError: samples or groups are too few.
    """
    task, ys = targets.task, targets.values
    wanted = {"test": options.test_fraction, "val": options.val_fraction}
    fractions = {name: fraction for name, fraction in wanted.items() if name not in ys}
    if "test" in fractions and options.test_rows is not None:
        raise InputError("data.test_rows needs test data of its own; what is carved is set by data.test_fraction")
    task.check_carving(ys["train"], targets.names, tuple(fractions))
    if not fractions:
        return {}, []
    if groups is not None:
        return _carved_by_group(targets, groups, fractions, seed)
    parts = carve(task.strata(ys["train"]), fractions, seed)
    kept = f", the same share of each {task.stratum}" if task.stratum else ""
    notes = [
        f"{name}: {len(parts[name]):,} of the {len(ys['train']):,} training samples{kept}, drawn by seed {seed}"
        for name in fractions
    ]
    return parts, notes


def _carved_by_group(
    targets: Targets, groups: Groups, fractions: Mapping[str, float], seed: int
) -> tuple[dict[str, Indices], list[str]]:
    """Choose rows so that no group is in two splits."""
    numbers, y, word = groups.numbers["train"], targets.values["train"], groups.word
    count, least = len(np.unique(numbers)), targets.task.least_groups
    if count < (wanted := least * (len(fractions) + 1)):
        have = "all samples are of one" if count == 1 else f"there are {count} only"
        raise InputError(
            f"splits are carved by {word}, and {have}: want {wanted} at least, {least} for each of "
            f"{', '.join(fractions)} and train"
        )
    parts = carve_groups(numbers, targets.task.strata(y), fractions, seed, least)
    try:
        targets.task.check_carving(y[parts["train"]], targets.names, ())
        for name, rows in parts.items():
            targets.task.check_split(y[rows], name)
    except InputError as error:
        raise InputError(f"once splits are carved by {word}: {error}") from error
    return parts, [
        f"{name}: {len(parts[name]):,} of the {len(y):,} training samples, of {len(np.unique(numbers[parts[name]])):,} "
        f"of {count:,} groups ({word}), none of which is in two splits, drawn by seed {seed}"
        for name in fractions
    ]
