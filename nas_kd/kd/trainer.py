"""Trains one network of a chain from the teachers it is given, or finds it in the store."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from nas_kd.config.key_facts import clipping_facts
from nas_kd.config.options import DistillOptions
from nas_kd.context.callbacks import Callback
from nas_kd.data.augment import TrainingViews
from nas_kd.data.dataset import Dataset
from nas_kd.engine.batch_source import ArrayBatches, BatchSource
from nas_kd.engine.evaluation import evidence_of
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.mixed_batches import MixedBatches
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import LiveTeacher, Teacher
from nas_kd.engine.teachers_in_turn import TeachersInTurn
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import InputError
from nas_kd.kd.class_weights import class_weights
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.shared_outputs import SharedOutputs
from nas_kd.kd.training_cache import TrainingCache
from nas_kd.kd.training_job import TrainedModel, TrainingJob, run_from_checkpoint
from nas_kd.kd.warm_start import WeightSource
from nas_kd.methods.base import Method
from nas_kd.methods.combine import uses_unlabelled
from nas_kd.models.subnetwork import cut_weights
from nas_kd.models.wrappers import sum_networks
from nas_kd.quantization.precision import load_precision
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.results.trial_record import Judged
from nas_kd.scores.base import Score
from nas_kd.store.store import Store

MethodFactory = Callable[[], Method]


class Trainer:
    """Trains networks on one data set; each job is trained once, whatever asks for it."""

    def __init__(
        self,
        data: Dataset,
        builder: NetworkBuilder,
        outputs: SharedOutputs,
        store: Store,
        *,
        options: DistillOptions,
        recipe: TrainingRecipe,
        views: TrainingViews,
        numerics: Numerics,
        qat_start: float,
        score: Score | None = None,
        callback: Callback | None = None,
    ) -> None:
        """Gather what all trainings have in common.

        Args:
            data: what networks are trained and judged on.
            builder: builds networks for these data.
            outputs: the teachers' outputs on the training split.
            store: keeps trained weights and checkpoints.
            options: calibration and what else is the same for all trainings.
            recipe: of the run's trainings, unless a candidate has its own.
            views: the training split as networks are shown it.
            numerics: number format and memory layout.
            qat_start: share of a learning-rate cycle after which quantization-aware training rounds.
            score: that networks are judged by; None: the task's own.
            callback: receives how far a training has come.
        """
        self.data, self.builder, self.outputs, self.options = data, builder, outputs, options
        self.recipe, self._views, self._numerics, self._qat_start = recipe, views, numerics, qat_start
        self._callback = callback or Callback()
        self.score = score or data.task.headline_score
        weights = class_weights(options.class_weights, data)
        self._class_weights = None if weights is None else torch.tensor(weights)
        conditions = {
            "data": data.training_key,
            "calibrated": options.calibrate,
            **clipping_facts(options.calibrate),
            "numerics": [numerics.bf16, numerics.channels_last],
            **builder.identity,
            **({} if weights is None else {"class_weights": weights}),
            **({} if builder.start is None else {"start": builder.start.key}),
            **({} if self.score.name == data.task.headline else {"score": self.score.name}),
        }
        self.cache = TrainingCache(store, conditions, qat_start)

    def train(
        self,
        job: TrainingJob,
        teachers: Sequence[Teacher],
        method: MethodFactory,
        *,
        source: WeightSource | None = None,
        added_to: Sequence[nn.Module] = (),
    ) -> TrainedModel:
        """Find the job's network in the store, or train it now and keep it.

        Args:
            job: what to train.
            teachers: what it learns from, in the order in which the method gets them.
            method: creates the loss; described by the job's recipe.
            source: larger weights that the student's initial weights are cut from.
            added_to: networks whose logits are summed with the student's; accuracy is then the sum's.

        Raises:
            TrialError: it cannot be trained.
            InputError: the method cannot work with these networks.
        """
        loss = method()
        key = self._key(job, teachers, loss, source)
        with self.cache.store.lock("weights", key):
            known = self.cache.load(key, lambda: self._numerics.place(self.build(job, job.seed)))
            if known is not None:
                return known
            training = self.training(job, self.build(job, job.seed, source), teachers, loss)
            # All rungs of one schedule share a checkpoint, so that a later rung goes on where this one stops.
            whole = self._key(replace(job, until=job.schedule.epochs), teachers, loss, source)
            description = self.builder.description(job.student)
            run_from_checkpoint(
                training,
                self.cache.store,
                whole,
                job.until,
                callback=self._callback,
                description=description,
                judge=lambda running: self.judge(running.averaged_students()[0]),
            )
            trained = self._judge(training, key, added_to)
            self.cache.save(trained, job)
            if job.until == job.schedule.epochs:
                self.cache.store.remove("checkpoint", whole)
            return trained

    def _key(self, job: TrainingJob, teachers: Sequence[Teacher], loss: Method, source: WeightSource | None) -> str:
        shown = [network for teacher in teachers for network in _in_turn(teacher, job)]
        return self.cache.key(job, self.augmentation_key(job.training), shown, loss, source)

    def augmentation_key(self, recipe: TrainingRecipe) -> str:
        """Content key of the samples as trainings by this recipe are shown them."""
        return self._views.student(recipe.augment, recipe.mix).key

    def _judge(self, training: Training, key: str, added_to: Sequence[nn.Module]) -> TrainedModel:
        """Choose the network to deploy; where it is part of a sum, its figures are the sum's."""
        if added_to:
            (model,) = training.averaged_students()
            judged = self.judge(sum_networks([*added_to, model]))
        else:
            students = [(network, self.judge(network)) for network in training.averaged_students()]
            model, judged = max(students, key=lambda pair: pair[1].score)
        known = training.losses, training.calibration(), training.grad_ratios
        return TrainedModel(model, key, *judged, training.seconds, *known)

    def judge(self, network: nn.Module) -> Judged:
        """Headline score and deciding score of a network on the validation split.

        Args:
            network: (B, ...) in stored units -> what the task asks for, in the memory layout of training.
        """
        evidence = evidence_of(network, self.data.val, self.data.task, self._numerics)
        return Judged(self.data.task.first_score(evidence), self.score.value(evidence))

    def build(self, job: TrainingJob, seed: int, source: WeightSource | None = None) -> nn.Module:
        """Build the job's network with the initial weights of `seed`, or cut out of `source`."""
        student = self.builder.build(job.student, seed)
        if source is not None:
            student.load_state_dict(cut_weights(source.weights, student))
        return load_precision(job.precision).prepare(student, self.data.input_shape)

    def training(self, job: TrainingJob, student: nn.Module, teachers: Sequence[Teacher], method: Method) -> Training:
        """Set up a training that has not begun.

        Raises:
            InputError: the method cannot work with these networks, or there are too few samples.
        """
        outputs = [self._outputs(t, job) for t in teachers]
        setup = self.setup(job.schedule, job.training, job.seed, method)
        return Training(student, outputs, method, setup, partial(self.build, job))

    def _outputs(self, teacher: Teacher, job: TrainingJob) -> LiveTeacher:
        outputs = [self.outputs.of(network, job.training) for network in _in_turn(teacher, job)]
        return outputs[0] if len(outputs) == 1 else TeachersInTurn(outputs)

    def setup(self, schedule: Schedule, recipe: TrainingRecipe, seed: int, method: Method) -> TrainingSetup:
        """What a training on these data depends on beside its networks.

        Args:
            schedule: of the learning rate.
            recipe: that it follows from; says how samples are augmented and mixed.
            seed: of every random choice.
            method: decides whether unlabelled samples take part.

        Raises:
            InputError: there are too few samples to train on.
        """
        data = self.data
        if len(data.train) < 2:
            raise InputError(f"training needs two samples a batch at least, the training split has {len(data.train)}")
        return TrainingSetup(
            source=self._source(recipe, method),
            dataset=DatasetInfo(len(data.train), data.n_classes, data.mean, data.std, data.task),
            schedule=schedule,
            numerics=self._numerics,
            seed=seed,
            calibrated=self.options.calibrate,
            qat_start=self._qat_start,
            class_weights=self._class_weights,
        )

    def _source(self, recipe: TrainingRecipe, method: Method) -> BatchSource:
        """Batches of the training split, and of unlabelled samples where there are any.

        A method that learns from labels alone has as many steps in an epoch, so that all trainings compare.
        """
        data = self.data
        labelled = ArrayBatches(self._views.student(recipe.augment, recipe.mix), data.train.y, data.task.moving)
        unlabelled = self._views.unlabelled(recipe.augment, recipe.mix)
        if unlabelled is None or self.data.unlabelled is None:
            return labelled
        share = self.data.unlabelled.share
        return MixedBatches(labelled, unlabelled, share, use_unlabelled=uses_unlabelled(method))

    def shell(self, job: TrainingJob) -> nn.Module:
        """The job's network without memory for its weights, to look at names and shapes."""
        with torch.device("meta"):
            return self.builder.build(job.student, 0)


def _in_turn(teacher: Teacher, job: TrainingJob) -> list[Teacher]:
    """The networks that stand in a teacher's place over a job's schedule: usually itself alone."""
    follows = job.recipe.teaching.progression == "checkpoints"
    return [*teacher.checkpoints, teacher] if follows else [teacher]
