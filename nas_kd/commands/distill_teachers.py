"""Teachers as a user passes them to `distill`: modules and ONNX files, with what is done with their inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.commands.module_checks import check_teacher
from nas_kd.commands.module_networks import Shape, as_teacher
from nas_kd.config.options import TeacherOptions
from nas_kd.data.dataset import as_input
from nas_kd.data.pixel_range import PixelRange
from nas_kd.engine.target_readers import ClassNumbers
from nas_kd.engine.user_data import UserData
from nas_kd.errors import InputError
from nas_kd.export.onnx_file import read_onnx
from nas_kd.kd.onnx_teacher import load_onnx
from nas_kd.kd.preprocessing_check import N_SAMPLES, CheckedSamples, better_preprocessing
from nas_kd.kd.teacher_inputs import SampleFacts, TeacherInputs
from nas_kd.kd.user_module import UserNetwork
from nas_kd.kd.user_teachers import inputs_of_module
from nas_kd.plugins import IN_MEMORY
from nas_kd.tasks.base import Task

SHOWN_SAMPLES = 64  # whose outputs tell whether a teacher returns what the task works with
OPTIONS = ("preprocessing", "mean", "std", "image_size", "label_set", "output")


@dataclass(frozen=True)
class GivenTeacher:
    """A teacher as it was passed.

    Attributes:
        module: the network, not checked yet; None: it is an ONNX file.
        options: what is done with its inputs, and where the file is.
    """

    module: Any
    options: TeacherOptions

    def check(self, role: str) -> None:
        """Refuse a module that cannot be run here.

        Raises:
            InputError: it cannot.
        """
        if self.options.onnx is None:
            check_teacher(role, self.module)


def as_teachers(given: Any) -> list[GivenTeacher]:
    """List what was passed as the teacher: nothing, one, or several.

    Args:
        given: a module, the path of an `.onnx` file, a mapping with one of these as `module` or `onnx` beside options
            of `[teacher]`, a list of these, or None.

    Raises:
        InputError: a mapping has neither, or an option that is not allowed.
    """
    if given is None:
        return []
    several = list(given) if isinstance(given, tuple | list) else [given]
    return [_as_teacher(one) for one in several]


def _as_teacher(given: Any) -> GivenTeacher:
    if isinstance(given, str | Path) and str(given).endswith(".onnx"):
        given = {"onnx": given}
    options = dict(given) if isinstance(given, Mapping) else {}
    module = options.pop("module", None) if isinstance(given, Mapping) else given
    if isinstance(given, Mapping) and (module is None) == (options.get("onnx") is None):
        raise InputError('teacher: a mapping needs either "module", a torch.nn.Module, or "onnx", the path of a file')
    if unknown := sorted(set(options) - {*OPTIONS, "onnx"}):
        raise InputError(f"teacher.{unknown[0]} is not used here; allowed: module, onnx, {', '.join(OPTIONS)}")
    origin = {"factory": f"{IN_MEMORY}teacher"} if "onnx" not in options else {}
    plain = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in options.items()}
    return GivenTeacher(module, TeacherOptions(**origin, **plain))


def facts_of(train: UserData, *, one_class: bool = True) -> SampleFacts:
    """What is known of the samples: of arrays from all, of a Dataset from some, of a DataLoader from its first batch.

    Args:
        train: the training data.
        one_class: whether each has one class.
    """
    example, samples = train.example(), train.samples()
    return SampleFacts(tuple(example.shape[1:]), PixelRange.of(samples), *train.statistics(), example, one_class)


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher that takes samples as the student does; see `UserTeacher` for the attributes."""

    model: nn.Module
    options: TeacherOptions
    notes: Sequence[str]
    behind: Callable[[TeacherOptions], nn.Module]

    def advice(self, samples: CheckedSamples) -> str | None:
        """Say which preprocessing fits clearly better, if any does.

        Args:
            samples: with labels; of a single class, as where samples are sorted, they show nothing.
        """
        if self.options.knows_other_classes:
            return None
        several = bool((samples.y != samples.y[0]).any())
        return better_preprocessing(self.options, self.behind, samples) if several else None


def checked_samples(train: UserData, val: tuple[Tensor, Tensor] | None, n_classes: int) -> CheckedSamples | None:
    """The samples that teachers' preprocessing is compared on: the first of validation, else of training.

    A DataLoader for training is not read for this, as it may keep an order of its own.

    Args:
        train: the training data.
        val: the first samples (x, y) of the validation data, if there are any.
        n_classes: C, of the student.

    Returns:
        None where there are none.
    """
    few = val is None or len(val[1]) < N_SAMPLES
    more = next(train.batches(ClassNumbers(n_classes))) if few and train.numbered else None
    return None if val is None and more is None else CheckedSamples.filled_up(val, more)


def load_teachers(
    given: Mapping[str, GivenTeacher], train: UserData, shape: Shape, *, one_class: bool = True
) -> dict[str, LoadedTeacher]:
    """Load the teachers.

    Args:
        given: by role.
        train: the training data, which are looked at if there are any teachers.
        shape: of the student's output for one sample, see `as_student`.
        one_class: whether every sample has one class, so that teachers may return probabilities.

    Raises:
        InputError: see `load_teacher`.
    """
    if not given:
        return {}
    facts = facts_of(train, one_class=one_class)
    return {role: load_teacher(role, one, facts, shape, one_class=one_class) for role, one in given.items()}


def refuse_other_outputs(role: str, teacher: LoadedTeacher, train: UserData, task: Task) -> None:
    """Refuse a teacher whose outputs are clearly not what the task works with, such as probabilities.

    Args:
        role: for messages.
        teacher: ready to run.
        train: the training data.
        task: of the student.

    Raises:
        InputError: says what is wrong.
    """
    if not teacher.options.knows_other_classes:
        x = train.samples()[:SHOWN_SAMPLES]
        with torch.no_grad():
            outputs = teacher.model(x if x.dtype == torch.int64 else as_input(x))
        if fault := task.fault_of_outputs(outputs.numpy()):
            raise InputError(f"{role}: {fault}")


def load_teacher(
    role: str, given: GivenTeacher, facts: SampleFacts, shape: Shape, *, one_class: bool = True
) -> LoadedTeacher:
    """Put what the options ask for in front of a teacher; its modules are the given ones, in eval mode.

    Args:
        role: "teacher", or "teacher 1" and so on, for messages.
        given: as it was passed.
        facts: of the samples.
        shape: of the student's output for one sample, see `as_student`.
        one_class: whether every sample has one class, so that the teacher may return probabilities.

    Raises:
        InputError: the options do not fit the samples, or the teacher cannot be used on them.
    """
    options = given.options
    if options.knows_other_classes:
        shape = (None,)
    if options.onnx is not None:
        file = read_onnx(options.onnx, options.output, axes=1 + len(shape))
        loaded = load_onnx(file, options, facts, None if options.knows_other_classes else shape)
        return LoadedTeacher(loaded.model, options, loaded.notes, loaded.behind)
    net: nn.Module = given.module.eval()
    inputs = inputs_of_module(net, options, facts)

    def behind(wanted: TeacherInputs) -> UserNetwork:
        return as_teacher(role, wanted.in_front_of(net), facts.examples, shape, one_class=one_class)

    network = behind(inputs)
    notes = (*network.notes, *inputs.notes(options))
    return LoadedTeacher(network.model, options, notes, lambda other: behind(inputs.like(other)).model)
