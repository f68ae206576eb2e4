"""Fine-tunes a teacher of the user's own on the data: its head first, on what the other layers give, then all layers.

Trained together from the start, a new head would spoil the other layers (Kumar et al. 2022, arXiv:2202.10054). These
then have a tenth of its learning rate, and the best epoch on validation is kept.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Literal

import torch
from torch import nn

from nas_kd.config.options import Augmentation, TeacherOptions
from nas_kd.context.run_context import RunContext
from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.evaluation import evidence_of
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import PLAIN
from nas_kd.engine.optimizer import SlowWeights
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Training
from nas_kd.errors import InputError, TrialError
from nas_kd.kd.best_epoch import BestEpoch
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.class_head import ClassHead
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.head_training import HeadFeatures
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.methods.combine import make_method
from nas_kd.results.candidate import NO_DISTILLATION
from nas_kd.results.fine_tuning_record import FineTuningRecord
from nas_kd.results.training_recipe import WEIGHT_DECAYS, TrainingRecipe
from nas_kd.results.trial_record import Judged
from nas_kd.serialization import fingerprint

LEARNING_RATE, TRUNK_FACTOR = 1e-3, 0.1  # of AdamW
BATCH_SIZE = 32
HEAD_STEPS, FEWEST_HEAD_EPOCHS, MOST_HEAD_EPOCHS = 1000, 5, 100
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 1500, 4, 20
# Epochs without a better one, of the schedule: at first, all layers together are worse than a head trained alone.
PATIENCE, LEAST_PATIENCE = 1 / 2, 3


@dataclass(frozen=True)
class FineTuningPlan:
    """How a teacher is fine-tuned.

    Attributes:
        layers: trained in the end.
        head_epochs: of the head by itself; 0: it cannot be trained so.
        epochs: of all layers, at most; 0: they are not trained.
        recipe: of the training of all layers.
        seed: of every random choice.
    """

    layers: Literal["head", "all"]
    head_epochs: int
    epochs: int
    recipe: TrainingRecipe
    seed: int

    @staticmethod
    def of(options: TeacherOptions, head: ClassHead, context: RunContext, place: int) -> "FineTuningPlan":
        """Plan by the number of training samples.

        Args:
            options: of the teacher.
            head: of its network.
            context: of the run, as teachers see it.
            place: in the list of teachers.

        Raises:
            InputError: the head alone is to be trained, and cannot be.
        """
        layers: Literal["head", "all"] = "head" if options.fine_tune == "head" else "all"
        if layers == "head" and not head.gives_logits:
            raise InputError(
                'teacher.fine_tune = "head": what its last layer gives are not yet its logits; use fine_tune = "all"'
            )
        steps = max(1, len(context.data.train) // BATCH_SIZE)
        epochs = options.epochs or min(MOST_EPOCHS, max(FEWEST_EPOCHS, ceil(STEPS / steps)))
        head_epochs = min(MOST_HEAD_EPOCHS, max(FEWEST_HEAD_EPOCHS, ceil(HEAD_STEPS / steps)))
        if layers == "head":
            head_epochs = options.epochs or head_epochs
        recipe = TrainingRecipe(
            epochs=epochs,
            batch_size=BATCH_SIZE,
            optimizer="adamw",
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAYS["adamw"],
            augment=context.recipe.augment,
        )
        return FineTuningPlan(
            layers,
            head_epochs if head.gives_logits else 0,
            0 if layers == "head" else epochs,
            recipe,
            context.seed + place if options.seed is None else options.seed,
        )

    def to_json(self) -> dict[str, Any]:
        """All that the result depends on, for keys."""
        return asdict(self) | {"trunk_factor": TRUNK_FACTOR, "patience": PATIENCE}


def fine_tuned(
    teacher: Teacher, head: ClassHead, plan: FineTuningPlan, context: RunContext
) -> tuple[Teacher, FineTuningRecord]:
    """Fine-tune a teacher, or find it in the store; one that was interrupted goes on.

    Args:
        teacher: as it was given, or with a new head; its network is changed.
        head: of its network.
        plan: how it is fine-tuned.
        context: of the run, as teachers see it.

    Raises:
        InputError: it cannot be trained.
    """
    tuning, store = _FineTuning(teacher, head, plan, context), context.store
    with store.lock("weights", tuning.key):
        if (entry := store.load("weights", tuning.key)) is None:
            context.callback.on_stage("fine-tuning the teacher")
            try:
                with as_trial_error():
                    record = tuning.run()
            except TrialError as error:
                raise InputError(f"teacher: its fine-tuning failed: {error}") from error
            store.save("weights", tuning.key, _state(teacher.model), {"fine_tuning": record.model_dump(mode="json")})
            tuning.forget()
        else:
            teacher.model.load_state_dict(entry.tensors)
            record = FineTuningRecord.model_validate(entry.meta["fine_tuning"])
    return replace(teacher, key=tuning.key, description=f"{teacher.description}, fine-tuned"), record


def describe_fine_tuning(record: FineTuningRecord, n_classes: int, score: str) -> str:
    """Say in one line how a teacher was fine-tuned, and what that was worth.

    Args:
        record: of its fine-tuning.
        n_classes: of the data.
        score: what it was judged by.
    """
    begin = "fine-tuned on the training samples"
    if record.published_classes is not None:
        begin += f", with a new head for {n_classes:,} classes (it had {record.published_classes:,})"
    steps = {
        "as it was given": record.val_before,
        f"with its head trained alone ({record.head_epochs} epochs)": record.val_head,
        f"with all layers (best of {record.trained_epochs} epochs: {record.epochs})": (
            record.val_score if record.trained_epochs else None
        ),
    }
    known = ", ".join(f"{100 * value:.1f} % {text}" for text, value in steps.items() if value is not None)
    return f"{begin}; {score} on validation: {known}"


class _FineTuning:
    """One fine-tuning."""

    def __init__(self, teacher: Teacher, head: ClassHead, plan: FineTuningPlan, context: RunContext) -> None:
        self._model = context.numerics.place(teacher.model)
        self._head, self._plan, self._context = head, plan, context
        trainer = Distiller.for_run(context, NetworkBuilder(context.data, context.space)).trainer
        self._trainer = trainer
        self._schedule = Schedule.of(context.config.distill, plan.recipe)
        augmentation = trainer.augmentation_key(plan.recipe)
        self.key = trainer.cache.key_of({"fine_tuning": plan.to_json()}, self._schedule, augmentation, [teacher])
        self._head_key = fingerprint([self.key, "head"])
        self._best: list[BestEpoch] = []

    def run(self) -> FineTuningRecord:
        """Train the network in place."""
        head, plan, facts = self._head, self._plan, dict[str, Any]()
        if plan.head_epochs:
            known = self._trained_head()
            facts |= {"head_epochs": known["epoch"], "val_head": known["score"]}
            facts |= {"val_before": None if head.is_new else known["before"]}
            facts |= {"val_score": known["score"], "seconds": known["seconds"]}
        if plan.epochs:
            best, training = self._train_all()
            facts |= {"epochs": best.epoch, "trained_epochs": training.epoch, "val_score": best.score}
            facts["seconds"] = round(facts.get("seconds", 0.0) + training.seconds, 3)
        return FineTuningRecord(
            layers=plan.layers,
            published_classes=head.n_classes if head.is_new else None,
            most_epochs=plan.epochs,
            batch_size=plan.recipe.batch_size,
            learning_rate=plan.recipe.learning_rate,
            trunk_learning_rate=plan.recipe.learning_rate * TRUNK_FACTOR if plan.epochs else 0.0,
            augment=plan.recipe.augment,
            **facts,
        )

    def forget(self) -> None:
        """Remove from the store what only an unfinished fine-tuning needs."""
        for best in self._best:
            best.forget()
        self._context.store.remove("checkpoint", self._head_key)

    def _trained_head(self) -> Mapping[str, Any]:
        """Train the head alone, or find it; returns its epochs, scores and seconds."""
        (layer,), store = self._head.layers, self._context.store
        if (entry := store.load("checkpoint", self._head_key)) is None:
            state, known = self._train_head()
            store.save("checkpoint", self._head_key, state, known)
            self._best[-1].forget()
        else:
            state, known = entry.tensors, entry.meta
        layer.load_state_dict(state)
        return known

    def _train_head(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        (layer,), context, plan = self._head.layers, self._context, self._plan
        started = time.perf_counter()
        report = context.callback.on_progress
        features = HeadFeatures.of(
            self._model,
            layer,
            context.data,
            context.numerics,
            lambda done, total: report("what the teacher's head is given: sample", done, total),
        )
        linear = features.standardized_head(layer)
        network = features.network(linear)

        def judge(network: nn.Module) -> Judged:
            task = context.data.task
            evidence = evidence_of(network, features.val, task, PLAIN)
            return Judged(task.first_score(evidence), context.score.value(evidence))

        recipe = replace(plan.recipe, epochs=plan.head_epochs)
        unchanged = Augmenter(features.train.x, torch.zeros(1), Augmentation(crop=0, flip=False, cutout=0), plan.seed)
        setup = replace(
            self._trainer.setup(Schedule.of(context.config.distill, recipe), recipe, plan.seed, self._method),
            source=ArrayBatches(unchanged, features.train.y),
            dataset=DatasetInfo(
                len(features.train), context.data.n_classes, torch.zeros(1), torch.ones(1), context.data.task
            ),
            numerics=PLAIN,
        )
        best = self._watched(network, judge, fingerprint([self._head_key, "training"]), plan.head_epochs)
        best.train(Training(network, [], self._method, setup), context.callback, "the teacher's head")
        features.write_back(linear, layer)
        seconds = round(time.perf_counter() - started, 3)
        return _state(layer), {"epoch": best.epoch, "score": best.score, "before": best.first, "seconds": seconds}

    def _train_all(self) -> tuple[BestEpoch, Training]:
        plan, model = self._plan, self._model
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        of_head = set(map(id, self._head.parameters()))
        slow = SlowWeights([p for p in model.parameters() if id(p) not in of_head], TRUNK_FACTOR)
        setup = replace(self._trainer.setup(self._schedule, plan.recipe, plan.seed, self._method), slow=slow)
        best = self._watched(model, self._trainer.judge, fingerprint([self.key, "all"]), plan.epochs)
        training = Training(model, [], self._method, setup)
        best.train(training, self._context.callback, "the teacher")
        return best, training

    def _watched(self, network: nn.Module, judge: Any, key: str, epochs: int) -> BestEpoch:
        best = BestEpoch(
            network, judge, self._context.store, key, patience=max(LEAST_PATIENCE, ceil(PATIENCE * epochs))
        )
        self._best.append(best)
        return best

    @property
    def _method(self) -> Any:
        return make_method(NO_DISTILLATION)


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of a module's tensors: a file cannot hold those that share memory."""
    return {name: t.detach().clone().contiguous() for name, t in module.state_dict().items()}
