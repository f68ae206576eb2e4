"""Which arrays of an archive are samples and labels: `x_train`, `train_images` (MedMNIST), `X_test`, `images`, ..."""

import re
from collections.abc import Iterable

from nas_kd.data.split_names import SPLITS, split_named
from nas_kd.errors import InputError, printable

KINDS = {
    "x": ("x", "image", "images", "img", "imgs", "data", "samples", "features", "inputs"),
    "y": ("y", "label", "labels", "target", "targets"),
}
_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
_PAIRED = ("x_teacher", "pairs")
PLAIN = frozenset({"classes", *(f"{kind}_{split}" for kind in (*KINDS, *_PAIRED) for split in SPLITS), "x_unlabelled"})


def named_arrays(given: Iterable[str], where: str) -> dict[str, str]:
    """Find out which array is which.

    Args:
        given: names of all arrays.
        where: the file or function, for messages.

    Returns:
        The given name by plain name, such as `{"x_train": "train_images"}`; arrays that are not known are left out. A
        plain name goes before others, and one that names its split before one that does not, which is of train.

    Raises:
        InputError: two arrays could be the same one.
    """
    ranked: dict[str, list[tuple[int, str]]] = {}
    for name in given:
        if (meaning := _meaning(name)) is not None:
            plain, rank = meaning
            ranked.setdefault(plain, []).append((rank, name))
    found = {}
    for plain, candidates in ranked.items():
        best, *others = sorted(candidates)
        if others and others[0][0] == best[0]:
            both = " and ".join(repr(printable(name)) for _, name in (best, others[0]))
            raise InputError(f"{where}: {both} could both be {plain}; call the right one {plain}")
        found[plain] = best[1]
    return found


def _meaning(name: str) -> tuple[str, int] | None:
    """The plain name that an array's own name stands for, and how plainly it does (0: it is the same)."""
    if name in PLAIN:
        return name, 0
    words = [word for word in re.split(r"[_\-. ]+", name.lower()) if word]
    kinds = [_KIND_OF[word] for word in words if word in _KIND_OF]
    splits = [split for word in words if (split := split_named(word))]
    if len(kinds) != 1 or len(splits) > 1 or len(words) != len(kinds) + len(splits):
        return None
    return f"{kinds[0]}_{splits[0] if splits else 'train'}", 1 if splits else 2


def group_arrays(given: Iterable[str], group: str | None) -> dict[str, str]:
    """Names of the arrays that say what samples belong to, by split: NAME_train, or NAME alone for train, and so on.

    Args:
        given: names of all arrays.
        group: `data.group`; None: there are none.
    """
    there = set(given)
    if group is None:
        return {}
    found = {split: f"{group}_{split}" for split in SPLITS if f"{group}_{split}" in there}
    return {"train": group, **found} if group in there and "train" not in found else found


def means_labels(name: str) -> bool:
    """Whether an array of this name would be taken for labels."""
    meaning = _meaning(name)
    return meaning is not None and meaning[0].startswith("y_")


def names_sentence(found: dict[str, str]) -> str | None:
    """Say in one line which arrays were taken under other names than their own; None: none were."""
    taken = [f"{printable(name)} as {plain}" for plain, name in found.items() if name != plain]
    return f"arrays that were read: {', '.join(taken)}" if taken else None
