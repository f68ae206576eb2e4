"""Distils along the chain: teacher -> assistants -> student; each link is trained once and kept in the store.

What a link becomes depends on its key alone: data, architecture, teachers' keys, recipe, schedule and seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn

from nas_kd.results.candidate import Architecture, Candidate, Policy, Precision, Recipe
from nas_kd.quantization.precision import load_precision
from nas_kd.engine.method_setup import Facts
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Setup, Training
from nas_kd.errors import InputError
from nas_kd.serialization import fingerprint
from nas_kd.methods.base import Method
from nas_kd.methods.chains.dense import make_dense
from nas_kd.methods.chains.residual import Residual
from nas_kd.methods.combine import make_method
from nas_kd.models.subnetwork import cut_weights
from nas_kd.models.summed import summed
from nas_kd.kd.checkpoints import run_from_checkpoint
from nas_kd.context.run_context import Context
from nas_kd.kd.warm_start import Elder, elder_of
from nas_kd.kd.training_job import Lesson, Link, known_to_training
from nas_kd.kd.network_builder import Builder
from nas_kd.kd.shared_outputs import SharedOutputs

RESIDUAL = "residual"


class Chain:
    """Trains links and remembers them."""

    def __init__(self, context: Context, builder: Builder, teachers: Sequence[Teacher] = ()) -> None:
        """`teachers`: the config's; methods that learn from one learn from the first."""
        self.context = context
        self.builder = builder
        self.relatives: tuple[str, ...] = ()  # keys of weights that students may inherit from, beside the teachers'
        self._roots = tuple(teachers)
        self.outputs = SharedOutputs(context, self._roots)
        self._assistants: dict[tuple[Policy, tuple[Architecture, ...]], Teacher] = {}

    def distil(
        self, candidate: Candidate, seed: int, epochs: int, *, until: int | None = None, restarts: tuple[int, ...] = ()
    ) -> Link:
        """Train the candidate's student up to epoch `until` of a schedule of `epochs`; under "residual" its sum.

        Raises:
            TrialError: it cannot be trained.
        """
        schedule = Schedule.of(self.context.config.distill, epochs, restarts)
        precision = known_to_training(candidate.precision)
        lesson = Lesson(candidate.student, candidate.recipe, schedule, seed, until or epochs, precision)
        method = make_method(candidate.recipe.method)
        if method.generations:
            return self.train(lesson, [self._generation(lesson, method.generations)])
        if candidate.policy == "residual":
            return self._sum(lesson, candidate.assistants, taught=method.teachers != "none")
        return self.train(lesson, self._teachers_of(method, candidate.policy, candidate.assistants))

    def check(self, methods: Sequence[str]) -> None:
        """Let every method see the smallest student and the teachers before anything is trained.

        Raises:
            InputError: one of them cannot work with these networks.
        """
        precisions = {known_to_training(precision) for precision in self.context.config.search.precisions}
        for name, precision in product(methods, sorted(precisions)):
            self.rehearsal(name, self.context.space.ladder(2)[0], precision)

    def rehearsal(self, name: str, student: Architecture, precision: Precision = "fp32") -> Training:
        """A training with this method that has not begun, straight from the teachers; the chain keeps nothing of it.

        Raises:
            InputError: the method cannot work with these networks.
        """
        method, schedule = make_method(name), Schedule.of(self.context.config.distill)
        lesson = Lesson(student, Recipe(name), schedule, self.context.seed, schedule.epochs, precision)
        teachers = list(self._roots[:1]) if method.generations else self._teachers_of(method, "sequential", ())
        return self.training(lesson, self._built(lesson, 0), teachers)

    def prepare(self, candidate: Candidate) -> None:
        """Train what is missing of the assistants that the candidate's student learns from."""
        if candidate.policy != "residual":
            self._teachers_of(make_method(candidate.recipe.method), candidate.policy, candidate.assistants)

    def _teachers_of(self, method: Method, policy: Policy, assistants: tuple[Architecture, ...]) -> list[Teacher]:
        """Whom a link with these assistants before it learns from."""
        if method.teachers == "none":
            return []
        roots = list(self._roots if method.teachers == "several" else self._roots[:1])
        if not assistants:
            return roots
        if policy == "dense":
            return roots + [self._assistant(policy, assistants[: n + 1]) for n in range(len(assistants))]
        return [self._assistant(policy, assistants)]

    def _assistant(self, policy: Policy, assistants: tuple[Architecture, ...]) -> Teacher:
        """The last of these assistants, trained if it is missing."""
        if (policy, assistants) not in self._assistants:
            config, architecture = self.context.config, assistants[-1]
            recipe = Recipe(config.chain.method)
            teachers = self._teachers_of(make_method(recipe.method), policy, assistants[:-1])
            schedule = Schedule.of(config.distill)
            link = self.train(Lesson(architecture, recipe, schedule, self.context.seed, schedule.epochs), teachers)
            self._assistants[policy, assistants] = self.as_teacher(link, architecture)
        return self._assistants[policy, assistants]

    def _generation(self, lesson: Lesson, number: int) -> Teacher:
        """The student's own architecture, trained `number` times in full, each from the one before."""
        first = number == 1
        recipe = Recipe("none") if first else lesson.recipe
        teachers = [] if first else [self._generation(lesson, number - 1)]
        epochs = self.context.config.distill.epochs
        schedule = Schedule.of(self.context.config.distill)
        seed = lesson.seed + number * 1_000_003  # every generation starts from weights of its own
        link = self.train(Lesson(lesson.student, recipe, schedule, seed, epochs), teachers)
        return self.as_teacher(link, lesson.student)

    def _sum(self, lesson: Lesson, assistants: tuple[Architecture, ...], taught: bool) -> Link:
        """The student first, then each assistant on what the sum of those before still gets wrong."""
        roots = list(self._roots[:1]) if taught else []
        method = make_method(lesson.recipe.method)
        links = [self.train(lesson, self._teachers_of(method, "sequential", ()))]
        frozen = [self.as_teacher(links[0], lesson.student)]
        for architecture in assistants:
            recipe = Recipe(RESIDUAL, {"taught": float(taught)})
            more = replace(lesson, student=architecture, recipe=recipe)
            links.append(self.train(more, [*frozen, *roots]))
            frozen.append(self.as_teacher(links[-1], architecture))
        return Link(
            model=summed([link.model for link in links]),
            key=fingerprint([link.key for link in links]),
            val_accuracy=links[-1].val_accuracy,
            seconds=sum(link.seconds for link in links),
            losses=links[-1].losses,
            calibration=links[0].calibration,
        )

    def as_teacher(self, link: Link, architecture: Architecture) -> Teacher:
        """A trained link in the teacher's place."""
        builder = self.builder
        words, parameters = builder.words(architecture), builder.parameters(architecture)
        return Teacher(link.model, link.key, words, parameters, builder.macs(architecture))

    def train(self, lesson: Lesson, teachers: Sequence[Teacher]) -> Link:
        """The link from the store, or trained now and stored."""
        elder = self._elder(lesson.student, teachers)
        key = self._key(lesson, teachers, elder)
        with self.context.store.alone("weights", key):
            return self._stored(lesson, key) or self._trained(lesson, teachers, elder, key)

    def _elder(self, student: Architecture, teachers: Sequence[Teacher]) -> Elder | None:
        """Whose weights a taught student starts from, if it inherits any."""
        if not self.context.config.search.inherit or not teachers:
            return None
        with torch.device("meta"):
            shell = self.builder.build(student, 0)
        return elder_of(shell, self.relatives, [*self._roots, *teachers], self.context.store)

    def _stored(self, lesson: Lesson, key: str) -> Link | None:
        entry = self.context.store.load("weights", key)
        if entry is None:
            return None
        student = self._built(lesson, lesson.seed)
        student.load_state_dict(entry.tensors)
        return Link(self.context.numerics.place(student).eval(), key, **entry.meta["facts"])

    def _trained(self, lesson: Lesson, teachers: Sequence[Teacher], elder: Elder | None, key: str) -> Link:
        store, student = self.context.store, self._built(lesson, lesson.seed, elder)
        training = self.training(lesson, student, teachers)
        unfinished = self._key(replace(lesson, until=lesson.schedule.epochs), teachers, elder)
        run_from_checkpoint(self.context, training, self.builder.words(lesson.student), unfinished, lesson.until)
        model, accuracy = self._judged(training, lesson, teachers)
        facts: dict[str, Any] = {
            "val_accuracy": accuracy,
            "seconds": training.seconds,
            "losses": training.losses,
            "calibration": training.calibration(),
        }
        weights = {k: v.contiguous() for k, v in model.state_dict().items()}
        store.save("weights", key, weights, {"facts": facts, "student": lesson.student.to_json()})
        if lesson.until == lesson.schedule.epochs:
            store.remove("checkpoint", unfinished)
        return Link(model, key, **facts)

    def _built(self, lesson: Lesson, seed: int, elder: Elder | None = None) -> nn.Module:
        """The student before training, with the initial weights of `seed`, or the elder's."""
        student = self.builder.build(lesson.student, seed)
        if elder is not None:
            student.load_state_dict(cut_weights(elder.weights, student))
        return load_precision(lesson.precision).prepare(student, self.context.data.input_shape)

    def _judged(self, training: Training, lesson: Lesson, teachers: Sequence[Teacher]) -> tuple[nn.Module, float]:
        """The network to deploy and its accuracy on validation; where it is part of a sum, the sum's."""
        val = self.context.data.val
        if lesson.recipe.method != RESIDUAL:
            return training.deployed(val)
        frozen = [t.model for t in (teachers[:-1] if lesson.recipe.params["taught"] else teachers)]
        (model,) = training.averaged_students()
        return model, training.accuracy(summed([*frozen, model]), val)

    def training(self, lesson: Lesson, student: nn.Module, teachers: Sequence[Teacher]) -> Training:
        """A training that has not begun.

        Raises:
            InputError: the method cannot work with these networks.
        """
        method = self._method(lesson.recipe, len(teachers))
        setup = self.setup(lesson.schedule, lesson.seed)
        shown = [self.outputs.of(t) for t in teachers]
        return Training(student, shown, method, setup, partial(self._built, lesson))

    def setup(self, schedule: Schedule, seed: int) -> Setup:
        """What all trainings of this run have in common.

        Raises:
            InputError: there are too few samples to train on.
        """
        context, data = self.context, self.context.data
        if context.config.distill.batch_size < 2 or len(data.train) < 2:
            raise InputError(f"training needs two samples a batch at least, the training split has {len(data.train)}")
        return Setup(
            augmenter=context.augmenter,
            labels=data.train.y,
            facts=Facts(len(data.train), data.n_classes, data.mean, data.std),
            schedule=schedule,
            numerics=context.numerics,
            seed=seed,
            calibrated=context.config.distill.calibrate,
            aware_from=context.config.quantise.aware_from,
        )

    def _method(self, recipe: Recipe, teachers: int) -> Method:
        temperature, strength = recipe.params.get("temperature"), recipe.params.get("strength", 1.0)
        if recipe.method == RESIDUAL:
            return Residual(taught=bool(recipe.params["taught"]))
        method = make_method(recipe.method, temperature, strength)
        if method.teachers == "one" and teachers > 1:
            return make_dense(recipe.method, temperature, strength, teachers)
        return method

    def key_of(self, facts: Mapping[str, Any], schedule: Schedule, teachers: Sequence[Teacher]) -> str:
        """The fingerprint of a training: `facts`, and what all trainings depend on."""
        context = self.context
        return fingerprint(
            {
                "data": context.data.key,
                "augmentation": context.augmenter.key,
                "calibrated": context.config.distill.calibrate,
                "teachers": [[t.key, t.features] for t in teachers],
                "schedule": schedule.to_json(),
                "numerics": [context.numerics.bf16, context.numerics.channels_last],
                "torch": torch.__version__,
                **facts,
            }
        )

    def _key(self, lesson: Lesson, teachers: Sequence[Teacher], elder: Elder | None) -> str:
        facts = {
            "student": lesson.student.to_json(),
            "recipe": lesson.recipe.to_json(),
            "until": lesson.until,
            "seed": lesson.seed,
            **({} if elder is None else {"inherits": elder.key}),
            **({} if lesson.precision == "fp32" else self._aware(lesson.precision)),
        }
        return self.key_of(facts, lesson.schedule, teachers)

    def _aware(self, precision: Precision) -> dict[str, Any]:
        return {"precision": precision, "aware_from": self.context.config.quantise.aware_from}
