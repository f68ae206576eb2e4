"""The augmentation of small students: what a network in the middle of the budget gains by may be too much for them.

A network that can only just learn the samples as they are learns less of them when they are varied, too. So where the
recipe varies them, a small network is trained by it and with less augmentation, as briefly as in the recipe's probe.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isqrt, sqrt

from nas_kd.context.run_context import RunContext
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.probe_plan import ProbePlan, rounds_of
from nas_kd.kd.recipe_probe import RecipeProbe
from nas_kd.kd.training_work import TrainingWork
from nas_kd.results.candidate import Architecture
from nas_kd.results.recipe_record import RecipeRecord, SmallStudentsRecord

LEAST_RATIO = 2  # of weights of the network that recipes are tried on to those of the small one
# Less augmentation looks better at first for every network, and the more so the smaller it is; it has to be ahead by
# this many standard errors of the error on validation to be taken for what it is in the end (benchmarks/recipe).
MARGIN = 2.0


def probe_small_students(
    context: RunContext,
    builder: NetworkBuilder,
    teachers: Sequence[Teacher],
    *,
    small: Callable[[], Architecture],
    middle: Architecture,
    method: str,
    left_epochs: float,
    until: float | None,
) -> SmallStudentsRecord | None:
    """Try the recipe of a run on a small student with less augmentation.

    Args:
        context: of the run, with the recipe that was chosen for all its students.
        builder: of its networks.
        teachers: that they learn from.
        small: makes a small student; asked for only if augmentation can be less.
        middle: the network that the recipe was tried on.
        method: of distillation.
        left_epochs: what the trainings may cost together, in epochs of `middle`.
        until: when they have to end, by `time.monotonic`; None: no limit.

    Returns:
        What was chosen for students nearer to the small one than to `middle`, by the logarithm of their weights; None:
        there was nothing to try, or too little time.
    """
    recipe, strengths = context.recipe, context.data.augmentation.strengths
    if recipe.augment not in strengths[1:]:
        return None
    network = small()
    weights, of_middle = builder.parameters(network), builder.parameters(middle)
    if LEAST_RATIO * weights > of_middle:
        return None
    weaker = reversed(strengths[: strengths.index(recipe.augment)])
    settings = [recipe, *(replace(recipe, augment=strength) for strength in weaker)]
    work = TrainingWork(builder, recipe.batch_size)
    allowed = left_epochs * work.macs(middle) / work.macs(network)
    plan = _plan(rounds_of(recipe.epochs, context.steps_per_epoch), len(settings), allowed)
    if plan is None:
        return None
    probe = RecipeProbe(context, builder, teachers, network=network, method=method, until=until)
    choice = with_clear_lead(probe.run(settings, plan), len(context.data.val))
    return SmallStudentsRecord(below_weights=isqrt(weights * of_middle), choice=choice)


def with_clear_lead(record: RecipeRecord, n_val: int) -> RecipeRecord:
    """Take the best setting as far as it came, or the run's recipe if the best one's lead is not clear.

    Args:
        record: of a probe of settings that differ in augmentation.
        n_val: samples of the validation split.
    """
    trained = [s for s in record.settings if s.failed is None and s.epochs == record.compared_epochs]
    base = next((s for s in trained if s.recipe == record.rules), None)
    if base is None or record.origin != "probe":
        return record
    best, error = max(trained, key=lambda s: s.val_score), 1 - base.val_score
    noise = sqrt(max(error * (1 - error), 1 / n_val) / n_val)
    chosen = best if best.val_score - base.val_score > MARGIN * noise else base
    return record.model_copy(update={"recipe": chosen.recipe, "gain": chosen.val_score - base.val_score})


def _plan(rounds: Sequence[int], count: int, allowed: float) -> ProbePlan | None:
    """All settings as far as they can be trained, but never in full, as probes of a recipe are seldom."""
    short = rounds[:-1] or rounds
    plans = [ProbePlan(tuple(short[:n]), (count,) * n) for n in range(1, len(short) + 1)]
    affordable = [plan for plan in plans if count * plan.epochs[-1] <= allowed]
    return affordable[-1] if affordable else None
