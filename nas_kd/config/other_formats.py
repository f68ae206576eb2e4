"""Recognises configs that are written in JSON or YAML, and shows how they begin in TOML. Standard library only."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

SHOWN_LINES = 3
_ENTRY = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):(?:\s+(?P<value>.*))?")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def describe_other_format(text: str, file_name: str) -> str | None:
    """Say that a text is JSON or YAML, with its first lines in TOML; None if it seems to be neither.

    Args:
        text: that is not TOML.
        file_name: whose ending helps to tell.
    """
    ending = file_name.rpartition(".")[2].lower()
    found = _read_json(text)
    kind = "JSON"
    if found is None and not (ending == "json" or text.lstrip().startswith(("{", "<"))):
        kind, found = "YAML", _read_yaml(text)
    if not found:
        return {"json": "this is no TOML but JSON", "yaml": _YAML, "yml": _YAML}.get(ending)
    lines = list(_toml_lines(found))
    more = " / ..." if len(lines) > SHOWN_LINES else ""
    return f"this is {kind}; nas-kd reads TOML, in which it begins: {' / '.join(lines[:SHOWN_LINES])}{more}"


_YAML = "this is no TOML but YAML"


def _read_json(text: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _read_yaml(text: str) -> Mapping[str, Any] | None:
    """Read nested mappings of plain values and lists, which is what configs are made of; None for anything else."""
    root: dict[str, Any] = {}
    open_tables: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    items: list[Any] | None = None  # of the list that the lines belong to
    for line in text.splitlines():
        content = line.split(" #")[0].rstrip()
        if not content or content.lstrip().startswith("#") or content in ("---", "..."):
            continue
        if content.lstrip().startswith("- ") and items is not None:
            items.append(_yaml_value(content.lstrip()[2:]))
            continue
        entry = _ENTRY.fullmatch(content)
        if entry is None:
            return None
        indent = len(entry["indent"])
        while open_tables[-1][0] >= indent:
            open_tables.pop()
        table, value = open_tables[-1][1], entry["value"]
        if value:
            table[entry["key"]], items = _yaml_value(value), None
            continue
        inner = _Pending()
        table[entry["key"]], items = inner, inner.items_below
        open_tables.append((indent, inner))
    return _resolved(root)


class _Pending(dict[str, Any]):
    """What follows a key without a value: a table, or a list."""

    def __init__(self) -> None:
        super().__init__()
        self.items_below: list[Any] = []


def _resolved(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: (value.items_below or _resolved(value)) if isinstance(value, _Pending) else value
        for key, value in table.items()
    }


_YAML_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "{}": {}}


def _yaml_value(text: str) -> Any:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_yaml_value(item) for item in text[1:-1].split(",") if item.strip()]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text.lower() in _YAML_WORDS:
        return _YAML_WORDS[text.lower()]
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def _toml_lines(values: Mapping[str, Any], header: str = "", *, in_list: bool = False) -> Iterator[str]:
    """Lines of TOML: plain values first, then the tables; what TOML does not have is left out."""
    plain = {k: v for k, v in values.items() if v is not None and not _tables(v)}
    if in_list:
        yield f"[[{header}]]"
    elif header and plain:
        yield f"[{header}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in values.items():
        for table in _tables(value):
            yield from _toml_lines(table, f"{header}.{_key(key)}".strip("."), in_list=isinstance(value, list))


def _tables(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return [value]
    is_list = isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)
    return list(value) if is_list else []


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(v) for v in value if v is not None)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items() if v is not None)}}}"
    return json.dumps(value)
