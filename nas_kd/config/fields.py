"""What the models in `config` say about an option: its section, whether it is a path, its limits and choices."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from nas_kd.config.options import FileIfEndsWith, Options

LIMITS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


def submodel(field: FieldInfo) -> type[Options] | None:
    """The model of a field that is a section, or a tuple of sections."""
    return next((p for p in _parts(field.annotation) if isinstance(p, type) and issubclass(p, Options)), None)


def is_path(field: FieldInfo, value: str) -> bool:
    """Whether this value of the field is a path of a file or folder."""
    endings = [mark.ending for mark in field.metadata if isinstance(mark, FileIfEndsWith)]
    return Path in _parts(field.annotation) or ("://" not in value and any(value.endswith(e) for e in endings))


def is_table(field: FieldInfo) -> bool:
    """Whether the field is a table of anything."""
    return any(get_origin(p) is dict for p in _parts(field.annotation))


def choices(field: FieldInfo) -> tuple[Any, ...]:
    """All values that the field, or each of its items, can have, if they are few and named."""
    return next((get_args(p) for p in _parts(field.annotation) if get_origin(p) is Literal), ())


def limits(field: FieldInfo) -> str:
    """`> 0, < 0.5`, or nothing."""
    found = ((sign, getattr(m, name, None)) for m in field.metadata for name, sign in LIMITS)
    return ", ".join(f"{sign} {number(value)}" for sign, value in found if value is not None)


def number(value: float) -> str:
    """As a person writes it: 1, not 1.0."""
    return f"{value:.15g}"


def several(value: Any) -> bool:
    """Whether the value is a list of any kind."""
    return isinstance(value, list | tuple)


def _parts(annotation: Any) -> list[Any]:
    """The annotation and what stands inside of it: unions, tuples, annotated types."""
    inside = () if get_origin(annotation) is Literal else get_args(annotation)
    return [annotation, *(p for part in inside for p in _parts(part))]
