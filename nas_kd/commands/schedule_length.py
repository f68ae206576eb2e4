"""How long schedules are where the time of a run is limited: short enough to compare several candidates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from nas_kd.commands.step_timing import StepTimes, measure_epoch
from nas_kd.context.run_context import RunContext
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import TrialError
from nas_kd.kd.choose_recipe import probe_method
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.search_plan import EpochTimes, epochs_within
from nas_kd.results.candidate import Architecture
from nas_kd.store.store import Store


def with_affordable_schedule(
    context: RunContext,
    builder: NetworkBuilder,
    teachers: Sequence[Teacher],
    *,
    network: Callable[[], Architecture],
    left_s: float,
    workers: int,
) -> RunContext:
    """The context with shorter schedules where the usual ones would take too much of the time that is left.

    Epochs that the user gives are kept. What a training takes is measured on a few steps.

    Args:
        context: of the run; its recipe is the rules'.
        builder: of its networks.
        teachers: that students learn from.
        network: a student of the size that candidates have; asked for only if there is a limit.
        left_s: seconds until the run's time is over; infinite: there is no limit.
        workers: that train candidates at the same time.
    """
    if left_s == inf or context.config.distill.epochs is not None:
        return context
    method, usual = probe_method(context.config.distill.methods), context.recipe.epochs
    try:
        with TemporaryDirectory(prefix="nas-kd-timing-") as folder:
            apart = replace(context, store=Store(Path(folder)))
            times = measure_epoch(apart, builder, teachers, network(), method)
    except TrialError:  # each candidate's trial will say why
        return context
    epochs = epochs_within(usual, left_s, times, workers)
    if epochs == usual:
        return context
    whole = usual * (times.training_s + times.outputs_s)
    context.callback.on_note(
        f"{usual} epochs of one student would take about {_duration(whole)} here, and {_duration(max(0.0, left_s))} of "
        f"search.max_minutes are left: schedules have {epochs} epochs, which leaves time for several candidates; "
        "distill.epochs sets them"
    )
    return context.with_recipe(replace(context.recipe, epochs=epochs))


def with_planned_schedule(
    context: RunContext, builder: NetworkBuilder, times: StepTimes, typical: Architecture
) -> RunContext:
    """The context with the schedule that a search would have within its time, that of preparing teachers apart.

    Args:
        context: of the run.
        builder: of its networks.
        times: of single steps.
        typical: a student of the size that candidates have.
    """
    config = context.config
    if config.search.max_minutes is None or config.distill.epochs is not None:
        return context
    step_s = times.step(builder.macs(typical), probe_method(config.distill.methods))
    epoch = EpochTimes(context.steps_per_epoch * step_s, times.outputs_s)
    epochs = epochs_within(context.recipe.epochs, 60 * config.search.max_minutes, epoch, config.search.workers)
    return context.with_recipe(replace(context.recipe, epochs=epochs))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
