"""Where the module of a teacher comes from: from Python, from the user's function, or from a package of networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nas_kd.config.options import TeacherOptions
from nas_kd.engine.numerics import seeded
from nas_kd.errors import InputError
from nas_kd.kd.teacher_inputs import SampleFacts
from nas_kd.kd.user_module import copied, uncompiled
from nas_kd.kd.weight_names import classes_in_file
from nas_kd.kd.weights_file import load_tensors, load_weights_file, read_weights_file
from nas_kd.models.collections.base import Collection, CollectionNetwork, collection_of, is_in_collection
from nas_kd.plugins import IN_MEMORY, import_object, load
from nas_kd.serialization import sha256
from nas_kd.user_code import describe_error, unchanged_settings


@dataclass(frozen=True)
class TeacherModule:
    """A module with its weights.

    Attributes:
        module: the network; nothing else has it.
        identity: what its outputs depend on, for keys.
        description: for people.
        options: of the teacher, completed by what its package says.
        notes: what was done to make the weights fit, or taken from its package, one sentence each.
    """

    module: nn.Module
    identity: Sequence[str]
    description: str
    options: TeacherOptions
    notes: Sequence[str] = ()


def open_module(options: TeacherOptions, facts: SampleFacts, option: str) -> TeacherModule:
    """Build the module that `teacher.factory` names.

    Args:
        options: of the teacher.
        facts: of the samples that it is to be shown.
        option: that names its weights, for messages.

    Raises:
        InputError: it cannot be built, or its weights are missing or another network's.
    """
    factory = options.factory or ""
    if factory.startswith(IN_MEMORY):
        return _given(options)
    return _of_collection(options, facts, option) if is_in_collection(factory) else _of_function(options, option)


def _given(options: TeacherOptions) -> TeacherModule:
    """A copy of a module given in Python: the user's own stays as it is. Its name follows from its content."""
    name = options.factory or ""
    module = load("teacher", name, nn.Module)
    return TeacherModule(copied(module), [name], type(uncompiled(module)).__name__, options)


def _of_function(options: TeacherOptions, option: str) -> TeacherModule:
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
    notes: list[str] = []
    load_weights_file(net, weights, option, whose="the network of teacher.factory", on_note=notes.append)
    return TeacherModule(net, [factory, sha256(weights.read_bytes())], factory, options, notes)


def _of_collection(options: TeacherOptions, facts: SampleFacts, option: str) -> TeacherModule:
    """A network of a package, with the user's weights or those that the package has fetched."""
    collection, network = collection_of(options.factory or "")
    whose = f"{collection.name}:{network}"
    if not facts.is_image:
        raise InputError(f"teacher.factory: {whose} takes images, samples have shape {facts.shape}")
    path = options.weights or collection.cached_weights(network)
    option = option if options.weights else "teacher.factory"
    tensors = read_weights_file(path, option)
    made = _built(collection, network)
    if (n_classes := classes_in_file(made.module, tensors)) is not None:
        made = _built(collection, network, n_classes)
    notes: list[str] = []
    load_tensors(made.module, tensors, path, option, whose=whose, on_note=notes.append)
    if expected := _expectations(options, made):
        shown = ", ".join(f"{name} {list(value)}" for name, value in expected.items())
        changed = " and ".join(f"teacher.{name}" for name in expected)
        notes.append(f"by the configuration of {collection.package}: {shown}; {changed} would change that")
    completed = options.model_copy(update=expected)
    return TeacherModule(made.module, [whose, sha256(path.read_bytes())], whose, completed, notes)


def _built(collection: Collection, network: str, n_classes: int | None = None) -> CollectionNetwork:
    try:
        with unchanged_settings(), seeded(0):  # whatever the weights' file does not hold is the same in every process
            return collection.build(network, n_classes)
    except InputError:
        raise
    except Exception as error:  # another project's code may raise anything
        name = f"{collection.name}:{network}"
        raise InputError(f"teacher.factory: {name} cannot be built: {describe_error(error)}") from error


def _expectations(options: TeacherOptions, made: CollectionNetwork) -> dict[str, tuple[float, ...] | tuple[int, ...]]:
    """Options that the network's package has values for and that the user left alone."""
    found: dict[str, tuple[float, ...] | tuple[int, ...]] = {}
    says_nothing = options.preprocessing == "raw" and options.mean is None and options.std is None
    if says_nothing and made.mean is not None and made.std is not None:
        found |= {"mean": made.mean, "std": made.std}
    if options.image_size is None and made.image_size is not None:
        found["image_size"] = made.image_size
    return found
