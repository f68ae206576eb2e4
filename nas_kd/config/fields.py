"""Facts about an option, read from its pydantic field: its section, limits and allowed values."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from nas_kd.config.section import Options
from nas_kd.config.value_types import AUTO, AutoIfNone, FileIfEndsWith

LIMITS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


def section_class(field: FieldInfo) -> type[Options] | None:
    """Return the class of a field that is a section or a tuple of sections; None for other fields."""
    return next((p for p in _parts(field.annotation) if isinstance(p, type) and issubclass(p, Options)), None)


def is_path(field: FieldInfo, value: str) -> bool:
    """Whether this value of the field is the path of a file or folder."""
    if is_auto(field) and value == AUTO:
        return False
    endings = [mark.ending for mark in field.metadata if isinstance(mark, FileIfEndsWith)]
    return Path in _parts(field.annotation) or ("://" not in value and any(value.endswith(e) for e in endings))


def is_auto(field: FieldInfo) -> bool:
    """Whether None of this field is written "auto"."""
    return any(isinstance(mark, AutoIfNone) for mark in field.metadata)


def is_table(field: FieldInfo) -> bool:
    """Whether the field is a table with arbitrary keys."""
    return any(get_origin(p) is dict for p in _parts(field.annotation))


def allowed_values(field: FieldInfo) -> tuple[Any, ...]:
    """List the values that a `Literal` field, or each of its items, can have; empty for other fields."""
    return next((get_args(p) for p in _parts(field.annotation) if get_origin(p) is Literal), ())


def format_limits(field: FieldInfo) -> str:
    """Format the limits of a number, such as `> 0, < 0.5`; empty if there are none."""
    found = ((sign, getattr(m, name, None)) for m in field.metadata for name, sign in LIMITS)
    return ", ".join(f"{sign} {format_number(value)}" for sign, value in found if value is not None)


def format_number(value: float) -> str:
    """Format a number as people write it: 1 rather than 1.0."""
    return f"{value:.15g}"


def is_list(value: Any) -> bool:
    """Whether the value is a list or a tuple."""
    return isinstance(value, list | tuple)


def _parts(annotation: Any) -> list[Any]:
    """The annotation and the types inside it, of unions, tuples and annotated types."""
    inside = () if get_origin(annotation) is Literal else get_args(annotation)
    return [annotation, *(p for part in inside for p in _parts(part))]
