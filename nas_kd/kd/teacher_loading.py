"""Loads one teacher, whatever it is: trained here, the user's own, or the user's own and fine-tuned here."""

import time
from dataclasses import dataclass, replace
from typing import Literal

from nas_kd.config.options import TeacherOptions
from nas_kd.context.callbacks import Callback, EpochEnd
from nas_kd.context.run_context import RunContext
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError, TrialError
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.choose_recipe import teacher_recipe
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.fine_tuning import FineTuningPlan, fine_tuned
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.onnx_teacher import from_onnx
from nas_kd.kd.teacher_checkpoints import given_checkpoints, snapshot_epochs, train_snapshots
from nas_kd.kd.training_job import TrainedModel, TrainingJob
from nas_kd.kd.user_teachers import UserTeacher, from_factory
from nas_kd.models.heads.headed_space import with_head
from nas_kd.models.search_space import SearchSpace, load_space, usual_space
from nas_kd.results.candidate import DEFAULT_POLICY, NO_DISTILLATION, Architecture, Recipe
from nas_kd.results.fine_tuning_record import FineTuningRecord
from nas_kd.results.recipe_record import RecipeRecord

LATE = 0.8  # share of a teacher's training after which its score should hardly rise any more


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher, and how it was trained, if the tool did that.

    Attributes:
        teacher: the network.
        origin: where it comes from.
        own: the user's own, as it was given; None: it is of a space.
        seconds: of its training or fine-tuning.
        recipe: of its training; None: it is the user's own.
        fine_tuning: of the user's own; None: it teaches as it is.
        late_gain: score on validation that it gained in the last fifth of its training, 0..1.
    """

    teacher: Teacher
    origin: Literal["space", "factory", "onnx"]
    own: UserTeacher | None = None
    seconds: float = 0.0
    recipe: RecipeRecord | None = None
    fine_tuning: FineTuningRecord | None = None
    late_gain: float | None = None

    @property
    def keeps_its_head(self) -> bool:
        """Whether it is the user's own and has the head that it came with."""
        return self.own is not None and (self.own.head is None or not self.own.head.is_new)


def open_teacher(options: TeacherOptions, context: RunContext, place: int) -> LoadedTeacher:
    """Load a teacher that is a network, training it first where that is wanted and not done yet.

    Args:
        options: of the teacher.
        context: of the run, as teachers see it.
        place: in the list of teachers.

    Raises:
        InputError: it cannot be loaded or trained, or does not fit the data.
    """
    if options.onnx is not None:
        own = from_onnx(options, context.data)
        found = LoadedTeacher(own.teacher, "onnx", own)
    elif options.factory is not None:
        found = _from_factory(options, context, place)
    else:
        found = _trained(options, context, place)
    final = found.teacher
    checkpoints = final.checkpoints or given_checkpoints(options, context.data, final)
    paired = tuple(replace(checkpoint, paired=True) for checkpoint in checkpoints)
    return replace(found, teacher=replace(final, paired=True, checkpoints=paired))


def _from_factory(options: TeacherOptions, context: RunContext, place: int) -> LoadedTeacher:
    """A user's module, fine-tuned on the data where its classes are others or its options ask for it."""
    own = from_factory(options, context.data)
    if own.head is None:
        return LoadedTeacher(own.teacher, "factory", own)
    plan = FineTuningPlan.of(options, own.head, context, place)
    teacher, record = fine_tuned(own.teacher, own.head, plan, context)
    return LoadedTeacher(teacher, "factory", own, seconds=record.seconds, fine_tuning=record)


def _trained(options: TeacherOptions, context: RunContext, place: int) -> LoadedTeacher:
    """Train a network of a space; `place`: in the list of teachers, each of which has a seed of its own."""
    space, architecture = trained_architecture(options, context)
    chosen = teacher_recipe(context, options, place, space, architecture)
    schedule = Schedule.of(context.config.distill, chosen.recipe)
    seed = context.seed + place if options.seed is None else options.seed
    snapshots = snapshot_epochs(options.n_checkpoints, schedule.epochs)
    late = _LateScore(context.callback, schedule.epochs)
    watched = replace(context, callback=late).with_recipe(chosen.recipe)
    distiller = Distiller.for_run(watched, NetworkBuilder.for_run(context, space))
    started = time.perf_counter()
    context.callback.on_stage("training the teacher")
    job = TrainingJob(architecture, Recipe(NO_DISTILLATION), chosen.recipe, schedule, seed, schedule.epochs)

    def train(job: TrainingJob) -> TrainedModel:
        return distiller.train(job, [], load_policy(DEFAULT_POLICY))

    def as_teacher(trained: TrainedModel) -> Teacher:
        return distiller.as_teacher(trained, architecture)

    try:
        with as_trial_error():
            checkpoints = train_snapshots(job, snapshots, train, as_teacher)
            trained = train(job)
    except TrialError as error:
        raise InputError(f"teacher: its training failed: {error}") from error
    spent = max(trained.seconds, time.perf_counter() - started)
    if late.score is not None:
        context.store.save_json("late_accuracy", trained.key, late.score)
    before = context.store.load_json("late_accuracy", trained.key)
    return LoadedTeacher(
        teacher=replace(as_teacher(trained), checkpoints=checkpoints),
        origin="space",
        seconds=spent,
        recipe=chosen,
        late_gain=None if before is None else trained.val_score - before,
    )


class _LateScore(Callback):
    """Passes the training's progress on, and keeps the score that it had when four fifths were done."""

    def __init__(self, outer: Callback, epochs: int) -> None:
        self._outer, self._epoch = outer, round(LATE * epochs)
        self.score: float | None = None

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Take the score on validation, once."""
        if event.epoch == self._epoch:
            self.score = event.val_score
        self._outer.on_epoch_end(event)

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Pass on how far the training has come."""
        self._outer.on_progress(what, done, total)

    def on_stage(self, text: str) -> None:
        """Pass on that a new stage begins."""
        self._outer.on_stage(text)

    def on_note(self, text: str) -> None:
        """Pass on what the user should know."""
        self._outer.on_note(text)


def trained_architecture(options: TeacherOptions, context: RunContext) -> tuple[SearchSpace, Architecture]:
    """The network to be trained as a teacher: the config's, else the largest of its space."""
    found = usual_space(context.data.input_shape) if options.space is None else load_space(options.space)
    space = with_head(found, context.data.task)
    if options.architecture is not None:
        return space, Architecture(space.name, options.architecture)
    return space, NetworkBuilder.for_run(context, space).largest()
