"""A NumPy archive with `x_train, y_train[, x_val, y_val][, x_test, y_test][, classes]`, samples of any rank.

For cross-modal distillation `x_teacher_train` (and `x_teacher_val`, `x_teacher_test` if there is `x_val`, `x_test`)
holds the teacher's view of the same samples, row by row: another sensor, resolution or set of channels. With
`pairs_train` (N,) the teacher sees row `pairs_train[i]` of `x_teacher_train` for sample i.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, bfloat16

from nas_kd.config.options import DataOptions
from nas_kd.data.source import SPLITS, Arrays, RawData, TeacherView, error_summary, is_flip_safe
from nas_kd.errors import InputError

Layout = Literal["auto", "chw", "hwc"]
MAX_CHANNELS = 4  # an axis no longer than this may be the colour channels
_KINDS = ("x", "y", "x_teacher", "pairs")
KNOWN_ARRAYS = frozenset({"classes", *(f"{kind}_{split}" for kind in _KINDS for split in SPLITS)})


class Npz:
    """Reads .npz archives without unpickling; labels may be integers or strings."""

    name = "npz"
    summary = "a NumPy .npz with x_train, y_train, and optionally val, test, classes, and x_teacher_* (paired samples)"
    uses = frozenset({"path", "layout"})

    def load(self, options: DataOptions) -> RawData:
        """Read all arrays of the file `options.path`.

        Raises:
            InputError: the file is missing or broken, or an array is missing.
        """
        if options.path is None:
            raise InputError("source 'npz' needs data.path, the .npz file")
        return from_mapping(read_npz(options.path), options.layout, str(options.path), options.path.stem)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file by name; pickled arrays are refused.

    Raises:
        InputError: the file is missing, broken, not .npz, or holds object arrays.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    arrays = {}
    name = "table of contents"
    try:
        with path.open("rb") as content:
            if content.read(2) != b"PK":
                raise InputError(f"{path} is not an .npz file; write one with numpy.savez(path, x_train=..., ...)")
            content.seek(0)
            with np.load(content, allow_pickle=False) as file:
                for name in file.files:
                    arrays[name] = file[name]
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


def from_mapping(arrays: Mapping[str, Any], layout: Layout, where: str, name: str) -> RawData:
    """Make splits from arrays that are named as in a file; images are brought to (N, C, H, W).

    Args:
        arrays: arrays by name.
        layout: order of the axes of images.
        where: the file or function, for messages.
        name: name of the data set.

    Raises:
        InputError: an array is missing, or the order of an image's axes is ambiguous.
    """
    splits = {}
    for split in SPLITS:
        given = [key for key in (f"x_{split}", f"y_{split}") if key in arrays]
        if len(given) == 1 or (split == "train" and not given):
            missing = sorted({f"x_{split}", f"y_{split}"} - set(given))
            has = ", ".join(sorted(map(str, arrays))) or "nothing"
            raise InputError(f"{where} has no {' and no '.join(missing)}; it has {has}")
        if given:
            splits[split] = Arrays(as_numpy(arrays[f"x_{split}"]), as_numpy(arrays[f"y_{split}"]))
    order = axis_order(splits["train"].x.shape, layout, where)
    classes = tuple(map(str, as_numpy(arrays["classes"]).tolist())) if "classes" in arrays else None
    ignored = sorted(map(str, set(arrays) - KNOWN_ARRAYS))
    ordered = {split: Arrays(to_chw(as_numpy(x), order), y) for split, (x, y) in splits.items()}
    return RawData(
        name=name,
        train=ordered["train"],
        val=ordered.get("val"),
        test=ordered.get("test"),
        classes=classes,
        flip_safe=is_flip_safe(classes),
        notes=(f"arrays that were not read: {', '.join(ignored)}",) if ignored else (),
        teacher_view=_teacher_view(arrays, layout, where),
    )


def _teacher_view(arrays: Mapping[str, Any], layout: Layout, where: str) -> TeacherView | None:
    x, pairs = (
        {split: as_numpy(arrays[f"{kind}_{split}"]) for split in SPLITS if f"{kind}_{split}" in arrays}
        for kind in ("x_teacher", "pairs")
    )
    if not x and not pairs:
        return None
    order = axis_order(x["train"].shape, layout, f"{where}, x_teacher_train") if "train" in x else "chw"
    return TeacherView({split: to_chw(samples, order) for split, samples in x.items()}, pairs)


def as_numpy(values: Any) -> NDArray[Any]:
    """Convert an array, a tensor or nested lists to a NumPy array.

    Raises:
        InputError: rows of a list differ in length.
    """
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        return np.asarray(tensor.float() if tensor.dtype == bfloat16 else tensor)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"want arrays whose samples have equal shapes ({error_summary(error)})") from error


def axis_order(shape: tuple[int, ...], layout: Layout, where: str) -> Literal["chw", "hwc"]:
    """Find the channel axis of images (N, ., ., .); samples of other ranks count as "chw".

    Args:
        shape: of the array, N included.
        layout: the user's option; "auto" guesses from the shape.
        where: the array, for messages.

    Raises:
        InputError: `layout` is "auto" and both orders are plausible.
    """
    if layout != "auto" or len(shape) != 4:
        return "hwc" if layout == "hwc" else "chw"
    first, middle, last = shape[1:]
    votes = set()
    if (first == middle) != (middle == last):  # images are mostly square ...
        votes.add("chw" if middle == last else "hwc")
    if (first <= MAX_CHANNELS) != (last <= MAX_CHANNELS):  # ... and have few channels
        votes.add("chw" if first <= MAX_CHANNELS else "hwc")
    if len(votes) != 1:
        raise InputError(
            f"{where}: cannot tell channels from pixels in samples of shape {(first, middle, last)}; "
            'set data.layout = "chw" or "hwc"'
        )
    return "chw" if "chw" in votes else "hwc"


def to_chw(x: NDArray[Any], order: Literal["chw", "hwc"]) -> NDArray[Any]:
    """Bring images to (N, C, H, W) from (N, H, W), or from (N, H, W, C) if `order` is "hwc"; keep other ranks."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and order == "hwc":
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x


PLUGIN = Npz()
