"""The space that is made of the run's teacher, where the config asks for one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.dataset import as_input
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.kd.teachers import load_teachers
from nas_kd.models.search_space import SearchSpace, SpaceOfTeacher

OWN = "own"  # the space's name
EXAMPLES = 64  # samples that the network's blocks are ranked on
SHOWN = 4  # layers that cannot be cut in a note


def with_own_space(context: RunContext, teachers: Sequence[Teacher]) -> RunContext:
    """The context with the space that is made of the first teacher; as it is where the config asks for another.

    Args:
        context: of the run.
        teachers: of the run, ready to run.

    Raises:
        InputError: students cannot be cut out of it.
    """
    space, options = context.space, context.config.space
    if not isinstance(space, SpaceOfTeacher):
        return context
    if context.data.teacher_view is not None:
        raise InputError(f"space {space.name!r} needs students to be shown what their teacher is shown")
    example = as_input(context.data.val.x[:EXAMPLES])
    if context.data.task.any_width:
        _check_width(teachers[0], example, context.data.n_classes, space.name)
    shares_weights = context.config.search.strategy == "once-for-all"
    try:
        derived = space.derive(teachers[0].model, example, options.start, gathered=shares_weights)
    except InputError as error:
        raise InputError(f"space {space.name!r}: {error}") from error
    context.callback.on_note(f"space {space.name}: {_summary(derived)}")
    if shares_weights and (whole := getattr(derived, "large_layers", ())):
        context.callback.on_note(
            f"space {space.name}: {len(whole)} large linear layers keep their full rank: once-for-all trains "
            "weights that students share, and those of layers of lower rank are computed"
        )
    return replace(context, space=derived)


def _check_width(teacher: Teacher, example: Tensor, n_outputs: int, space: str) -> None:
    """Refuse a teacher whose outputs, which students would have, are more or fewer than the data's."""
    with torch.no_grad():
        width = teacher.model(example[:2].clone()).shape[1]
    if width != n_outputs:
        raise InputError(
            f"space {space!r}: students return as many numbers as the teacher, {width}, and {n_outputs} are asked for: "
            f"set data.embedding_width = {width}"
        )


def space_of_run(config: SearchConfig, folder: RunFolder) -> SearchSpace:
    """Make the space of a run's teacher again, as the run did.

    Args:
        config: of the run.
        folder: of the run.

    Raises:
        InputError: data or teacher are no longer there, or the teacher was an object that this program does not have.
    """
    context = RunContext.prepare(config, folder, Callback(), check_device=False)
    return with_own_space(context, load_teachers(context)).space


def dimensions_of(space: SearchSpace) -> dict[str, str]:
    """What the dimensions of a space made of a teacher are, by name; none of other spaces."""
    return {cut.name: cut.description for cut in getattr(space, "cuts", ())}


def _summary(space: SearchSpace) -> str:
    """Counts the dimensions, and says what cannot be cut and why."""
    frozen: Mapping[str, str] = getattr(space, "frozen", {})
    text = (
        f"{space.cardinality():,} students in {len(dimensions_of(space))} dimensions: {', '.join(dimensions_of(space))}"
    )
    reasons = [f"{layer} ({reason})" for layer, reason in frozen.items()]
    more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return text + (f"; left as they are: {', '.join(reasons[:SHOWN])}{more}" if reasons else "")
