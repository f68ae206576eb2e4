"""Distils along the chain: teacher -> assistants -> student; each link is trained once and kept in the store.

What a link becomes depends on its key alone: data, architecture, teachers' keys, recipe, schedule and seed.
"""

import time
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from nas_kd.candidate import Architecture, Candidate, Recipe
from nas_kd.engine.attachment import Facts
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teachers import Teacher, TeacherOutputs
from nas_kd.engine.training import Setup, Training
from nas_kd.files import fingerprint
from nas_kd.methods.combine import make_method
from nas_kd.pipeline.context import Context
from nas_kd.pipeline.networks import Builder

CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True)
class Link:
    """A trained network. `seconds`: what its training took, when it took place."""

    model: nn.Module
    key: str
    val_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Lesson:
    """One link to train: who, with which recipe, for how long, from which seed. `until`: epochs of the schedule."""

    student: Architecture
    recipe: Recipe
    schedule: Schedule
    seed: int
    until: int


class Chain:
    """Trains links and remembers them."""

    def __init__(self, context: Context, builder: Builder, teacher: Teacher | None = None) -> None:
        self.context = context
        self.builder = builder
        self._root = teacher
        self._outputs: dict[str, TeacherOutputs] = {}
        self._assistants: dict[tuple[Architecture, ...], Teacher] = {}

    def distil(self, candidate: Candidate, seed: int, epochs: int, until: int | None = None) -> Link:
        """Train the candidate's student up to epoch `until` of a schedule of `epochs`.

        Raises:
            TrialError: it cannot be trained.
        """
        schedule = Schedule.of(self.context.config.distill, epochs)
        lesson = Lesson(candidate.student, candidate.recipe, schedule, seed, until or epochs)
        return self.train(lesson, self.last_teacher(candidate.assistants))

    def last_teacher(self, assistants: tuple[Architecture, ...]) -> Teacher | None:
        """Whom the student of such a chain learns from; missing assistants are trained."""
        if not assistants:
            return self._root
        if assistants not in self._assistants:
            self._assistants[assistants] = self._train_assistant(assistants)
        return self._assistants[assistants]

    def _train_assistant(self, assistants: tuple[Architecture, ...]) -> Teacher:
        config, architecture = self.context.config, assistants[-1]
        teacher = self.last_teacher(assistants[:-1])
        lesson = Lesson(
            student=architecture,
            recipe=Recipe(config.chain.method),
            schedule=Schedule.of(config.distill),
            seed=self.context.seed,
            until=config.distill.epochs,
        )
        link = self.train(lesson, teacher)
        return self.as_teacher(link, architecture)

    def as_teacher(self, link: Link, architecture: Architecture) -> Teacher:
        """A trained link in the teacher's place."""
        builder = self.builder
        words, parameters = builder.words(architecture), builder.parameters(architecture)
        return Teacher(link.model, link.key, words, parameters, builder.macs(architecture))

    def train(self, lesson: Lesson, teacher: Teacher | None) -> Link:
        """The link from the store, or trained now and stored."""
        context, store = self.context, self.context.store
        key = self._key(lesson, teacher)
        student = self.builder.build(lesson.student, lesson.seed)
        if (entry := store.load("weights", key)) is not None:
            student.load_state_dict(entry.tensors)
            student = context.numerics.place(student).eval()
            return Link(student, key, float(entry.meta["val_accuracy"]), float(entry.meta["seconds"]))
        training = self._training(lesson, student, teacher)
        self._run(training, lesson, key)
        model, accuracy = training.deployed(context.data.val)
        meta = {
            "val_accuracy": accuracy,
            "seconds": training.seconds,
            "student": lesson.student.to_json(),
            "losses": training.losses,
            "calibration": training.calibration(),
        }
        weights = {k: v.contiguous() for k, v in model.state_dict().items()}
        store.save("weights", key, weights, meta)
        store.remove("checkpoint", key)
        return Link(model, key, accuracy, training.seconds)

    def _training(self, lesson: Lesson, student: nn.Module, teacher: Teacher | None) -> Training:
        context, recipe = self.context, lesson.recipe
        method = make_method(recipe.method, recipe.params.get("temperature"), recipe.params.get("strength", 1.0))
        teachers = [self.outputs(teacher)] if teacher is not None and method.teachers != "none" else []
        data = context.data
        setup = Setup(
            augmenter=context.augmenter,
            labels=data.train.y,
            facts=Facts(len(data.train), data.n_classes, data.mean, data.std),
            schedule=lesson.schedule,
            numerics=context.numerics,
            seed=lesson.seed,
            calibrated=context.config.distill.calibrate,
        )
        return Training(student, teachers, method, setup, partial(self.builder.build, lesson.student))

    def _run(self, training: Training, lesson: Lesson, key: str) -> None:
        store, what = self.context.store, self.builder.words(lesson.student)
        if (checkpoint := store.load("checkpoint", key)) is not None:
            training.restore(checkpoint.tensors)
        saved_at = time.monotonic()

        def after_epoch(running: Training) -> None:
            nonlocal saved_at
            self.context.progress.training(what, running.epoch, lesson.until)
            if time.monotonic() - saved_at >= CHECKPOINT_EVERY_S and running.epoch < lesson.until:
                store.save("checkpoint", key, {k: v.contiguous() for k, v in running.state().items()}, {})
                saved_at = time.monotonic()

        training.run(lesson.until, after_epoch)

    def outputs(self, teacher: Teacher) -> TeacherOutputs:
        """The teacher's outputs, shared by all students that learn from it."""
        context = self.context
        if teacher.key not in self._outputs:
            batch_size = min(context.config.distill.batch_size, len(context.data.train))
            self._outputs[teacher.key] = TeacherOutputs(
                teacher, context.augmenter, batch_size, context.numerics, context.store
            )
        return self._outputs[teacher.key]

    def _key(self, lesson: Lesson, teacher: Teacher | None) -> str:
        context = self.context
        return fingerprint(
            {
                "data": context.data.key,
                "augmentation": context.augmenter.key,
                "student": lesson.student.to_json(),
                "recipe": lesson.recipe.to_json(),
                "teacher": teacher.key if teacher is not None and lesson.recipe.method != "none" else None,
                "taps": teacher.features if teacher is not None else None,
                "schedule": lesson.schedule.to_json(),
                "until": lesson.until,
                "seed": lesson.seed,
                "numerics": [context.numerics.bf16, context.numerics.channels_last],
                "torch": torch.__version__,
            }
        )
