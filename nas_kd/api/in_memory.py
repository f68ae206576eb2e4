"""Objects that a Python program passes to a search, under names that a config can hold.

A name follows from the object's content, so that the same call in another process goes on with the same run.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_kd.config.options import DataOptions, TeacherOptions
from nas_kd.data.npz import as_numpy
from nas_kd.data.source import Arrays, RawData, Source
from nas_kd.errors import InputError
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.methods.base import Method
from nas_kd.models.search_space import load_space
from nas_kd.plugins import remember
from nas_kd.serialization import fingerprint

SPLITS = ("train", "val", "test")
Options = dict[str, Any]


@dataclass(frozen=True)
class InMemorySource:
    """A data source whose samples were given in Python."""

    raw: RawData
    name: str = "memory"
    summary: str = "samples given in Python"
    uses: frozenset[str] = frozenset()

    def load(self, options: DataOptions) -> RawData:
        """Return the samples as they were given."""
        return self.raw


def teacher_options(teacher: Any) -> list[Options]:
    """Options of `[teacher]` for what was given.

    Args:
        teacher: a module, an `.onnx` path, `TeacherOptions`, a mapping of options in which `module` may be a module,
            or a list of these.

    Raises:
        InputError: it is anything else.
    """
    if isinstance(teacher, list | tuple):
        return [options for one in teacher for options in teacher_options(one)]
    if isinstance(teacher, nn.Module):
        return [{"factory": remember("teacher", _module_identity(teacher), teacher)}]
    if isinstance(teacher, TeacherOptions):
        return [teacher.model_dump(exclude_unset=True)]
    if isinstance(teacher, Mapping):
        given = dict(teacher)
        module = given.pop("module", None)
        return [given] if module is None else [given | teacher_options(module)[0]]
    if isinstance(teacher, str | Path) and str(teacher).endswith(".onnx"):
        return [{"onnx": str(Path(teacher).absolute())}]
    raise InputError(
        "teacher must be a torch.nn.Module, the path of an .onnx file, options of [teacher], or a list of these, "
        f"got {_kind(teacher)}"
    )


def data_options(data: Any) -> Options:
    """Options of `[data]` for what was given.

    Args:
        data: `(x, y)` of arrays or tensors; a map-style `torch.utils.data.Dataset` of such pairs; a mapping of splits
            ("train", "val", "test") to either; `RawData`; a source object; `DataOptions`; or the name of a source.

    Raises:
        InputError: it is anything else, or a split is not usable.
    """
    if isinstance(data, str):
        return {"source": data}
    if isinstance(data, DataOptions):
        return data.model_dump(exclude_unset=True)
    if isinstance(data, RawData):
        return {"source": remember("dataset", _raw_identity(data), InMemorySource(data))}
    if isinstance(data, Mapping):
        return _splits(data) if "train" in data and not isinstance(data["train"], str | Path) else dict(data)
    if isinstance(data, Source):
        return {"source": remember("dataset", _object_identity(data), data)}
    return _splits({"train": data})


def space_name(space: Any) -> str:
    """A name for a search space: a class, an instance, or a name already.

    Raises:
        InputError: it lacks a part of the protocol.
    """
    if isinstance(space, str):
        return space
    found = load_space(space)
    sizes = [architecture.to_json() for architecture in found.size_ladder(5)]
    identity = fingerprint([type(found).__qualname__, found.name, found.cardinality(), sizes])
    return remember("space", f"{found.name}-{identity[:16]}", found)


def method_names(methods: Any) -> list[str]:
    """Names of distillation methods: names, `Method` classes, or one of either.

    Raises:
        InputError: one of them is no method.
    """
    given = methods if isinstance(methods, Sequence) and not isinstance(methods, str) else [methods]
    return [_method_name(method) for method in given]


def device_name(device: Any) -> str:
    """A name for a device profile, or the name that was given.

    Raises:
        InputError: it is neither.
    """
    if isinstance(device, DeviceProfile):
        return remember("device", f"{device.name}-{fingerprint(asdict(device))[:16]}", device)
    if isinstance(device, str):
        return device
    raise InputError(f"device must be a name or a nas_kd.DeviceProfile, got {_kind(device)}")


def _method_name(method: Any) -> str:
    if isinstance(method, str):
        return method
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise InputError(f"a method must be a name or a class derived from nas_kd.Method, got {_kind(method)}")
    return remember("method", f"{method.name}-{_source_hash(method)[:16]}", method)


def _splits(data: Mapping[str, Any]) -> Options:
    if unknown := sorted(set(data) - {*SPLITS, "classes"}):
        raise InputError(f"data: unknown split {unknown[0]!r}; allowed: {', '.join(SPLITS)}, classes")
    arrays = {name: _arrays(data[name], name) for name in SPLITS if data.get(name) is not None}
    names = data.get("classes")
    classes = None if names is None else tuple(map(str, names))
    return data_options(RawData("in memory", arrays["train"], arrays.get("val"), arrays.get("test"), classes))


def _arrays(given: Any, split: str) -> Arrays:
    """Samples and labels of one split, from a pair or a map-style data set."""
    if isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(part, "shape") for part in given):
        return Arrays(as_numpy(given[0]), as_numpy(given[1]))
    if hasattr(given, "__getitem__") and not isinstance(given, tuple | list | dict | str):
        return _from_dataset(given, split)
    raise InputError(
        f"data: {split} must be a pair (x, y) of arrays or tensors, or a torch Dataset of (x, y), got {_kind(given)}"
    )


def _from_dataset(dataset: Any, split: str) -> Arrays:
    if not hasattr(dataset, "__len__"):
        raise InputError(f"data: {split} is a Dataset without a length; give one with __len__, or arrays")
    xs, ys = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"data: {split}[{i}] must be a pair (x, y), got {_kind(item)}")
        xs.append(as_numpy(item[0]) if isinstance(item[0], Tensor) else np.asarray(item[0]))
        ys.append(int(item[1]))
    if not xs:
        raise InputError(f"data: {split} is empty")
    if len({x.shape for x in xs}) > 1:
        raise InputError(f"data: the samples of {split} differ in shape: {xs[0].shape} and others; resize them first")
    return Arrays(np.stack(xs), np.asarray(ys, dtype=np.int64))


def _module_identity(module: nn.Module) -> str:
    digest = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}\n{module}".encode())
    for name, tensor in module.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _raw_identity(raw: RawData) -> str:
    digest = hashlib.sha256(repr((raw.classes, raw.flip_safe, raw.notes)).encode())
    for name in SPLITS:
        for values in getattr(raw, name) or ():
            array = np.ascontiguousarray(as_numpy(values))
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()[:32]


def _object_identity(value: Any) -> str:
    facts = repr(sorted(vars(value).items())) if hasattr(value, "__dict__") else ""
    return fingerprint([_source_hash(type(value)), facts])[:32]


def _source_hash(kind: type) -> str:
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # typed in at a prompt
        source = ""
    return fingerprint([kind.__module__, kind.__qualname__, source])


def _kind(value: Any) -> str:
    return f"{value!r}" if isinstance(value, str) else type(value).__name__
