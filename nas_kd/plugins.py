"""Finds methods, spaces, data sources, devices, precisions: folders are registries; others: `package.module:Name`."""

import importlib
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nas_kd.errors import InputError, unknown

# Every module below the package that defines EXPORT adds one thing, under EXPORT's `name`.
PACKAGES: Mapping[str, str] = {
    "method": "nas_kd.methods",
    "space": "search_spaces",
    "dataset": "nas_kd.data",
    "device": "nas_kd.latency.devices",
    "precision": "nas_kd.quantization.precisions",
}
EXPORT = "PLUGIN"


@cache
def found(kind: str) -> Mapping[str, Any]:
    """All built-in plug-ins of a kind ("method", "space", "dataset", "device", "precision"), by name, sorted."""
    package = importlib.import_module(PACKAGES[kind])
    modules = (m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
    plugins = (getattr(importlib.import_module(name), EXPORT, None) for name in modules)
    return dict(sorted((p.name, p) for p in plugins if p is not None))


def load(kind: str, name: str) -> Any:
    """The plug-in called `name`, or the object at `package.module:Name`.

    Raises:
        InputError: there is none; the message suggests the nearest name.
    """
    if ":" in name:
        return import_object(name)
    plugins = found(kind)
    if name not in plugins:
        raise unknown(kind, name, plugins)
    return plugins[name]


def import_object(name: str) -> Any:
    """The object at `package.module:attribute`; the working folder is searched too.

    Raises:
        InputError: the module or the attribute is missing, or the module fails on import.
    """
    module_name, _, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise InputError(f"cannot import {module_name!r} of {name!r}: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise unknown(f"name in {module_name}", attribute, [n for n in dir(module) if not n.startswith("_")])
    return getattr(module, attribute)
