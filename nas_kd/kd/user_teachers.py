"""Teachers of the user's own that are modules: given in Python, or built by a function."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_kd.config.options import EngineOptions, TeacherOptions
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.engine.numerics import Numerics, seeded
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.teacher_file import TeacherFile
from nas_kd.kd.network_builder import in_any_layout, in_thousands
from nas_kd.kd.teacher_inputs import SampleFacts, TeacherInputs, inner_path
from nas_kd.kd.user_module import UserNetwork, as_network, copied, prepared, uncompiled
from nas_kd.kd.weights_file import load_weights_file
from nas_kd.plugins import IN_MEMORY, import_object, load
from nas_kd.serialization import fingerprint, sha256
from nas_kd.user_code import describe_error, unchanged_settings

PROBED_SAMPLES = 64  # that a user's module is run on to see what it does


@dataclass(frozen=True)
class UserTeacher:
    """A teacher of the user's own, ready to run.

    Attributes:
        teacher: the network behind what is done with its inputs.
        file: that it came as; None: it is a module.
        notes: what was recognised or done with samples, one sentence each.
        behind: the same network behind what other options ask for; it may fail on samples.
    """

    teacher: Teacher
    file: TeacherFile | None
    notes: tuple[str, ...]
    behind: Callable[[TeacherOptions], nn.Module]


def from_factory(options: TeacherOptions, data: Dataset, option: str = "teacher.weights") -> UserTeacher:
    """Build a teacher from the user's function, or from a module given in Python.

    Args:
        options: of the teacher.
        data: that it is to be shown.
        option: that names its weights, for messages.

    Raises:
        InputError: it cannot be built or run, or it does not fit the data.
    """
    name = options.factory or ""
    net, identity, description, found = (
        _given_module(name) if name.startswith(IN_MEMORY) else _made_module(options, option)
    )
    net = prepared(net, "teacher:")
    inputs = inputs_of_module(net, options, SampleFacts.of(data))
    samples = as_input(data.val.x[:PROBED_SAMPLES])

    def behind(wanted: TeacherInputs) -> UserNetwork:
        n_classes = None if options.knows_other_classes else data.n_classes
        return as_network(wanted.in_front_of(net), samples, n_classes, "teacher:")

    network = behind(inputs)
    channels_last = Numerics.choose(EngineOptions(), data.input_shape).channels_last
    model = in_any_layout(network.model, samples[:2]) if channels_last else network.model
    features = None
    if options.features is not None:
        paths = [inner_path(f, model) for f in options.features]
        features = find_feature_points(model, samples[:2].clone(), paths).features
    facts = [*inputs.identity(options, data.scale), *label_facts(options)]
    key = fingerprint([*identity, options.preprocessing, data.input_shape, *facts])
    teacher = _described(model, key, description, data, features=features)
    teacher = replace(teacher, other_classes=options.knows_other_classes)
    notes = (*found, *network.notes, *inputs.notes(options))
    return UserTeacher(teacher, None, notes, lambda other: behind(inputs.like(other)).model)


def label_facts(options: TeacherOptions) -> list[str]:
    """What a teacher's key needs to have of its classes: nothing if they are the data's."""
    return ["other classes"] if options.knows_other_classes else []


def inputs_of_module(net: nn.Module, options: TeacherOptions, facts: SampleFacts) -> TeacherInputs:
    """What is done with samples in front of a module, which is run to see whether it takes grey ones.

    Args:
        net: in eval mode.
        options: of the teacher.
        facts: of the samples.

    Raises:
        InputError: the options do not fit the samples.
    """
    inputs = TeacherInputs.of(options, facts)
    colour = inputs.in_colour()
    if colour is None or _runs(inputs, net) or not _runs(colour, net):
        return inputs
    return colour


def _runs(inputs: TeacherInputs, net: nn.Module) -> bool:
    try:
        with unchanged_settings(), torch.no_grad():
            inputs.in_front_of(net)(inputs.facts.examples[:2].clone())
    except (Exception, SystemExit):  # a user's network may raise anything; that is reported when it is run for good
        return False
    return True


def _given_module(name: str) -> tuple[nn.Module, list[str], str, list[str]]:
    """A copy of a module given in Python: the user's own stays as it is. Its name follows from its content."""
    module = load("teacher", name, nn.Module)
    return copied(module), [name], type(uncompiled(module)).__name__, []


def _made_module(options: TeacherOptions, option: str) -> tuple[nn.Module, list[str], str, list[str]]:
    """What the user's function returns, with the user's weights; its identity, name, and what made the weights fit."""
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
    notes: list[str] = []
    load_weights_file(net, weights, option, whose="the network of teacher.factory", on_note=notes.append)
    return net, [factory, sha256(weights.read_bytes())], factory, notes


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
