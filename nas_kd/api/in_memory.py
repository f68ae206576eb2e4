"""Objects that a Python program passes to a search, under names that a config can hold.

A name follows from the object's content, so that the same call in another process goes on with the same run.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from nas_kd.api.content_identity import data_identity, module_identity, object_identity, source_identity
from nas_kd.commands.module_checks import check_teacher
from nas_kd.config.options import Budget, DataOptions, TeacherOptions
from nas_kd.data.in_memory_arrays import split_arrays, unlabelled_array
from nas_kd.data.layout import as_numpy
from nas_kd.data.source import RawData, Source, is_flip_safe
from nas_kd.data.split_names import SPLITS
from nas_kd.data.user_source import FunctionSource
from nas_kd.errors import InputError
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.methods.base import Method
from nas_kd.models.collections.base import is_in_collection
from nas_kd.models.search_space import load_space
from nas_kd.plugins import available, remember
from nas_kd.serialization import fingerprint
from nas_kd.tasks.base import load_task

Options = dict[str, Any]


@dataclass
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
        teacher: a module, an `.onnx` path, a name such as `timm:resnet18`, `TeacherOptions`, a mapping of options in
            which `module` may be a module and `space` an object, or a list of these.

    Raises:
        InputError: it is anything else, or a module that cannot be run here.
    """
    if isinstance(teacher, list | tuple):
        if not teacher:
            raise InputError("teacher is an empty list; leave it out to have one trained")
        return [options for one in teacher for options in teacher_options(one)]
    if isinstance(teacher, nn.Module):
        check_teacher("teacher", teacher)
        return [{"factory": remember("teacher", module_identity(teacher), teacher)}]
    if isinstance(teacher, TeacherOptions):
        return [teacher.model_dump(exclude_unset=True)]
    if isinstance(teacher, Mapping):
        given = {k: v.tolist() if isinstance(v, np.ndarray | np.generic | Tensor) else v for k, v in teacher.items()}
        if given.get("space") is not None:
            given["space"] = space_name(given["space"])
        module = given.pop("module", None)
        if module is None:
            return [given]
        if not isinstance(module, nn.Module):
            raise InputError(f"teacher: module must be a torch.nn.Module, got {_kind(module)}")
        return [given | teacher_options(module)[0]]
    if isinstance(teacher, str | Path) and (named := _named_teacher(str(teacher))):
        return [named]
    raise InputError(
        f"teacher must be a torch.nn.Module, the path of an .onnx file, options of [teacher], or a list of these, "
        f"got {_kind(teacher)}{_teacher_hint(teacher)}"
    )


def _named_teacher(name: str) -> Options:
    """Options of a teacher given as a text: an ONNX file or a network of a collection; empty: it is neither."""
    if name.endswith(".onnx"):
        return {"onnx": str(Path(name).absolute())}
    return {"factory": name} if is_in_collection(name) else {}


def _teacher_hint(teacher: Any) -> str:
    if isinstance(teacher, type):
        return "; pass an instance"
    if isinstance(teacher, str | Path) and str(teacher).endswith((".pt", ".pth", ".ckpt", ".safetensors")):
        return "; load the weights into your module and pass that, or give its factory and weights as options"
    return ""


def data_options(data: Any) -> Options:
    """Options of `[data]` for what was given.

    Args:
        data: `(x, y)` of arrays or tensors; a map-style `torch.utils.data.Dataset` of such pairs; a mapping of splits
            ("train", "val", "test") to either, with "unlabelled" samples if there are any; `RawData`; a source object;
            a function without arguments that returns `RawData` or arrays named as in an .npz file; `DataOptions`; or
            the name of a source.

    Raises:
        InputError: it is anything else, or a split is not usable.
    """
    if isinstance(data, str):
        return {"source": data}
    if isinstance(data, DataOptions):
        return data.model_dump(exclude_unset=True)
    if isinstance(data, Mapping) and ("train" not in data or _names_files(data["train"])):
        return dict(data)
    identity, source = _as_source(data)
    return {"source": remember("dataset", identity, source)}


def with_unlabelled(data: Any, unlabelled: Any) -> tuple[Any, list[str] | str | None]:
    """Divide unlabelled samples into those that join data given in Python, and the option that names files.

    Args:
        data: as given to a search.
        unlabelled: a path, a list of paths, or samples; None: there are none.

    Returns:
        The data, with unlabelled samples where these were given in Python; and `data.unlabelled`.

    Raises:
        InputError: samples are given beside data that are not, or twice.
    """
    if unlabelled is None:
        return data, None
    of_data = data.get("unlabelled") if isinstance(data, Mapping) else None
    if of_data is not None or (isinstance(data, RawData | DataOptions) and data.unlabelled is not None):
        raise InputError("unlabelled samples are given twice: in data, and as unlabelled; leave one of them out")
    if _names_files(unlabelled):
        return data, [str(path) for path in unlabelled] if isinstance(unlabelled, list | tuple) else str(unlabelled)
    if isinstance(data, RawData):
        return replace(data, unlabelled=unlabelled_array(unlabelled)), None
    if inspect.isroutine(data) or isinstance(data, Source) or (isinstance(data, type) and hasattr(data, "load")):
        raise InputError(
            "a function or a source returns unlabelled samples by itself, as x_unlabelled or RawData.unlabelled; as "
            "unlabelled it takes a path"
        )
    splits = isinstance(data, Mapping) and "train" in data and not _names_files(data["train"])
    if not splits and (data is None or isinstance(data, str | Mapping | DataOptions)):
        raise InputError("unlabelled samples given in Python go with data given in Python; with files, give a path")
    return {**(data if splits else {"train": data}), "unlabelled": unlabelled_array(unlabelled)}, None


def with_groups(data: Any, group: Any) -> tuple[Any, str | None]:
    """Divide what samples belong to into arrays that join data given in Python, and the option that names it.

    Args:
        data: as given to a search.
        group: a name, see `data.group`; (N,) names or numbers of the training samples' groups, or these by split; None.

    Returns:
        The data, with groups where these were given in Python; and `data.group`.

    Raises:
        InputError: groups are given beside data that are not given in Python.
    """
    if group is None or isinstance(group, str):
        return data, group
    by_split = {
        split: as_numpy(of) for split, of in (group if isinstance(group, Mapping) else {"train": group}).items()
    }
    if isinstance(data, RawData):
        return replace(data, groups=by_split), None
    splits = isinstance(data, Mapping) and "train" in data and not _names_files(data["train"])
    if not splits and (data is None or isinstance(data, str | Mapping | DataOptions) or callable(data)):
        raise InputError("group given as an array goes with data given in Python as arrays; with files, give a name")
    return {**(data if splits else {"train": data}), "group": by_split}, None


def _names_files(train: Any) -> bool:
    """Whether this is a file, folder or pattern, or a list of these, rather than samples."""
    return isinstance(train, str | Path) or (
        isinstance(train, list | tuple) and bool(train) and all(isinstance(path, str | Path) for path in train)
    )


def _as_source(data: Any) -> tuple[str, Source]:
    """The identity of samples given in Python, and the source that returns them."""
    given = data() if isinstance(data, type) and hasattr(data, "load") else data
    if isinstance(given, Source):
        return object_identity(given), given
    if inspect.isroutine(given):
        given = FunctionSource(given.__qualname__, given).load(DataOptions())
    raw = given if isinstance(given, RawData) else _splits(given if isinstance(given, Mapping) else {"train": given})
    return data_identity(raw), InMemorySource(raw)


def space_name(space: Any) -> str:
    """A name for a search space: a class, an instance, or a name already.

    Raises:
        InputError: it lacks a part of the protocol.
    """
    if isinstance(space, str):
        return space
    found = load_space(space)
    sizes = [architecture.to_json() for architecture in found.size_ladder(5)]
    identity = fingerprint([source_identity(type(found)), found.name, found.cardinality(), sizes])
    return remember("space", f"{found.name}-{identity[:16]}", found)


def task_name(task: Any) -> str:
    """A name for a task: a class, an instance, or a name already.

    Raises:
        InputError: it is no task.
    """
    if isinstance(task, str):
        return task
    found = load_task(task)
    if available("task").get(found.name) == found:
        return found.name
    identity = fingerprint([source_identity(type(found)), repr(found)])
    return remember("task", f"{found.name}-{identity[:16]}", found)


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


def budget_options(budget: Any) -> Options:
    """Options of `[budget]`: of a `Budget`, or of a mapping of its limits.

    Raises:
        InputError: it is neither.
    """
    if isinstance(budget, Budget):
        return budget.model_dump(exclude_none=True)
    if isinstance(budget, Mapping):
        return dict(budget)
    raise InputError(f"budget must be a nas_kd.Budget, such as Budget(max_latency_ms=0.5), got {_kind(budget)}")


def _method_name(method: Any) -> str:
    if isinstance(method, str):
        return method
    if isinstance(method, Method):
        raise InputError(f"methods: pass the class {type(method).__name__}, not an instance: every trial creates one")
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise InputError(f"a method must be a name or a class derived from nas_kd.Method, got {_kind(method)}")
    if not hasattr(method, "name"):
        raise InputError(f"method {method.__name__} has no name; set `name` in the class")
    return remember("method", f"{method.name}-{source_identity(method)[:16]}", method)


def _splits(data: Mapping[str, Any]) -> RawData:
    if unknown := sorted(set(data) - {*SPLITS, "classes", "unlabelled", "group"}):
        raise InputError(
            f"data: unknown split {unknown[0]!r}; allowed: {', '.join(SPLITS)}, classes, unlabelled, group"
        )
    given = {name: data[name] for name in SPLITS if name == "train" or data.get(name) is not None}
    arrays = {name: split_arrays(samples, name) for name, samples in given.items()}
    names = data.get("classes")
    classes = None if names is None else tuple(map(str, names))
    return RawData(
        name="in memory",
        train=arrays["train"],
        val=arrays.get("val"),
        test=arrays.get("test"),
        classes=classes,
        flip_safe=is_flip_safe(classes),
        unlabelled=None if data.get("unlabelled") is None else unlabelled_array(data["unlabelled"]),
        groups=data.get("group", {}),
    )


def _kind(value: Any) -> str:
    return f"{value!r}" if isinstance(value, str) else type(value).__name__
