"""What the config alone shows to be wrong, found before data are read: names, methods, and where teachers come from."""

from collections.abc import Sequence
from pathlib import Path

from nas_kd.config.options import SearchConfig, TeacherOptions
from nas_kd.config.teaching_options import checkpoint_files
from nas_kd.context.method_checks import check_methods, with_usual_methods
from nas_kd.context.mixing_checks import check_mix_options
from nas_kd.context.run_context import check_names, check_unlabelled_options
from nas_kd.errors import InputError
from nas_kd.export.onnx_file import read_whole
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.weights_file import check_weights_file
from nas_kd.methods.teaching_choices import check_teaching
from nas_kd.models.collections.base import collection_of, fetched_weights, is_in_collection
from nas_kd.models.search_space import USUAL, SpaceOfTeacher, load_space
from nas_kd.plugins import IN_MEMORY, import_object
from nas_kd.tasks.base import load_task

NOT_ADDED = ("values", "vectors")  # decisions whose sum is none


def checked_config(config: SearchConfig) -> SearchConfig:
    """Refuse unknown names, and teachers and unlabelled samples that are not there; fill in what the task decides.

    Whether these fit the labelled data is found out when the data are read.

    Args:
        config: of the run.

    Returns:
        The config, with methods that suit its task and its teachers where it names none.

    Raises:
        InputError: a name is unknown, methods or mixing need more than the teachers provide, a teacher's file is
            missing or of another kind, its function or space cannot be imported, or unlabelled samples are missing or
            not used.
    """
    config = with_usual_methods(config)
    check_names(config)
    check_methods(config)
    _check_one_class(config)
    check_teaching(config, config.distill.methods)
    check_unlabelled_options(config)
    check_mix_options(config)
    _check_policy(config)
    _check_own_space(config)
    _check_student_friendly(config)
    if config.space.weights is not None:
        check_weights_file(config.space.weights, "space.weights")
    for place, options in enumerate(config.teacher):
        try:
            _check(options)
        except InputError as error:
            several = len(config.teacher) > 1
            raise InputError(f"{ordinal(place)} {error}" if several else str(error)) from error
    return config


def _check_one_class(config: SearchConfig) -> None:
    """Refuse options that make sense for one class a sample only, on data of another task.

    Raises:
        InputError: says which.
    """
    task = load_task(config.data.task)
    asked = {
        "distill.standardize is": True in config.distill.standardize,
        "distill.class_weights are": config.distill.class_weights != "none",
        "teacher.label_set is": any(teacher.knows_other_classes for teacher in config.teacher),
        "teacher.outputs are": any(teacher.outputs is not None for teacher in config.teacher),
    }
    if not task.one_class and (wrong := [option for option, given in asked.items() if given]):
        raise InputError(f"{wrong[0]} for data with one class a sample, and data.task is {task.name!r}: leave it out")


def _check_own_space(config: SearchConfig) -> None:
    """Refuse a space made of a teacher that is no module, as far as the config tells.

    Raises:
        InputError: says why.
    """
    space = load_space(config.space.name)
    if not isinstance(space, SpaceOfTeacher):
        return
    teacher = config.teacher[0]
    if teacher.onnx is not None or teacher.outputs is not None:
        given = "an ONNX file" if teacher.onnx is not None else "stored outputs"
        raise InputError(
            f"space.name = {space.name!r} cuts students out of the first teacher's module, and it is given as {given}: "
            "give teacher.factory and teacher.weights"
        )
    if config.space.weights is not None:
        raise InputError(
            f"space.weights: students of space {space.name!r} begin with the teacher's weights; leave it out, and give "
            "the teacher's own by teacher.weights"
        )
    if teacher.knows_other_classes:
        raise InputError(
            f"space.name = {space.name!r} cuts students out of the first teacher, whose classes are not the data's "
            "(label_set)"
        )


def _check_student_friendly(config: SearchConfig) -> None:
    """Refuse to adjust a teacher to students that are not cuts of it, or of several teachers.

    Raises:
        InputError: says why.
    """
    if not any(teacher.student_friendly_epochs for teacher in config.teacher):
        return
    option = "teacher.student_friendly_epochs"
    if not isinstance(load_space(config.space.name), SpaceOfTeacher):
        raise InputError(
            f"{option} trains a teacher together with cuts of itself, and students of space {config.space.name!r} are "
            'none: use space.name = "own", or leave it out'
        )
    if len(config.teacher) > 1:
        raise InputError(f"{option} is for a single teacher, there are {len(config.teacher)}: leave it out")
    if "inherited" not in config.space.start:
        raise InputError(
            f'{option} is for students that begin with the teacher\'s weights; leave it out, or space.start = ["fresh"]'
        )


def _check_policy(config: SearchConfig) -> None:
    """Refuse strategies and chains that would mix the outputs of teachers of different classes, or add up numbers."""
    task = load_task(config.data.task)
    summing = [name for name in config.chain.policy if load_policy(name).sums_outputs]
    if task.decisions in NOT_ADDED and summing and config.chain.max_assistants:
        raise InputError(
            f"chain.policy {summing[0]!r} adds up what networks say of classes, and data.task is {task.name!r}: set "
            'chain.policy = "sequential" or chain.max_assistants = 0'
        )
    if not any(t.knows_other_classes for t in config.teacher):
        return
    if config.search.strategy == "once-for-all":
        raise InputError(
            "search.strategy = 'once-for-all' trains its network by a teacher of the data's classes, and there is one "
            'with other ones (label_set = "other"): use strategy = "trials"'
        )
    if not config.chain.max_assistants:
        return
    if refused := [name for name in config.chain.policy if not load_policy(name).any_classes]:
        raise InputError(
            f"chain.policy {refused[0]!r} needs teachers of the data's classes, and one has other ones "
            '(label_set = "other"): set chain.policy = "sequential" or chain.max_assistants = 0'
        )


def ordinal(place: int) -> str:
    """How messages name one of several teachers; `place`: in the list, from 0."""
    return f"{place + 1}. [[teacher]]:"


def _check(options: TeacherOptions) -> None:
    checkpoints = checkpoint_files([options])
    if options.onnx is not None:
        if not options.onnx.is_file():
            raise InputError(f"teacher.onnx: {options.onnx}: no such file")
        read_whole(options.onnx)  # its outputs are checked once the number of classes is known
        _check_onnx_checkpoints(checkpoints)
        if options.features is not None:
            raise InputError(
                "teacher.features: an ONNX teacher provides its logits only; leave features out, or give a factory"
            )
    elif options.outputs is not None:
        if not options.outputs.is_file():
            raise InputError(f"teacher.outputs: {options.outputs}: no such file")
    elif options.factory is None:
        load_space(options.space or USUAL)
    elif not options.factory.startswith(IN_MEMORY):
        if options.weights is not None:
            check_weights_file(options.weights, "teacher.weights")
        for path in checkpoints:
            check_weights_file(path, "teacher.checkpoints")
        if is_in_collection(options.factory):
            collection_of(options.factory)[0].require()
            if (fetched := fetched_weights(options.factory, options.weights)) is not None:
                check_weights_file(fetched, "teacher.factory")
        elif not callable(import_object(options.factory)):
            raise InputError(f"teacher.factory: {options.factory} must be a function that returns a torch.nn.Module")


def _check_onnx_checkpoints(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise InputError(f"teacher.checkpoints: {path}: no such file")
        try:
            read_whole(path)
        except InputError as error:
            raise InputError(f"teacher.checkpoints: {error}") from error
