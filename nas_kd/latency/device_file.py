"""Reads a user's device profile from a TOML file; every mistake is reported in one line with file and key.

Needs the standard library only: the machine of a device agent has little more than ONNX Runtime.
"""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nas_kd.config.toml_file import read_toml
from nas_kd.errors import InputError


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_options(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) or type(v) is int for v in value.values())


# For each key, a check of its value's type and its description. `DeviceProfile` checks which texts are allowed.
KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_line, "one line of text"),
    "summary": (_is_line, "one line of text"),
    "provider": (_is_line, "one line of text"),
    "provider_options": (_is_options, "a table of texts and whole numbers"),
    "threads": (lambda value: value == "all" or _is_count(value), 'a whole number >= 1, or "all" (every core)'),
    "spinning": (_is_bool, "true or false"),
    "optimisation": (_is_line, "one line of text"),
    "pinned": (_is_bool, "true or false"),
    "batch_size": (_is_count, "a whole number >= 1"),
    "precisions": (lambda value: isinstance(value, list) and all(map(_is_line, value)), "a list of texts"),
    "integer_scheme": (_is_line, "one line of text"),
    "onnxruntime": (_is_line, "one line of text, such as '>=1.20,<2'"),
}


def read_device_file(path: Path) -> dict[str, Any]:
    """Read the arguments of a `DeviceProfile` from a TOML file, with values of the right types.

    Raises:
        InputError: There is no such file, it is not TOML, a key is unknown, or a value has the wrong type.
    """
    given = read_toml(path, "docs/devices.md shows how to write one")
    for key, value in given.items():
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(sorted(KEYS))}"
            raise InputError(f"{path}: {key}: unknown key; {hint}")
        is_valid, description = KEYS[key]
        if not is_valid(value):
            raise InputError(f"{path}: {key} must be {description}, got {value!r}")
    if "threads" in given:
        given["threads"] = None if given["threads"] == "all" else given["threads"]
    if "precisions" in given:
        given["precisions"] = tuple(given["precisions"])
    options = given.get("provider_options", {})
    given["provider_options"] = tuple(sorted((name, str(value)) for name, value in options.items()))
    return {"name": path.stem, "summary": f"the profile in {path.name}"} | given
