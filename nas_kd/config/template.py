"""Writes a commented config.toml from the option classes: every option with its default and description."""

from typing import Any

import tomli_w
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nas_kd.config.fields import allowed_values, format_limits, is_auto, is_list, is_table, section_class
from nas_kd.config.options import SearchConfig
from nas_kd.config.section import Options, is_unset_by_auto
from nas_kd.config.value_types import AUTO

HEAD = """\
# A run of nas-kd: every option, with its default. All of them may be left out.
# Lines such as `# name = ...` have no default: remove the `# ` and write a value.
# Relative paths are relative to this file.
"""
COMMENT_COLUMN = 36


def commented_config() -> str:
    """Write a config with all defaults: valid TOML with a comment for each option."""
    return HEAD + "\n" + "\n".join(_table(SearchConfig, "", ""))


def _table(model: type[Options], header: str, comment: str) -> list[str]:
    """Lines of a section: its own options, then the sections in it."""
    lines = [f"[{header}]{comment}"] if header else []
    below: list[str] = []
    for name, field in model.model_fields.items():
        full = f"{header}.{name}".strip(".")
        inner = section_class(field)
        if inner is not None:
            below += ["", *_table(inner, full, f"  # {_first_line(inner)}")]
        elif is_table(field):
            below += ["", _aligned(f"# [{full}]", field.description or "")]
        else:
            lines.append(_option(name, field))
    return [*lines, *below, ""] if not header else [*lines, *below]


def _option(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    unset = default is None or default is PydanticUndefined
    if (unset and is_auto(field)) or is_unset_by_auto(field):
        default, unset = AUTO, False
    given = f"# {name} = ..." if unset else f"{name} = {_value(default)}"
    return _aligned(given, "; ".join(filter(None, (format_limits(field), field.description or "", _choices(field)))))


def _choices(field: FieldInfo) -> str:
    """The allowed values, unless the description names them all."""
    values = [str(v) for v in allowed_values(field)]
    known = field.description or ""
    return "" if len(values) < 2 or all(v in known for v in values) else " | ".join(values)


def _aligned(given: str, comment: str) -> str:
    return f"{given:<{COMMENT_COLUMN - 2}}  # {comment}" if comment else given


def _value(value: Any) -> str:
    if is_list(value):
        return f"[{', '.join(_value(v) for v in value)}]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()


def _first_line(model: type[Options]) -> str:
    """First line of the section's docstring."""
    return (model.__doc__ or "").strip().splitlines()[0]
