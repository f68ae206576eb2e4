"""Chooses the training recipe of students and of teachers: what is given, completed by a probe, else by rules."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from nas_kd.config.key_facts import clipping_facts, key_facts, score_facts
from nas_kd.config.options import SearchConfig, TeacherOptions
from nas_kd.context.run_context import RunContext
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.pretrained_start import PretrainedStart, start_facts
from nas_kd.kd.probe_plan import ProbePlan, settings_around
from nas_kd.kd.recipe_probe import NOT_PROBED, RecipeProbe
from nas_kd.kd.small_students import probe_small_students
from nas_kd.kd.training_work import TrainingWork
from nas_kd.methods.combine import make_method, method_facts
from nas_kd.models.search_space import SearchSpace
from nas_kd.results.candidate import NO_DISTILLATION, Architecture
from nas_kd.results.recipe_record import RecipeRecord
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.serialization import fingerprint

TEACHER_SHARE = 0.1  # of a teacher's training, or of the run's time, that its probe may cost
PROXY_SHARE = 1 / 12  # of a teacher's multiply-adds: the network that is probed in its place
PROXY_SIZES = 9
_NAMES = {
    "batch_size": "batch",
    "optimizer": "optimiser",
    "learning_rate": "learning rate",
    "augment": "augmentation",
    "mix": "mixing",
}
_FIELDS = ("batch_size", "optimizer", "learning_rate", "weight_decay")


@dataclass(frozen=True)
class ProbeBudget:
    """What a probe may cost.

    Attributes:
        epochs: of all its trainings together.
        until: when it has to end, by `time.monotonic`; None: no limit.
    """

    epochs: float
    until: float | None = None


def given_fields(context: RunContext) -> tuple[str, ...]:
    """Names of the recipe's fields that the user gave."""
    options = context.config.distill
    given = tuple(name for name in _FIELDS if getattr(options, name) is not None)
    given = given if context.recipe.mix == "none" else (*given, "mix")  # which nothing but the user chooses
    return given if len(context.data.augmentation.strengths) > 1 else (*given, "augment")


def free_fields(context: RunContext) -> tuple[str, ...]:
    """Names of the recipe's fields that the user left to the tool."""
    given = given_fields(context)
    return tuple(name for name in (*_FIELDS, "augment") if name not in given)


def known_recipe(context: RunContext, key: str) -> RecipeRecord | None:
    """Find the recipe that was chosen before under this key."""
    known = context.store.load_json("recipe", key)
    return None if known is None else RecipeRecord.model_validate(known)


def student_recipe_key(context: RunContext, teachers: Sequence[Teacher]) -> str:
    """Key of the students' recipe: all that it follows from but what may change when a run goes on.

    Args:
        context: of the run.
        teachers: that students learn from.
    """
    config = context.config
    facts = {"budget": key_facts(config.budget), "device": config.device.name, "student": config.student}
    facts |= method_facts(*map(make_method, config.distill.methods), calibrated=config.distill.calibrate)
    facts |= start_facts(config.space)
    facts |= {"searched": "augment"} if "augment" in config.search.recipe else {}
    return _key(context, facts | {"space": config.space.name, "teachers": [t.key for t in teachers]})


def teacher_recipe_key(
    context: RunContext, options: TeacherOptions, place: int, start: PretrainedStart | None = None
) -> str:
    """Key of the recipe of a teacher that the tool trains.

    Args:
        context: with the teacher's view of the data.
        options: of the teacher.
        place: in the list of teachers.
        start: pretrained weights of its space.
    """
    facts = {"teacher": key_facts(options, ["checkpoints"]), "place": place}
    return _key(context, facts if start is None else facts | {"start": start.key})


def _key(context: RunContext, facts: dict[str, Any]) -> str:
    common = {
        "data": context.data.training_key,
        "augment": key_facts(context.config.data.augment),
        "distill": key_facts(context.config.distill, NOT_PROBED),
        "seed": context.seed,
        "torch": torch.__version__,
        **score_facts(context.score.name, context.data.task.headline),
        **clipping_facts(context.config.distill.calibrate),
    }
    return fingerprint(common | facts)


class _Probe(NamedTuple):
    """A probe of a network within the budget, and of a small one."""

    context: RunContext
    builder: NetworkBuilder
    teachers: Sequence[Teacher]
    network: Architecture
    method: str
    budget: ProbeBudget

    def run(
        self,
        settings: Sequence[TrainingRecipe],
        plan: ProbePlan,
        given: Sequence[str],
        small: Callable[[], Architecture] | None,
    ) -> RecipeRecord:
        """Try the settings; `small`: makes a small student, whose augmentation is tried in what is left."""
        context, builder, teachers, network, method, budget = self
        context.callback.on_stage("trying training recipes")
        probe = RecipeProbe(context, builder, teachers, network=network, method=method, until=budget.until)
        record = probe.run(settings, plan, given)
        if small is None or record.origin != "probe":
            return record
        apart = probe_small_students(
            context.with_recipe(record.recipe),
            builder,
            teachers,
            small=small,
            middle=network,
            method=method,
            left_epochs=budget.epochs - record.epochs_spent,
            until=budget.until,
        )
        return record.model_copy(update={"small": apart})


def choose_recipe(
    context: RunContext,
    builder: NetworkBuilder,
    teachers: Sequence[Teacher],
    *,
    key: str,
    network: Callable[[], Architecture],
    method: str,
    budget: ProbeBudget,
    weakest: str | None = None,
    small: Callable[[], Architecture] | None = None,
) -> RecipeRecord:
    """Complete what the user gave by a probe, or by rules where there is no time for one; kept under `key`.

    Args:
        context: of the run; its recipe is the rules'.
        builder: of its networks.
        teachers: that the network learns from; none: from labels alone.
        key: under which the choice is kept and found again.
        network: to be probed; asked for only if there is a probe.
        method: of distillation.
        budget: of the probe.
        weakest: augmentation that the probe may not go below; None: any.
        small: makes a small student, whose augmentation is tried apart; None: all are trained alike.
    """
    if (known := known_recipe(context, key)) is not None:
        return known
    given, free = given_fields(context), free_fields(context)
    base, record = context.recipe, None
    origin, note = ("given", None) if not free else ("rules", None)
    if free and context.config.distill.probe_minutes != 0:
        strengths = context.data.augmentation.strengths
        allowed = strengths[strengths.index(weakest) :] if weakest in strengths else strengths
        settings = settings_around(base, free, allowed, context.data.epoch_samples)
        plan = ProbePlan.within(budget.epochs, base.epochs, context.steps_per_epoch, len(settings))
        if len(settings) < 2:
            pass
        elif plan is None:
            share = f"{budget.epochs:.0f} epoch{'' if round(budget.epochs) == 1 else 's'}"
            note = f"no other recipe was tried: the training allowed for it is {share}, too little to compare even two"
        else:
            probe = _Probe(context, builder, teachers, network(), method, budget)
            record = probe.run(settings, plan, given, small if "augment" in free else None)
    if record is None:
        record = RecipeRecord.model_validate(
            {"recipe": base, "origin": origin, "given": given, "rules": base, "note": note}
        )
    context.store.save_json("recipe", key, record.model_dump(mode="json"))
    return record


def teacher_recipe(
    context: RunContext, options: TeacherOptions, place: int, space: SearchSpace, architecture: Architecture
) -> RecipeRecord:
    """Choose the recipe of a teacher that the tool trains, by a probe of a much smaller network of its space.

    The probe may not take away augmentation that the rules give: large networks need it more than small ones. Teachers
    are shown samples that are not mixed: soft labels make weaker teachers (smoothed ones: Müller et al. 2019,
    arXiv:1906.02629; mixed ones: Choi et al. 2022, arXiv:2211.03946).

    Args:
        context: with the teacher's view of the data.
        options: of the teacher.
        place: in the list of teachers.
        space: of the teacher.
        architecture: that is to be trained.
    """
    recipe = replace(context.recipe, epochs=options.epochs or context.recipe.epochs, mix="none")
    context = context.with_recipe(recipe)
    builder = NetworkBuilder.for_run(context, space)
    whole = builder.macs(architecture)
    sizes = [a for a in builder.size_ladder(PROXY_SIZES) if builder.can_build(a)] or [architecture]
    proxy = max((a for a in sizes if builder.macs(a) <= PROXY_SHARE * whole), key=builder.macs, default=sizes[0])
    work = TrainingWork(builder, context.recipe.batch_size)
    allowed = TEACHER_SHARE * context.recipe.epochs * work.macs(architecture) / work.macs(proxy)
    return choose_recipe(
        context,
        builder,
        [],
        key=teacher_recipe_key(context, options, place, builder.start),
        network=lambda: proxy,
        method=NO_DISTILLATION,
        budget=ProbeBudget(allowed, _probe_end(context.config)),
        weakest=context.recipe.augment,
    )


def _probe_end(config: SearchConfig) -> float | None:
    """When the probe of a teacher has to end: as students' do, after its minutes or a share of the run's time."""
    minutes, whole = config.distill.probe_minutes, config.search.max_minutes
    if minutes is None and whole is not None:
        minutes = TEACHER_SHARE * whole
    return None if minutes is None else time.monotonic() + 60 * minutes


def probe_method(methods: Sequence[str]) -> str:
    """The method that students are probed with: the first that trains one network once."""
    return next((m for m in methods if not make_method(m).generations), NO_DISTILLATION)


def describe_choice(record: RecipeRecord) -> str:
    """Describe a choice in one line, for the console."""
    source = {"given": "as given", "rules": "by rules", "probe": "found by short trainings"}[record.origin]
    text = f"{describe_recipe(record.recipe)} ({source})"
    after = f"on validation after {record.compared_epochs} epochs"
    if record.origin == "probe" and record.recipe == record.rules:
        text += "; as by rules, nothing else was clearly ahead"
    elif record.gain is not None:
        faster = ", but gaining faster" if record.gain < 0 else ""
        changes = record.recipe.differences(record.rules)
        instead = ", ".join(f"{_NAMES[name]} {value}" for name, value in changes.items() if name in _NAMES)
        text += f"; {100 * record.gain:+.1f} points {after} over the rules' {instead}{faster}"
        if changes.keys() == {"augment"}:
            return text + _describe_small(record)
    if record.augmentation_gain is not None and record.augmentation_gain > 0:
        text += f"; augmentation {record.recipe.augment}: {100 * record.augmentation_gain:+.1f} points {after}"
    return text + _describe_small(record) + (f"; {record.note}" if record.note else "")


def _describe_small(record: RecipeRecord) -> str:
    small = record.small
    if small is None or small.choice.recipe == record.recipe:
        return ""
    augment = small.choice.recipe.augment
    return f"; students of fewer than {small.below_weights:,} weights: augmentation {augment}"


def describe_recipe(recipe: TrainingRecipe) -> str:
    """Describe a recipe in a few words."""
    mix = "" if recipe.mix == "none" else f"{recipe.mix}, "
    return (
        f"batch {recipe.batch_size}, {recipe.optimizer} {recipe.learning_rate:g}, "
        f"augmentation {recipe.augment}, {mix}{recipe.epochs} epochs"
    )
