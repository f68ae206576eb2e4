"""Knowledge distillation on one's own modules: no config and no run folder, one student trained in place."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import nn

from nas_kd.commands.distill_data import ModuleTask, as_augmentation, class_weights_of, open_splits
from nas_kd.commands.distill_mixing import check_mixing, mixed_source
from nas_kd.commands.distill_teachers import (
    GivenTeacher,
    as_teachers,
    checked_samples,
    load_teachers,
    refuse_other_outputs,
)
from nas_kd.commands.distill_unlabelled import GivenUnlabelled
from nas_kd.commands.module_checks import (
    as_method,
    as_section,
    as_seed,
    check_apart,
    check_capabilities,
    check_gradient,
    check_number_of_teachers,
    check_student,
    roles_of,
    shown_standardized,
    unchanged,
)
from nas_kd.commands.module_networks import as_student
from nas_kd.config.options import Augmentation, DistillOptions, EngineOptions
from nas_kd.context.callbacks import Callback, EpochEnd, StopRun, as_callback
from nas_kd.context.recipe_rules import recipe_by_rules
from nas_kd.engine.method_setup import DatasetInfo, reinitialized
from nas_kd.engine.mixed_batches import MixedBatches
from nas_kd.engine.numerics import Numerics, threads_for, training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, outputs_on
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.engine.user_data import UserData
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method, uses_unlabelled
from nas_kd.methods.teaching_choices import check_enough_classes
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.results.trial_record import Judged
from nas_kd.user_code import unchanged_settings

Student = TypeVar("Student", bound=nn.Module)
SEED_STEP = 1_000_003  # between generations of a student, so that each starts from weights of its own


def distill(
    student: Student,
    teacher: Any = None,
    *,
    train: Any,
    val: Any = None,
    method: str | type[Method] | Method = "soft_targets",
    epochs: int = 30,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    temperature: float | None = None,
    strength: float = 1.0,
    seed: int = 0,
    calibrate: bool = True,
    threads: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    callbacks: Callback | Sequence[Callback] | None = None,
    augment: Augmentation | Mapping[str, Any] | None = None,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    weight_decay: float | None = None,
    class_weights: Literal["none", "balanced"] | Sequence[float] = "none",
    unlabelled: Any = None,
    unlabelled_share: float | None = None,
    mix: Literal["none", "mixup", "cutmix"] = "none",
    standardize: bool = False,
    task: Any = "classification",
) -> Student:
    """Train your own student by knowledge distillation, in place, with a cosine schedule.

    Args:
        student: x (B, ...) -> logits (B, C), float32, on the CPU, in a tensor, or first in a tuple, or under "logits";
            of other tasks, what these ask for. It is trained from the weights that it has.
        teacher: the same, left as it was, scripted or of other precision if it likes; the path of an `.onnx` file; or a
            mapping of one of these, as `module` or `onnx`, with its `preprocessing`, `mean`, `std`, `image_size`,
            `label_set` and `output` as in a config. A list of several for methods that learn from several, None for
            those without.
        train: (x, y) of arrays or tensors, a Dataset with items (x, y), or a DataLoader, whose batches (x, y) are used
            as they are; y: class numbers, or targets of the task. Samples reach networks as float32, whole numbers
            wider than uint8 as int64.
        val: the same; methods that train several networks then return the best one.
        method: a name (`nas-kd list methods`), `a+b`, `package.module:Name`, a `Method` class or an instance.
        epochs: passes over the training data; over as many samples as `train` and `unlabelled` have together.
        batch_size: samples a step; a DataLoader has its own. None: the largest of 16 to 128 that leaves enough steps.
        learning_rate: peak learning rate. None: one that suits the optimiser and the batch.
        temperature: of softened probabilities; None: the method's default.
        strength: factor on the method's loss terms.
        seed: seed of all random choices; the same seed gives the same weights.
        calibrate: scale the method's terms by their gradients, at the start and when the warm-up is over, so that
            strengths compare; else as published.
        threads: training threads; None: one for small samples, else every core.
        precision: bf16: bfloat16 where autocast allows; auto: bfloat16 where it is faster on this CPU.
        callbacks: their on_stage, on_note, on_progress and on_epoch_end are called.
        augment: what is done to arrays of images, e.g. {"crop": 4, "flip": True}, or {"resized_crop": 0.35, "flip":
            True} for photographs; None: nothing.
        optimizer: SGD with Nesterov momentum, or AdamW.
        weight_decay: of weights, not of biases and normalisation. None: the optimiser's usual one.
        class_weights: of the classes in the label loss: "balanced": samples / (classes x samples of the class), for
            which a Dataset or DataLoader is read once more; or a number > 0 for each class, in their order.
        unlabelled: samples x like those of `train`, an array, a tensor or a Dataset: the student learns from the
            teacher's outputs on them; there is no label loss. Exact copies of samples of `train` and `val`, which are
            read once more for this, are left out, and a note says how many.
        unlabelled_share: of a batch, between 0 and 1. None: as the data divide, at most 7/8.
        mix: training samples in pairs, as teachers see them too, and their labels: "mixup": shares of both; "cutmix": a
            rectangle of another picture; not with a DataLoader, whose samples have no numbers. Masks want arrays and
            cutmix, boxes cannot be mixed.
        standardize: the method sees logits of student and teachers z-scored per sample; for three classes or more.
        task: what the student is to do: "classification", "multi_label" (y (N, C) of 0 and 1), "regression" (y numbers,
            (N,) or (N, k)), "segmentation" (y masks (N, H, W)), "detection" (y boxes (N, k, 5):
            class, left, top, right and bottom in pixels, class -1 where there is none), "embedding" (y numbers of
            identities), `package.module:Name` or a `Task`. Targets of all but the first are read once more before.

    Returns:
        The student itself with averaged weights, in eval mode.

    Raises:
        InputError: something given is not usable, or a callback failed (`CallbackError`); the student then has the
            weights that it had reached.
        TrialError: the loss is no longer finite, or memory ran out.

    Examples:
        >>> import nas_kd, torch
        >>> x, y = torch.randn(64, 8), torch.arange(64) % 2
        >>> teacher = nas_kd.distill(torch.nn.Linear(8, 2), train=(x, y), method="none", epochs=2)
        >>> nas_kd.distill(torch.nn.Linear(8, 2), teacher, train=(x, y), val=(x, y), method="soft_targets", epochs=2)
        Linear(in_features=8, out_features=2, bias=True)
        >>> rare = (torch.arange(64) % 8 == 0).long()  # 8 of 64 samples are of class 1, and count as much as the others
        >>> nas_kd.distill(torch.nn.Linear(8, 2), train=(x, rare), method="none", epochs=2, class_weights="balanced")
        Linear(in_features=8, out_features=2, bias=True)
    """
    schedule = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "calibrate": calibrate,
        "class_weights": _plain(class_weights),
        "mix": mix,
    }
    settings = _Settings.of(schedule, {"threads": threads, "precision": precision}, seed, callbacks)
    with unchanged_settings(), torch.inference_mode(False):
        wanted, learnt = ModuleTask.of(task), as_method(method, temperature, strength)
        teachers = _checked_teachers(student, teacher, learnt)
        of_classes = {"standardize": standardize is True, "class_weights": settings.schedule.class_weights != "none"}
        wanted.check(learnt, of_classes | {"label_set": any(t.options.knows_other_classes for t in teachers)})
        learnt = shown_standardized(learnt, standardize)
        with unchanged(_modules(teachers)):
            changes = as_augmentation(augment)
            others = GivenUnlabelled(unlabelled, unlabelled_share, changes, settings.seed)
            known = wanted.knowing(*open_splits(train, val, settings.seed, changes, wanted.read))
            if known.note is not None:
                settings.callback.on_note(known.note)
            data = _Data(known.train, known.val, others, known.task)
            _Distillation.prepare(student, teachers, learnt, data, settings).run()
    return student


def _checked_teachers(student: Any, teacher: Any, method: Method) -> list[GivenTeacher]:
    """The teachers that were passed, with the student: as many as the method learns from, and usable here."""
    given = as_teachers(teacher)
    check_number_of_teachers(len(given), method)
    check_student(student)
    for role, one in roles_of(given).items():
        one.check(role)
    check_apart(student, _modules(given))
    return given


def _modules(teachers: Sequence[GivenTeacher]) -> list[nn.Module]:
    return [t.module for t in teachers if t.module is not None]


@dataclass(frozen=True)
class _Settings:
    """Checked options of a call."""

    schedule: DistillOptions
    engine: EngineOptions
    seed: int
    callback: Callback

    @staticmethod
    def of(schedule: Mapping[str, Any], engine: Mapping[str, Any], seed: Any, callbacks: Any) -> "_Settings":
        """Check options; `schedule`, `engine`: values of some options of these sections."""
        checked = as_section(DistillOptions, **schedule), as_section(EngineOptions, **engine)
        return _Settings(*checked, as_seed(seed), as_callback(callbacks))


class _Data(NamedTuple):
    """What a student learns from: training and validation data, unlabelled samples, and the task."""

    train: UserData
    val: UserData | None
    unlabelled: GivenUnlabelled
    task: ModuleTask


@dataclass(frozen=True)
class _Distillation:
    """One student to train; `score`: of a network on validation, 0..1, None without validation data."""

    student: nn.Module
    teachers: Sequence[Teacher]
    method: Method
    setup: TrainingSetup
    threads: int
    score: Callable[[nn.Module], float] | None
    callback: Callback

    @staticmethod
    def prepare(
        student: nn.Module,
        given: Sequence[GivenTeacher],
        method: Method,
        data: _Data,
        settings: _Settings,
    ) -> "_Distillation":
        """Check that networks, method and data fit together."""
        train, val, unlabelled, wanted = data
        check_capabilities(method, train)
        unlabelled.check(method, train)
        mix = settings.schedule.mix
        check_mixing(mix, train, wanted.read.moving)
        example = train.example()
        student, found = as_student(student, example, "train", wanted.output_shape)
        wanted = wanted.with_outputs(found)
        n_classes = wanted.width or found
        check_enough_classes(any(part.sees_standardized for part in method.parts()), n_classes, "standardize")
        loaded = load_teachers(roles_of(given), train, wanted.output_shape, one_class=wanted.task.one_class)
        teachers = [Teacher(t.model, other_classes=t.options.knows_other_classes) for t in loaded.values()]
        check_gradient(student, example)
        shape = tuple(example.shape[1:])
        numerics = Numerics(Numerics.choose(settings.engine, shape).bf16, channels_last=False)
        score, first = None, None
        if val is not None:
            as_student(student, val.example(), "val", wanted.output_shape)
            first = next(val.batches(wanted.read))  # its labels are checked before hours of training, not after
            score = partial(wanted.score, val=val, numerics=numerics)
        checked = checked_samples(train, first, n_classes) if loaded and wanted.task.one_class else None
        for role, one in loaded.items():
            refuse_other_outputs(role, one, train, wanted.task)
            for note in (*one.notes, *filter(None, [checked and one.advice(checked)])):
                settings.callback.on_note(f"{role}: {note}")
        others = unlabelled.ready(train, val, wanted.read)
        if others is not None and others.note is not None:
            settings.callback.on_note(others.note)
        if wanted.orders_samples and not train.numbered:
            settings.callback.on_note(
                f"batches of a {train.kind} are used as they are, and {wanted.task.title} needs "
                "several samples of each identity in them"
            )
        source = train.source(wanted.read, method.has_own_order or wanted.orders_samples)
        source = mixed_source(source, train, mix, settings.seed)
        setup = TrainingSetup(
            source=source if others is None else others.mixed_into(source, train, mix),
            dataset=DatasetInfo(len(train), n_classes, *train.statistics(), wanted.task),
            schedule=Schedule.of(
                settings.schedule, _recipe(settings.schedule, train, 0 if others is None else len(others))
            ),
            numerics=numerics,
            seed=settings.seed,
            calibrated=settings.schedule.calibrate,
            class_weights=class_weights_of(settings.schedule.class_weights, train, n_classes),
        )
        threads = threads_for(settings.engine, shape)
        return _Distillation(student, teachers, method, setup, threads, score, settings.callback)

    def run(self) -> None:
        """Train earlier generations, where the method has any, and the student."""
        with training_threads(self.threads), suppress(StopRun):
            teachers = self.teachers
            for number in range(1, self.method.generations + 1):
                teachers = [self._generation(number, teachers)]
            self._train("student", self.student, teachers, self.method, self.setup.seed)
        self.student.eval()

    def _generation(self, number: int, teachers: Sequence[Teacher]) -> Teacher:
        """Train a copy of the student from other initial weights; the first learns from labels alone."""
        seed = self.setup.seed + number * SEED_STEP
        network = reinitialized(self.student, seed)
        method = make_method("none") if number == 1 else deepcopy(self.method)
        self._train(f"generation {number} of {self.method.generations}", network, teachers, method, seed)
        return Teacher(network)

    def _train(self, what: str, network: nn.Module, teachers: Sequence[Teacher], method: Method, seed: int) -> None:
        source = self.setup.source
        if isinstance(source, MixedBatches):  # the first generation learns from labels alone, so from full batches
            source = source.using(uses_unlabelled(method))
        setup = replace(self.setup, seed=seed, source=source)
        size = setup.schedule.batch_size
        outputs = [outputs_on(t, setup.source, size, setup.numerics) for t in teachers]
        training = Training(network, outputs, method, setup)
        try:
            self.callback.on_stage(f"training {what}")
            training.run(after_epoch=partial(self._report, what=what))
        except StopRun:
            self._finish(training)
            raise
        self._finish(training)

    def _finish(self, training: Training) -> None:
        """Give the student the averaged weights of the best network: its own, unless a peer is better."""
        training.load_average()
        if self.score is not None and len(training.networks) > 1:
            best = max(training.networks, key=self.score)
            training.student.load_state_dict(best.state_dict())

    def _report(self, training: Training, what: str) -> None:
        self.callback.on_progress(f"training {what}: epoch", training.epoch, training.setup.schedule.epochs)
        self.callback.on_epoch_end(EpochEnd.of(training, what, lambda: self._judge(training)))

    def _judge(self, training: Training) -> Judged | None:
        if self.score is None:
            return None
        with training.averaged():
            score = max(self.score(network) for network in training.networks)
            return Judged(score, score)


def _plain(given: Any) -> Any:
    """An array or a tensor as a list."""
    return given.tolist() if hasattr(given, "tolist") else given


def _recipe(options: DistillOptions, train: UserData, n_unlabelled: int) -> TrainingRecipe:
    """What the caller gives, completed by rules; a DataLoader's batches are as large as they are."""
    given = options if train.batch_size is None else options.model_copy(update={"batch_size": train.batch_size})
    return recipe_by_rules(given, len(train) + n_unlabelled, "none")
