"""config.toml: read with overrides and checked, so that every mistake is one clear line; and written."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from nas_kd.config.error_messages import explain, wrong_type
from nas_kd.config.fields import is_path, several, submodel
from nas_kd.config.options import Options, SearchConfig
from nas_kd.config.template import commented_config
from nas_kd.config.toml_file import read_toml
from nas_kd.errors import InputError

__all__ = ["commented_config", "differing_keys", "dump_config", "load_config", "parse_override"]


def load_config(
    path: Path | None, overrides: Mapping[str, Any] | None = None, working_folder: Path | None = None
) -> SearchConfig:
    """The config at `path` (None: all defaults), with `overrides` by dotted key ("search.trials": 20; None: not given).

    Relative paths are taken from the file's folder in the file, from the working folder in overrides; `~` is the home,
    `$NAME` a variable of the environment. Of several teachers, one is named by its place: `teacher.0.epochs`.

    Raises:
        InputError: no such file, not TOML, an unknown key or section, a value of the wrong type or out of its range.
    """
    raw: Any = {}
    if path is not None:
        given = read_toml(path, f"`nas-kd init {path}` writes one to start from")
        raw = _anchored(given, SearchConfig, path.parent.resolve())
    folder = (working_folder or Path.cwd()).resolve()
    for key, value in (overrides or {}).items():
        if value is not None:
            raw = _overridden(raw, key, value, folder)
    try:
        config = SearchConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError(explain(error, raw)) from error
    if problem := wrong_type(raw, config):
        raise InputError(problem)
    return config


def parse_override(text: str) -> tuple[str, Any]:
    """`section.key=value` as a key and a value: a TOML value, or else the text itself.

    Raises:
        InputError: there is no `=`, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{text!r} must be section.key=value, such as search.trials=20")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except ValueError:
        return key.strip(), value.strip()
    # A line break could bring in more keys than the one.
    return key.strip(), parsed["value"] if len(parsed) == 1 else value.strip()


def dump_config(config: SearchConfig) -> str:
    """The config as TOML that loads back equal; what is None is left out, paths are absolute."""
    data = _plain(config.model_dump(exclude_none=True))
    if len(data["teacher"]) == 1:
        data["teacher"] = data["teacher"][0]
    return tomli_w.dumps(data)


def differing_keys(a: SearchConfig, b: SearchConfig) -> list[str]:
    """Dotted keys whose values differ, sorted."""
    first, second = (_flat(_plain(c.model_dump())) for c in (a, b))
    return sorted(k for k in first.keys() | second.keys() if first.get(k) != second.get(k))


def _anchored(raw: Any, model: type[Options], folder: Path) -> Any:
    """`raw` with the model's relative paths made absolute."""
    if not isinstance(raw, dict):
        return raw
    anchored = dict(raw)
    for name, field in model.model_fields.items():
        value = raw.get(name)
        if isinstance(value, str) and is_path(field, value):
            anchored[name] = str(folder / _at_home(value))
        elif (inner := submodel(field)) and value is not None:
            items = value if isinstance(value, list) else [value]
            done = [_anchored(item, inner, folder) for item in items]
            anchored[name] = done if isinstance(value, list) else done[0]
    return anchored


def _at_home(path: str) -> Path:
    try:
        return Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: there is no such user's home folder") from error


def _overridden(raw: dict[str, Any], key: str, value: Any, folder: Path) -> dict[str, Any]:
    """`raw` with one dotted key set; unknown ones are left to be refused with the rest."""
    parts = key.split(".")
    if not all(parts):
        raise InputError(f"{key!r} is no option: it must be section.key, such as search.trials")
    names = [p for p in parts if not p.isdecimal()]
    nested: Any = str(value) if isinstance(value, Path) else value
    for name in reversed(names):
        nested = {name: nested}
    anchored = _anchored(nested, SearchConfig, folder)
    for name in names:
        anchored = anchored[name]
    return dict(_with(raw, parts, anchored, ""))


def _with(place: Any, parts: list[str], value: Any, so_far: str) -> Any:
    """`place` with the value at the end of the way; sections that are not there yet are made."""
    if not parts:
        return value
    key, *rest = parts
    where = f"{so_far}.{key}".strip(".")
    if isinstance(place, list) and place and all(isinstance(item, dict) for item in place):
        if len(place) == 1 and not key.isdecimal():
            return [_with(place[0], parts, value, so_far)]
        if not key.isdecimal() or int(key) >= len(place):
            raise InputError(
                f"{so_far}: there are {len(place)}; name one by its place: {so_far}.0 ... {len(place) - 1}"
            )
        return [_with(item, rest, value, where) if n == int(key) else item for n, item in enumerate(place)]
    if not isinstance(place, dict):
        raise InputError(f"{so_far}: is a value, not a section; it has no {key!r}")
    return {**place, key: _with(place.get(key, {}), rest, value, where)}


def _plain(value: Any) -> Any:
    """Only what TOML knows."""
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if several(value) else value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; a list of tables by place, but for the only one."""
    if isinstance(value, dict) and value:
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        inner = value[0] if len(value) == 1 else {str(n): v for n, v in enumerate(value)}
        return _flat(inner, prefix)
    return {prefix.rstrip("."): value}
