"""Teachers of the user's own: a module, a function that builds one, or an ONNX file."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nas_kd.config.options import EngineOptions, TeacherOptions
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.engine.numerics import Numerics, seeded
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.verify import OnnxModule
from nas_kd.kd.network_builder import in_thousands
from nas_kd.kd.user_module import as_network, copied, prepared, uncompiled
from nas_kd.models.raw_output import FixedBatch, LogitsOnly
from nas_kd.models.wrappers import ContiguousLayout, Normalized
from nas_kd.plugins import IN_MEMORY, import_object, load
from nas_kd.serialization import fingerprint, sha256
from nas_kd.user_code import describe_error, unchanged_settings

PROBED_SAMPLES = 64  # that a user's module is run on to see what it does


def from_factory(options: TeacherOptions, data: Dataset) -> tuple[Teacher, tuple[str, ...]]:
    """Build a teacher from the user's function, or from a module given in Python.

    Returns:
        The teacher, and what was found out about it that a user should know.

    Raises:
        InputError: it cannot be built or run, or it does not fit the data.
    """
    name = options.factory or ""
    net, identity, description = _given_module(name) if name.startswith(IN_MEMORY) else _made_module(options)
    samples = as_input(data.val.x[:PROBED_SAMPLES])
    network = as_network(
        _with_preprocessing(prepared(net, "teacher:"), options, data), samples, data.n_classes, "teacher:"
    )
    model, features = _in_any_layout(network.model, data), None
    if options.features is not None:
        paths = [_inside(f, model) for f in options.features]
        features = find_feature_points(model, samples[:2].clone(), paths).features
    key = fingerprint([*identity, options.preprocessing, data.input_shape])
    return _described(model, key, description, data, features=features), network.notes


def _in_any_layout(model: nn.Module, data: Dataset) -> nn.Module:
    """The network itself, or behind a wrapper if it cannot take images that are laid out channels last."""
    layout = Numerics.choose(EngineOptions(), data.input_shape)
    try:
        with unchanged_settings(), torch.no_grad():
            layout.place(deepcopy(model))(layout.to_layout(as_input(data.val.x[:2]).clone()))
    except Exception:  # of `view`, or of `deepcopy`; any other was raised in the usual layout, too
        return ContiguousLayout(model)
    return model


def _given_module(name: str) -> tuple[nn.Module, list[str], str]:
    """A copy of a module given in Python: the user's own stays as it is. Its name follows from its content."""
    module = load("teacher", name, nn.Module)
    return copied(module), [name], type(uncompiled(module)).__name__


def _made_module(options: TeacherOptions) -> tuple[nn.Module, list[str], str]:
    """What the user's function returns, with the user's weights."""
    factory, weights = options.factory or "", options.weights or Path()
    try:
        with unchanged_settings(), seeded(0):  # whatever the weights' file does not hold is the same in every process
            net: Any = import_object(factory)()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise InputError(f"teacher.factory: {factory}() failed: {describe_error(error)}") from error
    if not isinstance(net, nn.Module):
        raise InputError(f"teacher.factory: {factory}() must return a torch.nn.Module, got {type(net).__name__}")
    _load_weights(net, weights)
    return net, [factory, sha256(weights.read_bytes())], factory


def _load_weights(net: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"teacher.weights: {path}: no such file")
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(
            f"teacher.weights: {path}: not a safetensors file. Pickled checkpoints (.pt, .pth) are refused because "
            "loading one can run any code: convert it once, where you trust it, with "
            "safetensors.torch.save_file(model.state_dict(), ...)"
        ) from error
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise InputError(f"teacher.weights: {path}: does not fit the network of teacher.factory: {first}") from error


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
    wrappers = ContiguousLayout | FixedBatch | LogitsOnly | Normalized
    return f"body.{_inside(path, model.body)}" if isinstance(model, wrappers) else path


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
    try:
        macs = count_macs(model, data.input_shape)
    except Exception:  # not every user's module can be watched; nothing depends on the number
        macs = 0
    return Teacher(model, key, description, parameters, macs, features)


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
