"""A user's own device profile: a TOML file, in which every mistake is one line that names file and key.

Read with the standard library alone: a board whose agent measures has little more than ONNX Runtime.
"""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nas_kd.config.toml_file import read_toml
from nas_kd.errors import InputError


def _line(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _options(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) or type(v) is int for v in value.values())


# Each key, what its value must be, and in words. Which texts are allowed is the profile's own to say.
KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_line, "one line of text"),
    "summary": (_line, "one line of text"),
    "provider": (_line, "one line of text"),
    "provider_options": (_options, "a table of texts and whole numbers"),
    "threads": (lambda value: value == "all" or _count(value), 'a whole number >= 1, or "all" (every core)'),
    "spinning": (_truth, "true or false"),
    "optimisation": (_line, "one line of text"),
    "pinned": (_truth, "true or false"),
    "batch_size": (_count, "a whole number >= 1"),
    "precisions": (lambda value: isinstance(value, list) and all(map(_line, value)), "a list of texts"),
    "integer_scheme": (_line, "one line of text"),
    "onnxruntime": (_line, "one line of text, such as '>=1.20,<2'"),
}


def read_device_file(path: Path) -> dict[str, Any]:
    """Arguments of a `DeviceProfile`, of the right types.

    Raises:
        InputError: no such file, not TOML, an unknown key, or a value of the wrong type.
    """
    given = read_toml(path, "docs/devices.md shows how to write one")
    for key, value in given.items():
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(sorted(KEYS))}"
            raise InputError(f"{path}: {key}: unknown key; {hint}")
        fits, description = KEYS[key]
        if not fits(value):
            raise InputError(f"{path}: {key} must be {description}, got {value!r}")
    if "threads" in given:
        given["threads"] = None if given["threads"] == "all" else given["threads"]
    if "precisions" in given:
        given["precisions"] = tuple(given["precisions"])
    options = given.get("provider_options", {})
    given["provider_options"] = tuple(sorted((name, str(value)) for name, value in options.items()))
    return {"name": path.stem, "summary": f"the profile in {path.name}"} | given
