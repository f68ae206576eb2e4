"""Registries of everything that can be chosen by name: a folder is a registry, one file in it adds one thing.

A user's own is named `package.module:Name`, and looked up in the working folder, beside the config file and on Python's
path; in Python the object itself will do.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

from nas_kd.errors import InputError, unknown
from nas_kd.user_code import describe_error, unchanged_settings

# Kind -> the package whose modules define PLUGIN, each adding one thing under its `name`.
REGISTRIES: Mapping[str, str] = {
    "method": "nas_kd.methods",
    "space": "search_spaces",
    "dataset": "nas_kd.data",
    "device": "nas_kd.latency.devices",
    "precision": "nas_kd.quantization.precisions",
    "policy": "nas_kd.kd.chain_policies",
    "sampler": "nas_kd.nas.samplers",
    "executor": "nas_kd.executors",
    "score": "nas_kd.scores",
    "task": "nas_kd.tasks",
    "baseline": "nas_kd.kd.baselines",
    "head": "nas_kd.models.heads",
    "collection": "nas_kd.models.collections",
}
ATTRIBUTE = "PLUGIN"
IN_MEMORY = "memory:"  # begins the name of an object that was given in Python
_IDENTITY = re.compile(rf"{IN_MEMORY}\w+?-(?:(.+)-)?[0-9a-f]{{16,}}")
T = TypeVar("T")
_objects: dict[str, Any] = {}


@cache
def available(kind: str) -> Mapping[str, Any]:
    """All built-in plug-ins of a kind, by name, sorted.

    Args:
        kind: a key of `REGISTRIES`.
    """
    package = importlib.import_module(REGISTRIES[kind])
    modules = (m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
    plugins = (getattr(importlib.import_module(name), ATTRIBUTE, None) for name in modules)
    return dict(sorted((p.name, p) for p in plugins if p is not None))


@overload
def load(kind: str, given: Any) -> Any: ...
@overload
def load(kind: str, given: Any, expected: type[T]) -> T: ...
def load(kind: str, given: Any, expected: type[T] | None = None) -> Any:
    """Find a plug-in.

    Args:
        kind: a key of `REGISTRIES`.
        given: a name in the registry, `package.module:Name`, or the object itself.
        expected: what the plug-in must be an instance of.

    Raises:
        InputError: there is none of this name (the message suggests the nearest), or it is something else.
    """
    found = _find(kind, given) if isinstance(given, str) else given
    if expected is not None and not isinstance(found, expected):
        wanted = f"{expected.__module__}.{expected.__name__}"
        raise InputError(f"{kind} {given!r} must be an instance of {wanted}, got {type(found).__name__}")
    return found


def _find(kind: str, name: str) -> Any:
    if name.startswith(IN_MEMORY):
        if name not in _objects:
            raise InputError(
                f"{kind} {name!r} was an object in the Python program that began this run; "
                "go on from that program, with the same object"
            )
        return _objects[name]
    if ":" in name:
        return import_object(name)
    plugins = available(kind)
    if name not in plugins:
        raise unknown(kind, name, plugins)
    return plugins[name]


def remember(kind: str, identity: str, value: Any) -> str:
    """Make an object of this program known under a name that a config can hold; returns the name.

    Args:
        kind: of plug-in, or "teacher".
        identity: follows from the object's content, so that the same object has the same name in another process.
        value: the object.
    """
    name = f"{IN_MEMORY}{kind}-{identity}"
    _objects[name] = value
    return name


def display_name(name: str) -> str:
    """Name a plug-in for people: `logit_matching` for `memory:method-logit_matching-0123456789abcdef`.

    Args:
        name: as a config has it; a method's may be a sum, `a+b`.
    """
    if IN_MEMORY not in name:
        return name
    return "+".join(_IDENTITY.sub(lambda match: match[1] or "given in Python", part) for part in name.split("+"))


def remembered(config: Any) -> Mapping[str, Any]:
    """Find the objects made known by `remember` that a config names.

    Args:
        config: nested mappings and sequences of options; a method's name may be a sum, `a+b`.

    Returns:
        The objects by name. One that this process does not know is left out.
    """
    if isinstance(config, str):
        return {name: _objects[name] for name in config.split("+") if name in _objects}
    parts = config.values() if isinstance(config, Mapping) else config if isinstance(config, list | tuple) else ()
    return {name: value for part in parts for name, value in remembered(part).items()}


def remember_all(objects: Mapping[str, Any]) -> None:
    """Make objects known in another process, as `remembered` gave them there."""
    _objects.update(objects)


def search_folder(folder: Path) -> None:
    """Look for users' modules in this folder too, before anywhere else."""
    path = str(folder.resolve())
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)


def import_object(name: str) -> Any:
    """Import the object at `package.module:attribute`; the working folder is searched too.

    Raises:
        InputError: the module or the attribute is missing, or the module fails on import.
    """
    module_name, _, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        with unchanged_settings():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise InputError(f"cannot import {module_name!r} of {name!r}: {describe_error(error)}") from error
    if not hasattr(module, attribute):
        own = [n for n, value in vars(module).items() if getattr(value, "__module__", module_name) == module_name]
        raise unknown(f"name in {module_name}", attribute, [n for n in own if not n.startswith("_")])
    return getattr(module, attribute)
