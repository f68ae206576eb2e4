"""A NumPy archive with `x_train, y_train[, x_val, y_val][, x_test, y_test][, classes]`, samples of any rank.

Other usual names are taken, too: `nas_kd.data.array_names`.

For cross-modal distillation `x_teacher_train` (and `x_teacher_val`, `x_teacher_test` if there is `x_val`, `x_test`)
holds the teacher's view of the same samples, row by row: another sensor, resolution or set of channels. With
`pairs_train` (N,) the teacher sees row `pairs_train[i]` of `x_teacher_train` for sample i.

`x_unlabelled` holds samples without labels; students learn from the teacher's outputs on them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.array_names import group_arrays, named_arrays, names_sentence
from nas_kd.data.file_kind import describe_file
from nas_kd.data.layout import Layout, as_numpy, axis_order, order_of_view, to_chw
from nas_kd.data.source import Arrays, RawData, TeacherView, error_summary, is_flip_safe
from nas_kd.data.split_names import SPLITS
from nas_kd.errors import InputError, few


class Npz:
    """Reads .npz archives without unpickling; labels may be integers or strings."""

    name = "npz"
    summary = "a NumPy .npz with x_train, y_train, and optionally val, test, classes, and x_teacher_* (paired samples)"
    uses = frozenset({"path", "layout", "group"})

    def load(self, options: DataOptions) -> RawData:
        """Read all arrays of the file `options.path`.

        Raises:
            InputError: the file is missing or broken, or an array is missing.
        """
        if options.path is None:
            raise InputError("source 'npz' needs data.path, the .npz file")
        arrays = read_npz(options.path, options.group)
        return from_mapping(arrays, options.layout, str(options.path), options.path.stem, options.group)


def read_npz(path: Path, group: str | None = None) -> dict[str, NDArray[Any] | None]:
    """Read the arrays of a file by name; those of unknown meaning stay None, and pickled arrays are refused.

    Args:
        path: of the file.
        group: `data.group`.

    Raises:
        InputError: the file is missing, broken, not .npz, or holds object arrays.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; data.path must be the .npz file (a folder of images: image_folder)")
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    arrays: dict[str, NDArray[Any] | None] = {}
    name = "table of contents"
    try:
        if (kind := describe_file(path)) != "a zip archive":
            advice = "write one with numpy.savez(path, x_train=..., y_train=...)"
            raise InputError(f"{path} is not an .npz file, it is {kind}; {advice}")
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            wanted = {*named_arrays(file.files, str(path)).values(), *group_arrays(file.files, group).values()}
            for name in file.files:
                arrays[name] = file[name] if name in wanted else None
    except InputError:
        raise
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise InputError(f"{path}: cannot read {name!r} ({error_summary(error)})") from error
        raise InputError(
            f"{path}: {name!r} is an object array (a pickle), which could run code when it is read; "
            "save plain numbers or strings: one array, equal shapes"
        ) from error
    except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors on broken files
        raise InputError(f"{path}: cannot read {name!r} ({error_summary(error)})") from error
    return arrays


def from_mapping(arrays: Mapping[str, Any], layout: Layout, where: str, name: str, group: str | None = None) -> RawData:
    """Make splits from arrays that are named as in a file; images are brought to (N, C, H, W).

    Args:
        arrays: arrays by name.
        layout: order of the axes of images.
        where: the file or function, for messages.
        name: name of the data set.
        group: `data.group`.

    Raises:
        InputError: an array is missing, or the order of an image's axes is ambiguous.
    """
    names = named_arrays(map(str, arrays), where)
    named = {plain: as_numpy(arrays[name]) for plain, name in names.items()}
    splits: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for split in SPLITS:
        given = [plain for plain in (f"x_{split}", f"y_{split}") if plain in named]
        if len(given) == 1 or (split == "train" and not given):
            missing = sorted({f"x_{split}", f"y_{split}"} - set(given))
            has = few(sorted(map(str, arrays))) or "nothing"
            raise InputError(f"{where} has no {' and no '.join(missing)}; it has {has}")
        if given:
            splits[split] = named[f"x_{split}"], named[f"y_{split}"]
    order = axis_order(splits["train"][0].shape, layout, where)
    classes = _class_names(named["classes"]) if "classes" in named else None
    ordered = {split: Arrays(to_chw(x, order), y) for split, (x, y) in splits.items()}
    groups = group_arrays(map(str, arrays), group)
    if group is not None and "train" not in groups:
        raise InputError(f"{where} has no array {group!r} or {group + '_train'!r}, which data.group names")
    ignored = sorted(set(map(str, arrays)) - {*names.values(), *groups.values()})
    unread = f"arrays that were not read: {few(ignored)}" if ignored else None
    return RawData(
        name=name,
        train=ordered["train"],
        val=ordered.get("val"),
        test=ordered.get("test"),
        classes=classes,
        flip_safe=is_flip_safe(classes),
        notes=tuple(filter(None, [names_sentence(names), unread])),
        teacher_view=_teacher_view(named, layout, where),
        layout=order,
        unlabelled=to_chw(named["x_unlabelled"], order) if "x_unlabelled" in named else None,
        groups={split: as_numpy(arrays[name]) for split, name in groups.items()},
    )


def _class_names(names: NDArray[Any]) -> tuple[str, ...]:
    listed = np.atleast_1d(names).tolist()
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in listed)


def _teacher_view(named: Mapping[str, NDArray[Any]], layout: Layout, where: str) -> TeacherView | None:
    x, pairs = (
        {split: named[f"{kind}_{split}"] for split in SPLITS if f"{kind}_{split}" in named}
        for kind in ("x_teacher", "pairs")
    )
    if not x and not pairs:
        return None
    order = order_of_view(x["train"].shape, layout, f"{where}, x_teacher_train") if "train" in x else None
    return TeacherView({split: to_chw(samples, order) for split, samples in x.items()}, pairs)


PLUGIN = Npz()
