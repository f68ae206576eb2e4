"""The teacher: trained by the tool, or the user's own; checked before anything is built on it."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nas_kd.config.options import EngineOptions, TeacherOptions
from nas_kd.context.run_context import RunContext
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError, TrialError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import OnnxModule
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder, in_thousands
from nas_kd.kd.training_job import TrainingJob
from nas_kd.models.search_space import SearchSpace, load_space
from nas_kd.models.wrappers import ContiguousLayout, Normalized
from nas_kd.plugins import IN_MEMORY, import_object, load
from nas_kd.results.candidate import DEFAULT_POLICY, NO_DISTILLATION, Architecture, Recipe
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.intervals import wilson_interval
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs
from nas_kd.serialization import fingerprint, sha256

MeasureFile = Callable[[bytes, Costs], Costs]  # all costs of an ONNX file, from what was counted of the network


@dataclass(frozen=True)
class ReadyTeacher:
    """A teacher that passed the checks.

    Attributes:
        teacher: the network.
        onnx: its deployable file.
        record: what the run keeps of it.
    """

    teacher: Teacher
    onnx: bytes
    record: TeacherRecord


def prepare_teachers(context: RunContext, measure: MeasureFile) -> list[ReadyTeacher]:
    """Train or load the config's teachers, measure them, and refuse those that are no better than chance.

    Args:
        context: of the run.
        measure: measures an exported file on the run's device.

    Raises:
        InputError: one cannot be loaded, does not fit the data, or is no better than chance.
    """
    context = context.for_teacher()
    teachers = []
    for place, options in enumerate(context.config.teacher):
        try:
            teacher = _prepare(options, context, measure, place)
        except InputError as error:
            several = len(context.config.teacher) > 1
            raise InputError(f"{_ordinal(place)} {error}" if several else str(error)) from error
        context.callback.on_teacher(teacher.record)
        teachers.append(teacher)
    keys = [t.teacher.key for t in teachers]
    if len(set(keys)) < len(keys):
        raise InputError("two of the teachers are the same network: give them different seeds or weights")
    return teachers


def load_teachers(context: RunContext) -> list[Teacher]:
    """Load the teachers of a run that has prepared them: nothing is judged or measured again.

    Raises:
        InputError: one cannot be loaded.
    """
    context = context.for_teacher()
    return [_loaded(options, context, place)[0] for place, options in enumerate(context.config.teacher)]


def untrained_teachers(context: RunContext) -> list[Teacher]:
    """Build the config's teachers without any training: a space's network has its first weights, others are as given.

    Raises:
        InputError: one cannot be loaded, or does not fit the data.
    """
    context, found = context.for_teacher(), []
    for place, options in enumerate(context.config.teacher):
        if options.onnx is not None:
            found.append(_from_onnx(options, context.data)[0])
        elif options.factory is not None:
            found.append(_from_factory(options, context.data)[0])
        else:
            space, architecture = _architecture(options)
            builder = NetworkBuilder(context.data, space)
            key = fingerprint(["untrained", architecture.to_json(), place])
            description, parameters = builder.description(architecture), builder.parameters(architecture)
            model, macs = builder.build(architecture, place), builder.macs(architecture)
            found.append(Teacher(model.eval(), key, description, parameters, macs))
    return [replace(teacher, paired=True) for teacher in found]


def _architecture(options: TeacherOptions) -> tuple[SearchSpace, Architecture]:
    """The network to be trained as a teacher: the config's, else the largest of its space."""
    space = load_space(options.space or "resnet")
    if options.architecture is not None:
        return space, Architecture(space.name, options.architecture)
    return space, space.size_ladder(2)[-1]


def _ordinal(place: int) -> str:
    return f"{place + 1}. [[teacher]]:"


def _loaded(options: TeacherOptions, context: RunContext, place: int) -> tuple[Teacher, bytes, float, str]:
    """Return the teacher, its file, the seconds that its training took, and where it comes from."""
    if options.onnx is not None:
        teacher, onnx = _from_onnx(options, context.data)
        seconds, origin = 0.0, "onnx"
    elif options.factory is not None:
        teacher, onnx = _from_factory(options, context.data)
        seconds, origin = 0.0, "factory"
    else:
        teacher, onnx, seconds = _trained(options, context, place)
        origin = "space"
    return replace(teacher, paired=True), onnx, seconds, origin


def _prepare(options: TeacherOptions, context: RunContext, measure: MeasureFile, place: int) -> ReadyTeacher:
    teacher, onnx, seconds, origin = _loaded(options, context, place)
    val = _accuracy(teacher.model, context)
    record = TeacherRecord.model_validate(
        {
            "description": teacher.description,
            "origin": origin,
            "costs": measure(onnx, Costs(parameters=teacher.parameters, macs=teacher.macs)),
            "val": val,
            "training_s": round(seconds, 3),
        }
    )
    return ReadyTeacher(teacher, onnx, record)


def _trained(options: TeacherOptions, context: RunContext, place: int) -> tuple[Teacher, bytes, float]:
    """Train a network of a space; `place`: in the list of teachers, each of which has a seed of its own."""
    space, architecture = _architecture(options)
    schedule = Schedule.of(context.config.distill, options.epochs)
    seed = context.seed + place if options.seed is None else options.seed
    distiller = Distiller.for_run(context, NetworkBuilder(context.data, space))
    started = time.perf_counter()
    job = TrainingJob(architecture, Recipe(NO_DISTILLATION), schedule, seed, schedule.epochs)
    try:
        trained = distiller.train(job, [], load_policy(DEFAULT_POLICY))
    except TrialError as error:
        raise InputError(f"teacher: its training failed: {error}") from error
    spent = max(trained.seconds, time.perf_counter() - started)
    return distiller.as_teacher(trained, architecture), export_onnx(trained.model, context.data.input_shape), spent


def _from_factory(options: TeacherOptions, data: Dataset) -> tuple[Teacher, bytes]:
    name = options.factory or ""
    net, identity, description = _given_module(name) if name.startswith(IN_MEMORY) else _made_module(options)
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


def _made_module(options: TeacherOptions) -> tuple[nn.Module, list[str], str]:
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
    return f"body.{_inside(path, model.body)}" if isinstance(model, ContiguousLayout | Normalized) else path


def _from_onnx(options: TeacherOptions, data: Dataset) -> tuple[Teacher, bytes]:
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


def _accuracy(model: nn.Module, context: RunContext) -> Accuracy:
    data = context.data
    mean = accuracy_of(model, data.val, context.numerics)
    low, high = wilson_interval(mean, len(data.val))
    most_common = float(torch.bincount(data.val.y).max()) / len(data.val)
    if low <= most_common:
        raise InputError(
            f"teacher: no better than chance: validation accuracy {mean:.1%}, naming the most common class "
            f"gives {most_common:.1%}; check its weights, the order of the classes and teacher.preprocessing"
        )
    return Accuracy(mean=mean, low=low, high=high, samples=len(data.val))
