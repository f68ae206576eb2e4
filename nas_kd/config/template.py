"""A config.toml to start from, made from the models: every option with its default and what it means."""

from typing import Any

import tomli_w
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nas_kd.config.fields import choices, is_table, limits, several, submodel
from nas_kd.config.options import Options, SearchConfig

HEAD = """\
# A run of nas-kd: every option, with its default. All of them may be left out.
# Lines such as `# name = ...` have no default: take the `# ` away and put a value in.
# Relative paths are relative to this file.
"""
COLUMN = 36  # where comments start


def commented_config() -> str:
    """Valid TOML that loads to the defaults."""
    return HEAD + "\n" + "\n".join(_table(SearchConfig, "", ""))


def _table(model: type[Options], header: str, about: str) -> list[str]:
    """Lines of a section: its own options, then the sections in it."""
    lines = [f"[{header}]{about}"] if header else []
    below: list[str] = []
    for name, field in model.model_fields.items():
        full = f"{header}.{name}".strip(".")
        inner = submodel(field)
        if inner is not None:
            about_inner = f"  # {_sentence(inner)}"
            below += ["", *_table(inner, full, about_inner)]
        elif is_table(field):
            below += ["", _aligned(f"# [{full}]", field.description or "")]
        else:
            lines.append(_option(name, field))
    return [*lines, *below, ""] if not header else [*lines, *below]


def _option(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    unset = default is None or default is PydanticUndefined
    given = f"# {name} = ..." if unset else f"{name} = {_value(default)}"
    return _aligned(given, "; ".join(filter(None, (limits(field), field.description or "", _choices(field)))))


def _choices(field: FieldInfo) -> str:
    """The allowed values, where the description does not name them."""
    values = [str(v) for v in choices(field)]
    known = field.description or ""
    return "" if len(values) < 2 or all(v in known for v in values) else " | ".join(values)


def _aligned(given: str, comment: str) -> str:
    return f"{given:<{COLUMN - 2}}  # {comment}" if comment else given


def _value(value: Any) -> str:
    if several(value):
        return f"[{', '.join(_value(v) for v in value)}]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()


def _sentence(model: type[Options]) -> str:
    """The first line of the model's docstring."""
    return (model.__doc__ or "").strip().splitlines()[0]
