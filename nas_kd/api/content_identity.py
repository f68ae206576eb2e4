"""Identities that follow from the content of Python objects: the same in another process, another after any change."""

import hashlib
import inspect
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_kd.data.layout import as_numpy
from nas_kd.data.source import RawData
from nas_kd.data.split_names import SPLITS
from nas_kd.serialization import fingerprint

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Path)


def module_identity(module: nn.Module) -> str:
    """Identify a network by its layers, its weights and buffers, and the source code of its own classes.

    Args:
        module: on any device; unchanged.

    Returns:
        32 hex digits.
    """
    content = _Content()
    content.text(f"{type(module).__module__}.{type(module).__qualname__}\n{module}")
    for kind in {type(part): None for part in module.modules()}:
        if not kind.__module__.startswith("torch."):
            content.text(source_identity(kind))
    if isinstance(module, torch.jit.ScriptModule):
        content.text(str(module.graph))
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        content.text(name)
        content.array(tensor)
    return content.digest()


def data_identity(raw: RawData) -> str:
    """Identify data by their samples, labels, classes and the teacher's view; returns 32 hex digits.

    Args:
        raw: as a source returns it.
    """
    content = _Content()
    content.add((raw.classes, raw.flip_safe, raw.pictures, raw.notes))
    for split in SPLITS:
        for values in getattr(raw, split) or ():
            content.text(split)
            content.array(values)
    for split, names in raw.groups.items():
        content.add((split, [str(name) for name in as_numpy(names).tolist()]))
    if raw.unlabelled is not None:
        content.text("unlabelled")
        content.array(raw.unlabelled)
    if raw.teacher_view is not None:
        content.add((raw.teacher_view.x, raw.teacher_view.pairs))
    return content.digest()


def object_identity(value: Any) -> str:
    """Identify an object by the source code of its class and the content of its attributes; returns 32 hex digits."""
    content = _Content()
    content.add(value)
    return content.digest()


def source_identity(kind: Any) -> str:
    """Identify a class or function by its name and source code, which is unknown if it was typed in at a prompt."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = ""
    return fingerprint([kind.__module__, kind.__qualname__, source])


class _Content:
    """A sha256 over nested values, each with its type and its end, so that different values give different bytes."""

    def __init__(self) -> None:
        self._hash, self._inside = hashlib.sha256(), set[int]()

    def digest(self) -> str:
        return self._hash.hexdigest()[:32]

    def text(self, text: str) -> None:
        encoded = _ADDRESS.sub("", text).encode()
        self._hash.update(b"%d:" % len(encoded) + encoded)

    def array(self, values: Any) -> None:
        array = np.ascontiguousarray(as_numpy(values))
        if array.dtype.hasobject:  # its bytes are addresses
            self.add(array.tolist())
            return
        self.text(f"{array.dtype} {array.shape}")
        self._hash.update(array.reshape(-1).view(np.uint8).data)

    def add(self, value: Any) -> None:
        if isinstance(value, np.ndarray | np.generic | Tensor):
            self.array(value)
        elif isinstance(value, _PLAIN):
            self.text(f"{type(value).__name__} {value!r}")
        elif id(value) not in self._inside:
            self._inside.add(id(value))
            self._compound(value)
            self._inside.discard(id(value))

    def _compound(self, value: Any) -> None:
        if isinstance(value, type) or inspect.isroutine(value):
            self.text(source_identity(value))
        elif isinstance(value, Mapping):
            self._items("mapping", [part for key in sorted(value, key=repr) for part in (key, value[key])])
        elif isinstance(value, Set):
            self._items("set", sorted(value, key=repr))
        elif isinstance(value, list | tuple):
            self._items("sequence", value)
        elif isinstance(value, nn.Module):
            self.text(module_identity(value))
        elif hasattr(value, "__dict__"):
            self._items("object", [type(value), dict(vars(value))])
        else:
            self.text(f"{type(value).__qualname__} {value!r}")

    def _items(self, kind: str, items: Any) -> None:
        self.text(f"{kind} {len(items)}")
        for item in items:
            self.add(item)
