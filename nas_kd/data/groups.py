"""What belongs together when splits are carved: the samples of one identity, video, clip or patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.data.layout import as_numpy
from nas_kd.data.source import RawData
from nas_kd.data.split_names import SPLITS
from nas_kd.data.splits import Indices
from nas_kd.errors import InputError
from nas_kd.tasks.base import Targets


@dataclass(frozen=True)
class Groups:
    """Groups of samples that no two splits may share.

    Attributes:
        numbers: by split, (N,) the group of each sample; a group has one number in all splits.
        word: what a group is, such as "identity".
    """

    numbers: Mapping[str, Indices]
    word: str


def find_groups(raw: RawData, limits: Mapping[str, int | None], targets: Targets, option: str | None) -> Groups | None:
    """Find what belongs together: what the source says, and what the task says of its targets.

    Where both do, samples belong together that are connected by one or the other.

    Args:
        raw: as the source returned it.
        limits: how many samples of a split are used, the first ones.
        targets: of all splits, checked.
        option: `data.group`.

    Returns:
        The groups; None: nothing is said to belong together.

    Raises:
        InputError: there is no group for some of the samples.
    """
    given = {split: as_numpy(raw.groups[split])[: limits.get(split)] for split in SPLITS if split in raw.groups}
    if option is not None and "train" not in given:
        raise InputError(f"data.group = {option!r}: source gives no groups of the training samples")
    for split, names in given.items():
        _check(names, targets.values, split, option)
    of_task = {split: targets.task.kept_together(y) for split, y in targets.values.items()}
    own = {split: numbers for split, numbers in of_task.items() if numbers is not None}
    word = option or ("group" if given else targets.task.together)
    if not given:
        return Groups(own, word) if own else None
    numbers = _numbered(given)
    return Groups(numbers if not own else _joined(numbers, own), word)


def _check(names: NDArray[Any], ys: Mapping[str, NDArray[Any]], split: str, option: str | None) -> None:
    what = f"data.group = {option!r}" if option else "group"
    if split not in ys:
        raise InputError(f"{what}: there are groups of {split}, and no samples")
    n_samples = len(ys[split])
    if names.ndim != 1 or len(names) != n_samples:
        raise InputError(f"{what}: {split} has {n_samples:,} samples and groups of shape {names.shape}, want (N,)")
    missing = int(_is_missing(names).sum())
    if missing:
        raise InputError(
            f"{what}: {missing:,} of the {n_samples:,} samples of {split} have no group; give each one, its own if "
            "nothing belongs to it"
        )


def _is_missing(names: NDArray[Any]) -> NDArray[np.bool_]:
    if names.dtype.kind == "f":
        return np.asarray(np.isnan(names))
    if names.dtype.kind in "US":
        return np.asarray(names == names.dtype.type())
    if names.dtype == object:
        return np.array([name is None or name == "" or str(name) == "nan" for name in names.tolist()], dtype=np.bool_)
    return np.zeros(len(names), dtype=np.bool_)


def _numbered(names: Mapping[str, NDArray[Any]]) -> dict[str, Indices]:
    """Number the groups of all splits together, by their names as texts."""
    texts = {split: np.array([str(name) for name in values.tolist()]) for split, values in names.items()}
    known = np.unique(np.concatenate(list(texts.values())))
    return {split: np.searchsorted(known, values) for split, values in texts.items()}


def _joined(first: Mapping[str, Indices], second: Mapping[str, Indices]) -> dict[str, Indices]:
    """Join groups of two kinds that share a sample; splits without groups of the first kind have the second's."""
    offset = 1 + max(int(numbers.max(initial=0)) for numbers in first.values())
    root = list(range(offset + 1 + max(int(numbers.max(initial=0)) for numbers in second.values())))

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for split, numbers in first.items():
        for one, other in set(zip(numbers.tolist(), (second[split] + offset).tolist(), strict=True)):
            root[find(one)] = find(other)
    return {split: np.array([find(n) for n in (numbers + offset).tolist()]) for split, numbers in second.items()}


def shared_groups(groups: Groups) -> dict[str, tuple[int, int]]:
    """Count the groups of "val" and "test" that an earlier split has, too, and their samples there."""
    seen, found = set[int](), dict[str, tuple[int, int]]()
    for split in SPLITS:
        numbers = groups.numbers.get(split)
        if numbers is None:
            continue
        known = np.isin(numbers, list(seen))
        if known.any():
            found[split] = len(np.unique(numbers[known])), int(known.sum())
        seen.update(np.unique(numbers).tolist())
    return found


def shared_sentence(groups: Groups) -> str | None:
    """Say in one line which groups are in two splits; None: there are none."""
    where = {"val": "in train", "test": "in train or val"}
    parts = [
        f"{shared:,} of the {len(np.unique(groups.numbers[split])):,} in {split} ({samples:,} of "
        f"{len(groups.numbers[split]):,} samples) are {where[split]}"
        for split, (shared, samples) in shared_groups(groups).items()
    ]
    if not parts:
        return None
    return f"groups in two splits ({groups.word}): {' and '.join(parts)}, too: scores there say little of new ones"
