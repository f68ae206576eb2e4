"""The record of how a teacher of the user's own was trained on the data before it taught. Imports no torch."""

from typing import Literal

from nas_kd.results.trial_record import Record


class FineTuningRecord(Record):
    """A teacher's fine-tuning: its head first, on the outputs of the other layers; then all layers.

    Attributes:
        layers: trained in the end.
        published_classes: of the head that a new one took the place of; None: the head was kept.
        head_epochs: of the head's training, up to its best one; 0: it was not trained by itself.
        epochs: of all layers, up to the best one, which is kept; 0: nothing was better than training the head alone.
        trained_epochs: of all layers, until no better one was in sight.
        most_epochs: that it would have been trained for.
        batch_size: samples a step.
        learning_rate: peak of the head's.
        trunk_learning_rate: peak of the other layers'.
        augment: strength of augmentation while all layers were trained.
        val_before: score on validation as it was given, 0..1; None: its classes were others.
        val_head: after the head was trained; None: it was not trained by itself.
        val_score: in the end.
        seconds: of both.
    """

    layers: Literal["head", "all"]
    published_classes: int | None = None
    head_epochs: int = 0
    epochs: int = 0
    trained_epochs: int = 0
    most_epochs: int = 0
    batch_size: int
    learning_rate: float
    trunk_learning_rate: float
    augment: str
    val_before: float | None = None
    val_head: float | None = None
    val_score: float
    seconds: float
