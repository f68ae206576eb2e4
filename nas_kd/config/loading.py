"""Reads and validates config.toml with overrides, and writes it; every mistake is reported in one line."""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from nas_kd.config.error_messages import describe_validation_error, renamed_options, wrong_type
from nas_kd.config.fields import is_list, is_path, section_class
from nas_kd.config.options import SearchConfig
from nas_kd.config.section import Options
from nas_kd.config.template import commented_config
from nas_kd.config.toml_file import read_toml
from nas_kd.errors import InputError
from nas_kd.plugins import search_folder

__all__ = [
    "card_overrides",
    "commented_config",
    "differing_keys",
    "dump_config",
    "load_config",
    "merged",
    "parse_override",
    "path_options",
]
MODULE_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def load_config(
    path: Path | None, overrides: Mapping[str, Any] | None = None, working_folder: Path | None = None
) -> SearchConfig:
    """Read and validate a config.

    In paths, `~` is the home folder and `$NAME` an environment variable.

    A user's own objects, `package.module:Name`, are looked up beside the file from now on.

    Args:
        path: the TOML file, whose relative paths are relative to its folder; None: all defaults.
        overrides: values by dotted key, such as {"search.trials": 20} or, of several teachers, {"teacher.0.epochs": 9};
            None: not given. Relative paths are relative to `working_folder`.
        working_folder: None: the current one.

    Raises:
        InputError: there is no such file, it is not TOML, an option is unknown or renamed, or a value is of the wrong
            type or out of its range.
    """
    raw: Any = {}
    if path is not None:
        given = read_toml(path, f"`nas-kd init {path}` writes one to start from")
        raw = _with_absolute_paths(given, SearchConfig, path.parent.resolve())
    folder = (working_folder or Path.cwd()).resolve()
    for key, value in (overrides or {}).items():
        if value is not None:
            raw = _overridden(raw, key, value, folder)
    if path is not None and "plugin_dir" not in raw and _names_modules(raw):
        raw = {**raw, "plugin_dir": str(path.parent.resolve())}
    config = _validated(raw)
    if config.plugin_dir is not None:
        search_folder(config.plugin_dir)
    return config


def merged(config: SearchConfig, given: Mapping[str, Any]) -> SearchConfig:
    """Replace options of a config.

    Args:
        config: stays as it is.
        given: values by dotted key, or whole sections by name.

    Raises:
        InputError: an option is unknown, or a value is of the wrong type or out of its range.
    """
    raw: Any = config.model_dump(exclude_unset=True)
    for key, value in given.items():
        raw = _overridden(raw, key, value, Path.cwd())
    return _validated(raw)


def _validated(raw: Any) -> SearchConfig:
    if problem := renamed_options(_flat(raw)):
        raise InputError(problem)
    try:
        config = SearchConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError(describe_validation_error(error, raw)) from error
    if problem := wrong_type(raw, config):
        raise InputError(problem)
    return config


def _names_modules(raw: Any) -> bool:
    """Whether some option names a user's own object, `package.module:Name`."""
    if isinstance(raw, dict | list):
        return any(map(_names_modules, raw.values() if isinstance(raw, dict) else raw))
    return isinstance(raw, str) and MODULE_NAME.fullmatch(raw) is not None


def parse_override(text: str) -> tuple[str, Any]:
    """Parse `section.key=value`, as given to `--set`.

    Returns:
        The dotted key, and the value as TOML or, if it is not TOML, as text.

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
    # A line break in the text could define further keys.
    return key.strip(), parsed["value"] if len(parsed) == 1 else value.strip()


def card_overrides(settings: Sequence[str] | None) -> dict[str, Any]:
    """Parse texts `card.KEY=VALUE`, the only options that an export has; returns values by KEY.

    Raises:
        InputError: another option is given.
    """
    given = dict(parse_override(text) for text in settings or [])
    if others := [key for key in given if not key.startswith("card.")]:
        raise InputError(f"{others[0]}: an export only takes options of [card], such as card.license=mit")
    return {key.removeprefix("card."): value for key, value in given.items()}


def dump_config(config: SearchConfig, folder: Path | None = None) -> str:
    """Write a config as TOML that loads back equal; None is left out.

    Args:
        config: to write.
        folder: where the file goes. Paths near it, inside the folder two levels above, are written relative to it, so
            that they stay right when all are moved together; others are absolute. None: all are absolute.
    """
    data = _plain(config.model_dump(exclude_none=True), None if folder is None else folder.resolve())
    if len(data["teacher"]) == 1:
        data["teacher"] = data["teacher"][0]
    return tomli_w.dumps(data)


def path_options(config: SearchConfig) -> dict[str, Path]:
    """List the options that are paths, of several the first, by dotted key as in `differing_keys`."""
    return {key: Path(value) for key, value in _flat(_paths(config)).items() if isinstance(value, str)}


def _paths(section: Options) -> dict[str, Any]:
    """The paths of a section and of those in it, as nested dictionaries."""
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Options):
            found[name] = _paths(value)
        elif is_list(value) and all(isinstance(item, Options) for item in value):
            found[name] = [_paths(item) for item in value]
        elif isinstance(value, str | Path) and is_path(field, str(value)):
            found[name] = str(value)
        elif isinstance(value, tuple) and value and all(isinstance(path, Path) for path in value):
            found[name] = str(value[0])
    return {name: value for name, value in found.items() if value}


def differing_keys(a: SearchConfig, b: SearchConfig) -> list[str]:
    """List the dotted keys whose values differ between two configs, sorted."""
    first, second = (_flat(_plain(c.model_dump())) for c in (a, b))
    return sorted(k for k in first.keys() | second.keys() if first.get(k) != second.get(k))


def _with_absolute_paths(raw: Any, model: type[Options], folder: Path) -> Any:
    """Make the relative paths of a section absolute, starting from `folder`."""
    if not isinstance(raw, dict):
        return raw
    absolute = dict(raw)
    for name, field in model.model_fields.items():
        value = raw.get(name)
        if isinstance(value, str) and is_path(field, value):
            absolute[name] = str(folder / _expand_user(value))
        elif isinstance(value, list | tuple) and all(isinstance(item, str) and is_path(field, item) for item in value):
            absolute[name] = [str(folder / _expand_user(item)) for item in value]
        elif (inner := section_class(field)) and value is not None:
            items = value if isinstance(value, list) else [value]
            done = [_with_absolute_paths(item, inner, folder) for item in items]
            absolute[name] = done if isinstance(value, list) else done[0]
    return absolute


def _expand_user(path: str) -> Path:
    if "\0" in path:
        raise InputError(f"{path!a}: a path cannot have a NUL")
    try:
        return Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: there is no such user's home folder") from error


def _overridden(raw: dict[str, Any], key: str, value: Any, folder: Path) -> dict[str, Any]:
    """Set one dotted key; unknown keys are refused later, by the validation."""
    parts = key.split(".")
    if not all(parts):
        raise InputError(f"{key!r} is no option: it must be section.key, such as search.trials")
    names = [p for p in parts if not p.isdecimal()]
    nested: Any = str(value) if isinstance(value, Path) else value
    for name in reversed(names):
        nested = {name: nested}
    absolute = _with_absolute_paths(nested, SearchConfig, folder)
    for name in names:
        absolute = absolute[name]
    return dict(_set_in(raw, parts, absolute, ""))


def _set_in(place: Any, parts: list[str], value: Any, so_far: str) -> Any:
    """Copy a table with the value set at the path `parts`; missing sections are created."""
    if not parts:
        return value
    key, *rest = parts
    where = f"{so_far}.{key}".strip(".")
    if is_list(place) and place and all(isinstance(item, dict) for item in place):
        if len(place) == 1 and not key.isdecimal():
            return [_set_in(place[0], parts, value, so_far)]
        if not key.isdecimal() or int(key) >= len(place):
            raise InputError(
                f"{so_far}: there are {len(place)}; name one by its position: {so_far}.0 ... {len(place) - 1}"
            )
        return [_set_in(item, rest, value, where) if n == int(key) else item for n, item in enumerate(place)]
    if not isinstance(place, dict):
        raise InputError(f"{so_far}: is a value, not a section; it has no {key!r}")
    return {**place, key: _set_in(place.get(key, {}), rest, value, where)}


def _plain(value: Any, folder: Path | None = None) -> Any:
    """Convert a value to the types of TOML; see `dump_config` for paths."""
    if isinstance(value, Path):
        return _path_text(value.absolute(), folder)
    if isinstance(value, Mapping):
        return {k: _plain(v, folder) for k, v in value.items()}
    return [_plain(v, folder) for v in value] if is_list(value) else value


def _path_text(path: Path, folder: Path | None) -> str:
    near = [place for place in folder.parents[:2] if place != place.parent] if folder else []
    there = path.parent.resolve() / path.name  # a link inside stays one
    return os.path.relpath(there, folder) if near and there.is_relative_to(near[-1]) else str(path)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to dotted keys; tables of a list by position, unless there is only one."""
    if isinstance(value, dict) and value:
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        inner = value[0] if len(value) == 1 else {str(n): v for n, v in enumerate(value)}
        return _flat(inner, prefix)
    return {prefix.rstrip("."): value}
