"""One training of one network: what is to be trained, what came out, and how it survives being killed."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nas_kd.context.callbacks import Callback, EpochEnd
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.training import Training
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Architecture, Recipe
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.results.trial_record import Judged
from nas_kd.store.store import Store

CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and what is known of its training.

    Attributes:
        model: in eval mode, (B, ...) in stored units -> (B, C) logits.
        key: fingerprint of all that its weights depend on.
        val_accuracy: on the validation split, 0..1.
        val_score: what decides, on the same split, 0..1.
        seconds: what the training took when it took place.
        losses: means of the named loss terms over the last epoch, unscaled.
        calibration: the factor that calibration gave each part of the method, by name.
        grad_ratios: gradient norm of each calibrated part, over that of cross-entropy, when it was last calibrated.
    """

    model: nn.Module
    key: str
    val_accuracy: float
    val_score: float
    seconds: float
    losses: dict[str, float]
    calibration: dict[str, float]
    grad_ratios: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingJob:
    """One network to train.

    Attributes:
        student: the architecture to train.
        recipe: its distillation method and parameters.
        training: the part of the recipe that all methods share.
        schedule: the whole learning-rate schedule, which follows from it.
        seed: of initial weights and of every random choice in training.
        until: epochs of the schedule to train for now; a later job with a larger `until` goes on from there.
        precision: one whose rounding training simulates; fp32 for precisions that are made of trained weights.
    """

    student: Architecture
    recipe: Recipe
    training: TrainingRecipe
    schedule: Schedule
    seed: int
    until: int
    precision: str = "fp32"

    def facts(self) -> dict[str, Any]:
        """Collect what of this job the trained weights depend on, for their fingerprint."""
        return {
            "student": self.student.to_json(),
            "recipe": self.recipe.to_json(),
            "until": self.until,
            "seed": self.seed,
        }


def training_precision(precision: str) -> str:
    """The precision itself if training simulates its rounding, else fp32, which it is made of."""
    return precision if load_precision(precision).quantization_aware else "fp32"


def run_from_checkpoint(
    training: Training,
    store: Store,
    key: str,
    until: int,
    *,
    callback: Callback,
    description: str,
    judge: Callable[[Training], Judged | None] = lambda _: None,
    enough: Callable[[Training], bool] = lambda _: False,
) -> None:
    """Train up to epoch `until`, from a checkpoint if there is one; leave one where more epochs may follow.

    Args:
        training: not begun yet.
        store: holds checkpoints.
        key: of the checkpoint.
        until: epochs of the schedule.
        callback: receives how far the training has come.
        description: of the network, for people.
        judge: judges the network so far on validation; called only if a callback reads it.
        enough: asked after every epoch whether the training may end there.
    """
    epochs = training.setup.schedule.epochs
    if (checkpoint := store.load("checkpoint", key)) is not None and checkpoint.meta["epoch"] <= until:
        training.restore(checkpoint.tensors)
        if enough(training):
            return
    saved_at = time.monotonic()

    def after_epoch(running: Training) -> None:
        nonlocal saved_at
        callback.on_progress(f"training {description}: epoch", running.epoch, until)
        callback.on_epoch_end(EpochEnd.of(running, description, lambda: judge(running)))
        unfinished = running.epoch < epochs
        if unfinished and (running.epoch == until or time.monotonic() - saved_at >= CHECKPOINT_EVERY_S):
            state = {k: v.contiguous() for k, v in running.state().items()}
            store.save("checkpoint", key, state, {"epoch": running.epoch})
            saved_at = time.monotonic()
        if enough(running):
            raise _Enough

    with suppress(_Enough):
        training.run(until, after_epoch)


class _Enough(Exception):
    """Ends a training after an epoch."""
