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

from nas_kd.context.run_context import Context
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import InputError
from nas_kd.kd.checkpoints import run_from_checkpoint
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.shared_outputs import SharedOutputs
from nas_kd.kd.training_job import TrainedModel, TrainingJob, training_precision
from nas_kd.kd.warm_start import WeightSource, find_weight_source
from nas_kd.methods.base import Method
from nas_kd.methods.chains.dense import make_dense
from nas_kd.methods.chains.residual import Residual
from nas_kd.methods.combine import make_method
from nas_kd.models.subnetwork import cut_weights
from nas_kd.models.summed import summed
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Architecture, Candidate, Policy, Precision, Recipe
from nas_kd.serialization import fingerprint

RESIDUAL = "residual"


class Chain:
    """Trains links and remembers them."""

    def __init__(self, context: Context, builder: NetworkBuilder, teachers: Sequence[Teacher] = ()) -> None:
        """`teachers`: the config's; methods that learn from one learn from the first."""
        self.context = context
        self.builder = builder
        self.weight_sources: tuple[
            str, ...
        ] = ()  # keys of weights that students may inherit from, beside the teachers'
        self._roots = tuple(teachers)
        self.outputs = SharedOutputs(context, self._roots)
        self._assistants: dict[tuple[Policy, tuple[Architecture, ...]], Teacher] = {}

    def distill(
        self, candidate: Candidate, seed: int, epochs: int, *, until: int | None = None, restarts: tuple[int, ...] = ()
    ) -> TrainedModel:
        """Train the candidate's student up to epoch `until` of a schedule of `epochs`; under "residual" its sum.

        Raises:
            TrialError: it cannot be trained.
        """
        schedule = Schedule.of(self.context.config.distill, epochs, restarts)
        precision = training_precision(candidate.precision)
        job = TrainingJob(candidate.student, candidate.recipe, schedule, seed, until or epochs, precision)
        method = make_method(candidate.recipe.method)
        if method.generations:
            return self.train(job, [self._generation(job, method.generations)])
        if candidate.policy == "residual":
            return self._sum(job, candidate.assistants, taught=method.teachers != "none")
        return self.train(job, self._teachers_of(method, candidate.policy, candidate.assistants))

    def check(self, methods: Sequence[str]) -> None:
        """Let every method see the smallest student and the teachers before anything is trained.

        Raises:
            InputError: one of them cannot work with these networks.
        """
        precisions = {training_precision(precision) for precision in self.context.config.search.precisions}
        for name, precision in product(methods, sorted(precisions)):
            self.untrained(name, self.context.space.size_ladder(2)[0], precision)

    def untrained(self, name: str, student: Architecture, precision: Precision = "fp32") -> Training:
        """A training with this method that has not begun, straight from the teachers; the chain keeps nothing of it.

        Raises:
            InputError: the method cannot work with these networks.
        """
        method, schedule = make_method(name), Schedule.of(self.context.config.distill)
        job = TrainingJob(student, Recipe(name), schedule, self.context.seed, schedule.epochs, precision)
        teachers = list(self._roots[:1]) if method.generations else self._teachers_of(method, "sequential", ())
        return self.training(job, self._built(job, 0), teachers)

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
            trained = self.train(
                TrainingJob(architecture, recipe, schedule, self.context.seed, schedule.epochs), teachers
            )
            self._assistants[policy, assistants] = self.as_teacher(trained, architecture)
        return self._assistants[policy, assistants]

    def _generation(self, job: TrainingJob, number: int) -> Teacher:
        """The student's own architecture, trained `number` times in full, each from the one before."""
        first = number == 1
        recipe = Recipe("none") if first else job.recipe
        teachers = [] if first else [self._generation(job, number - 1)]
        epochs = self.context.config.distill.epochs
        schedule = Schedule.of(self.context.config.distill)
        seed = job.seed + number * 1_000_003  # every generation starts from weights of its own
        trained = self.train(TrainingJob(job.student, recipe, schedule, seed, epochs), teachers)
        return self.as_teacher(trained, job.student)

    def _sum(self, job: TrainingJob, assistants: tuple[Architecture, ...], taught: bool) -> TrainedModel:
        """The student first, then each assistant on what the sum of those before still gets wrong."""
        roots = list(self._roots[:1]) if taught else []
        method = make_method(job.recipe.method)
        trained_models = [self.train(job, self._teachers_of(method, "sequential", ()))]
        frozen = [self.as_teacher(trained_models[0], job.student)]
        for architecture in assistants:
            recipe = Recipe(RESIDUAL, {"taught": float(taught)})
            more = replace(job, student=architecture, recipe=recipe)
            trained_models.append(self.train(more, [*frozen, *roots]))
            frozen.append(self.as_teacher(trained_models[-1], architecture))
        return TrainedModel(
            model=summed([trained.model for trained in trained_models]),
            key=fingerprint([trained.key for trained in trained_models]),
            val_accuracy=trained_models[-1].val_accuracy,
            seconds=sum(trained.seconds for trained in trained_models),
            losses=trained_models[-1].losses,
            calibration=trained_models[0].calibration,
        )

    def as_teacher(self, trained: TrainedModel, architecture: Architecture) -> Teacher:
        """A trained link in the teacher's place."""
        builder = self.builder
        description, parameters = builder.description(architecture), builder.parameters(architecture)
        return Teacher(trained.model, trained.key, description, parameters, builder.macs(architecture))

    def train(self, job: TrainingJob, teachers: Sequence[Teacher]) -> TrainedModel:
        """The link from the store, or trained now and stored."""
        source = self._weight_source(job.student, teachers)
        key = self._key(job, teachers, source)
        with self.context.store.alone("weights", key):
            return self._stored(job, key) or self._trained(job, teachers, source, key)

    def _weight_source(self, student: Architecture, teachers: Sequence[Teacher]) -> WeightSource | None:
        """Whose weights a taught student starts from, if it inherits any."""
        if not self.context.config.search.inherit or not teachers:
            return None
        with torch.device("meta"):
            shell = self.builder.build(student, 0)
        return find_weight_source(shell, self.weight_sources, [*self._roots, *teachers], self.context.store)

    def _stored(self, job: TrainingJob, key: str) -> TrainedModel | None:
        entry = self.context.store.load("weights", key)
        if entry is None:
            return None
        student = self._built(job, job.seed)
        student.load_state_dict(entry.tensors)
        return TrainedModel(self.context.numerics.place(student).eval(), key, **entry.meta["facts"])

    def _trained(
        self, job: TrainingJob, teachers: Sequence[Teacher], source: WeightSource | None, key: str
    ) -> TrainedModel:
        store, student = self.context.store, self._built(job, job.seed, source)
        training = self.training(job, student, teachers)
        unfinished = self._key(replace(job, until=job.schedule.epochs), teachers, source)
        run_from_checkpoint(self.context, training, self.builder.description(job.student), unfinished, job.until)
        model, accuracy = self._judged(training, job, teachers)
        facts: dict[str, Any] = {
            "val_accuracy": accuracy,
            "seconds": training.seconds,
            "losses": training.losses,
            "calibration": training.calibration(),
        }
        weights = {k: v.contiguous() for k, v in model.state_dict().items()}
        store.save("weights", key, weights, {"facts": facts, "student": job.student.to_json()})
        if job.until == job.schedule.epochs:
            store.remove("checkpoint", unfinished)
        return TrainedModel(model, key, **facts)

    def _built(self, job: TrainingJob, seed: int, source: WeightSource | None = None) -> nn.Module:
        """The student before training, with the initial weights of `seed`, or the elder's."""
        student = self.builder.build(job.student, seed)
        if source is not None:
            student.load_state_dict(cut_weights(source.weights, student))
        return load_precision(job.precision).prepare(student, self.context.data.input_shape)

    def _judged(self, training: Training, job: TrainingJob, teachers: Sequence[Teacher]) -> tuple[nn.Module, float]:
        """The network to deploy and its accuracy on validation; where it is part of a sum, the sum's."""
        val = self.context.data.val
        if job.recipe.method != RESIDUAL:
            return training.deployed(val)
        frozen = [t.model for t in (teachers[:-1] if job.recipe.params["taught"] else teachers)]
        (model,) = training.averaged_students()
        return model, training.accuracy(summed([*frozen, model]), val)

    def training(self, job: TrainingJob, student: nn.Module, teachers: Sequence[Teacher]) -> Training:
        """A training that has not begun.

        Raises:
            InputError: the method cannot work with these networks.
        """
        method = self._method(job.recipe, len(teachers))
        setup = self.setup(job.schedule, job.seed)
        shown = [self.outputs.of(t) for t in teachers]
        return Training(student, shown, method, setup, partial(self._built, job))

    def setup(self, schedule: Schedule, seed: int) -> TrainingSetup:
        """What all trainings of this run have in common.

        Raises:
            InputError: there are too few samples to train on.
        """
        context, data = self.context, self.context.data
        if context.config.distill.batch_size < 2 or len(data.train) < 2:
            raise InputError(f"training needs two samples a batch at least, the training split has {len(data.train)}")
        return TrainingSetup(
            source=ArrayBatches(context.augmenter, data.train.y),
            dataset=DatasetInfo(len(data.train), data.n_classes, data.mean, data.std),
            schedule=schedule,
            numerics=context.numerics,
            seed=seed,
            calibrated=context.config.distill.calibrate,
            qat_start=context.config.quantization.qat_start,
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

    def _key(self, job: TrainingJob, teachers: Sequence[Teacher], source: WeightSource | None) -> str:
        facts = {
            "student": job.student.to_json(),
            "recipe": job.recipe.to_json(),
            "until": job.until,
            "seed": job.seed,
            **({} if source is None else {"inherits": source.key}),
            **({} if job.precision == "fp32" else self._aware(job.precision)),
        }
        return self.key_of(facts, job.schedule, teachers)

    def _aware(self, precision: Precision) -> dict[str, Any]:
        return {"precision": precision, "qat_start": self.context.config.quantization.qat_start}
