"""Which columns of a Parquet file hold pictures and labels: by option, by name, or by type; and its class names."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from nas_kd.errors import InputError, few, printable

# The first that is there is taken; of the further names there may be only one.
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
FURTHER_IMAGES = ("images", "picture", "photo", "pixel_values", "png", "jpg", "jpeg", "image_bytes", "bytes")
FURTHER_LABELS = ("class", "classes", "target", "targets", "category", "y", "class_label", "label_id", "coarse_label")


MASK_COLUMNS = ("mask", "annotation", "label")
FURTHER_MASKS = ("masks", "annotations", "labels", "segmentation", "segmentation_mask", "labelmap", "target")


class Columns(NamedTuple):
    """What is read of a file.

    Attributes:
        image: column of the pictures.
        labels: column of the labels, or of the masks, or one for each label or target.
        classes: class names, if the file has them.
        note: how the columns were chosen, where that is not plain.
    """

    image: str
    labels: tuple[str, ...]
    classes: tuple[str, ...] | None
    note: str | None


def find_columns(
    path: Path, schema: Any, image: str | None, label: str | None, several: tuple[str, ...] | None = None
) -> Columns:
    """Choose the columns.

    Args:
        path: the file, for messages.
        schema: its Arrow schema.
        image: `data.image_column`.
        label: `data.label_column`.
        several: `data.label_columns`.

    Raises:
        InputError: a column is missing, or several could be meant.
    """
    features = _features(path, schema.metadata or {})
    pictures = [field.name for field in schema if _holds_bytes(field.type)]
    named = [name for name, feature in features.items() if isinstance(feature, dict) and "names" in feature]
    names = list(schema.names)
    image = _column(path, names, "image", image, (IMAGE_COLUMNS, FURTHER_IMAGES, pictures))
    rest = [name for name in names if name != image]
    if several is not None:
        if label is not None:
            raise InputError("data.label_columns holds a number each; leave data.label_column out")
        for name in several:
            if name not in rest:
                raise InputError(f"{path} has no column {name!r} (data.label_columns); its columns: {few(names)}")
        return Columns(image, several, several, None)
    given, label = label, _column(path, rest, "label", label, (LABEL_COLUMNS, FURTHER_LABELS, named))
    others = [name for name in rest if name.lower() in (*LABEL_COLUMNS, *FURTHER_LABELS) and name != label]
    note = None
    if given is None and others:
        note = f"labels are those of column {printable(label)!r}, not {few(others)} (data.label_column chooses)"
    elif image not in IMAGE_COLUMNS or label not in LABEL_COLUMNS:
        note = f"columns that were read: {printable(image)!r} and {printable(label)!r}"
    return Columns(image, (label,), _class_names(path, features.get(label)), note)


def find_mask_columns(path: Path, schema: Any, image: str | None, mask: str | None) -> Columns:
    """Choose the column of pictures and that of their masks.

    Args:
        path: the file, for messages.
        schema: its Arrow schema.
        image: `data.image_column`.
        mask: `data.label_column`.

    Raises:
        InputError: a column is missing, or several could be meant.
    """
    pictures, names = [field.name for field in schema if _holds_bytes(field.type)], list(schema.names)
    image = _column(path, names, "image", image, (IMAGE_COLUMNS, FURTHER_IMAGES, pictures))
    rest = [name for name in names if name != image]
    found = _column(path, rest, "label", mask, (MASK_COLUMNS, FURTHER_MASKS, [n for n in pictures if n != image]))
    if found not in pictures:
        raise InputError(f"{path}: column {found!r} holds no pictures, so it has no masks; set data.label_column")
    note = None if mask is not None else f"masks are those of column {printable(found)!r}"
    return Columns(image, (found,), None, note)


def find_image_column(path: Path, schema: Any, image: str | None) -> tuple[str, str | None]:
    """Choose the column of pictures of a file that needs no labels.

    Args:
        path: the file, for messages.
        schema: its Arrow schema.
        image: `data.image_column`.

    Returns:
        The column, and the name of one that would be the labels, if there is any.

    Raises:
        InputError: it is missing, or several could be meant.
    """
    pictures, names = [field.name for field in schema if _holds_bytes(field.type)], list(schema.names)
    column = _column(path, names, "image", image, (IMAGE_COLUMNS, FURTHER_IMAGES, pictures))
    labels = [name for name in names if name.lower() in (*LABEL_COLUMNS, *FURTHER_LABELS) and name != column]
    return column, labels[0] if labels else None


def require_group_column(path: Path, schema: Any, group: str | None) -> None:
    """Refuse a file without the column that `data.group` names.

    Raises:
        InputError: there is none of this name.
    """
    if group is not None and group not in schema.names:
        raise InputError(f"{path} has no column {group!r} (data.group); its columns: {few(list(schema.names))}")


def _column(
    path: Path,
    names: list[str],
    kind: str,
    given: str | None,
    usual: tuple[Iterable[str], Iterable[str], Iterable[str]],
) -> str:
    """The column that the user names, else the first one of the usual names, else the only one that may be meant."""
    option = f"data.{kind}_column"
    if given is not None:
        if given not in names:
            raise InputError(f"{path} has no column {given!r} ({option}); its columns: {few(names)}")
        return given
    first, *further = usual
    if (name := next((n for n in first if n in names), None)) is not None:
        return name
    for candidates in (first, *further):
        known = {candidate.lower() for candidate in candidates}
        found = [name for name in names if name.lower() in known]
        if len(found) == 1:
            return found[0]
        if found:
            both = few(found)
            raise InputError(f'{path} has several columns that may be the {kind}: {both}; set {option} = "{found[0]}"')
    listed = " or ".join(first)
    raise InputError(f"{path} has no {kind} column ({listed}); its columns: {few(names)}; set {option} to one of them")


def _holds_bytes(kind: Any) -> bool:
    """Whether cells are bytes, or a struct with bytes, as Hugging Face stores pictures."""
    texts = ("binary", "large_binary", "binary_view")
    if str(kind) in texts:
        return True
    fields = [kind.field(i) for i in range(kind.num_fields)] if str(kind).startswith("struct") else []
    return any(field.name == "bytes" and str(field.type) in texts for field in fields)


def _features(path: Path, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What Hugging Face says of each column; without it, nothing."""
    if b"huggingface" not in metadata:
        return {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return dict(features)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: the 'huggingface' metadata of its schema cannot be read: {error!r}") from error


def _class_names(path: Path, feature: Any) -> tuple[str, ...] | None:
    if feature is None:
        return None
    try:
        names = feature.get("names")
        return None if names is None else tuple(str(name) for name in names)
    except (AttributeError, TypeError) as error:
        raise InputError(f"{path}: the 'huggingface' metadata of its schema cannot be read: {error!r}") from error
