"""Teachers of the user's own: a module, a function that builds one, or an ONNX file."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.config.options import EngineOptions, TeacherOptions
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError, TrialError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import OnnxModule
from nas_kd.kd.network_builder import in_thousands
from nas_kd.kd.weights_file import load_weights_file
from nas_kd.models.wrappers import ContiguousLayout, Normalized
from nas_kd.plugins import IN_MEMORY, import_object, load
from nas_kd.serialization import fingerprint, sha256


def from_factory(
    options: TeacherOptions, data: Dataset, on_note: Callable[[str], None] = lambda _: None
) -> tuple[Teacher, bytes]:
    """Build a teacher from the user's function, or from a module given in Python, and export it to ONNX.

    Args:
        options: of the teacher.
        data: as it sees them.
        on_note: receives what was done to make its weights fit.

    Raises:
        InputError: it cannot be built, run or exported, or it does not fit the data.
    """
    name = options.factory or ""
    net, identity, description = _given_module(name) if name.startswith(IN_MEMORY) else _made_module(options, on_note)
    model = _with_preprocessing(net.eval(), options, data)
    _check_shape(model, data)
    try:
        onnx = export_onnx(model, data.input_shape)
    except TrialError as error:
        raise InputError(
            f"teacher: cannot be exported to ONNX, so that its size and latency are unknown: {error}"
        ) from error
    model, features = _in_any_layout(model, data), None
    if options.features is not None:
        paths = [_inside(f, model) for f in options.features]
        features = find_feature_points(model, as_input(data.val.x[:2]), paths).features
    key = fingerprint([*identity, options.preprocessing, data.input_shape])
    return _described(model, key, description, data, features=features), onnx


def _in_any_layout(model: nn.Module, data: Dataset) -> nn.Module:
    """The network itself, or behind a wrapper if it cannot take images that are laid out channels last."""
    layout = Numerics.choose(EngineOptions(), data.input_shape)
    try:
        with torch.no_grad():
            layout.place(deepcopy(model))(layout.to_layout(as_input(data.val.x[:2])))
    except RuntimeError:  # of `view`; any other was raised in the usual layout, too
        return ContiguousLayout(model)
    return model


def _given_module(name: str) -> tuple[nn.Module, list[str], str]:
    """A copy of a module given in Python: the user's own stays as it is. Its name follows from its content."""
    module = load("teacher", name, nn.Module)
    return deepcopy(module), [name], type(module).__name__


def _made_module(options: TeacherOptions, on_note: Callable[[str], None]) -> tuple[nn.Module, list[str], str]:
    """What the user's function returns, with the user's weights."""
    factory, weights = options.factory or "", options.weights or Path()
    try:
        net: Any = import_object(factory)()
    except InputError:
        raise
    except Exception as error:  # a user's function may raise anything
        raise InputError(f"teacher.factory: {factory}() failed: {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise InputError(f"teacher.factory: {factory}() must return a torch.nn.Module, got {type(net).__name__}")
    load_weights_file(net, weights, "teacher.weights", whose="the network of teacher.factory", on_note=on_note)
    return net, [factory, sha256(weights.read_bytes())], factory


def _with_preprocessing(net: nn.Module, options: TeacherOptions, data: Dataset) -> nn.Module:
    match options.preprocessing:
        case "raw":
            return net
        case "unit":
            return Normalized(net, torch.zeros_like(data.mean), torch.full_like(data.std, data.scale))
        case "normalized":
            return Normalized(net, data.mean, data.std)


def _inside(path: str, model: nn.Module) -> str:
    """The user's module path as seen from outside of the wrappers."""
    return f"body.{_inside(path, model.body)}" if isinstance(model, ContiguousLayout | Normalized) else path


def from_onnx(options: TeacherOptions, data: Dataset) -> tuple[Teacher, bytes]:
    """Read a teacher from the user's ONNX file.

    Raises:
        InputError: the file cannot be read or run, or it does not fit the data.
    """
    path = options.onnx or Path()
    if options.features is not None:
        raise InputError(
            "teacher.features: an ONNX teacher provides its logits only; leave features out, or give a factory"
        )
    module = OnnxModule(path, data.input_shape, data.n_classes)
    model = _with_preprocessing(module, options, data)
    _check_shape(model, data)
    onnx = path.read_bytes()
    key = fingerprint([sha256(onnx), options.preprocessing])
    parameters = count_parameters(module)
    description = f"{path.name}, {in_thousands(parameters)} weights"
    return Teacher(model, key, description, parameters, count_macs(module, data.input_shape)), onnx


def _described(
    model: nn.Module, key: str, description: str, data: Dataset, features: tuple[str, ...] | None
) -> Teacher:
    parameters = count_parameters(model)
    description = f"{description}, {in_thousands(parameters)} weights"
    return Teacher(model, key, description, parameters, count_macs(model, data.input_shape), features)


def _check_shape(model: nn.Module, data: Dataset) -> None:
    example = as_input(data.val.x[:2])
    shape = tuple(example.shape[1:])
    try:
        with torch.no_grad():
            logits = model(example)
    except Exception as error:  # a user's network may raise anything
        raise InputError(f"teacher: cannot take samples of shape {shape}: {type(error).__name__}: {error}") from error
    wanted = (len(example), data.n_classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"teacher: must give logits of shape {wanted} for {len(example)} samples, got {got}")
