"""The record of how a training recipe was chosen: what was given, the rules' proposal, the probe. Imports no torch."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from nas_kd.results.intervals import wilson_interval
from nas_kd.results.training_recipe import Choice, TrainingRecipe
from nas_kd.results.trial_record import Record, ScoredRecord

RecipeField = Annotated[
    InstanceOf[TrainingRecipe],
    BeforeValidator(lambda v: v if isinstance(v, TrainingRecipe) else TrainingRecipe.from_json(v)),
    PlainSerializer(lambda recipe: recipe.to_json()),
]


class ProbeRecord(ScoredRecord):
    """One setting of a probe, and how it did.

    Attributes:
        recipe: the setting.
        epochs: that it was trained for, of the full schedule's length.
        val_accuracy: after the last of them, on validation, 0..1.
        val_score: what decides, there, 0..1.
        low: lower end of its 95 % interval; None in records of older versions.
        high: upper end.
        val_loss: cross-entropy on validation, then.
        curve: the score on validation after each epoch; None where it was not taken.
        rounds: (epochs, score on validation) at the end of each round, where the learning rate is 0.
        seconds: of training.
        failed: why it could not be trained.
    """

    recipe: RecipeField
    epochs: int
    val_accuracy: float = 0.0
    val_score: float = 0.0
    low: float | None = None
    high: float | None = None
    val_loss: float | None = None
    curve: tuple[float | None, ...] = ()
    rounds: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    failed: str | None = None

    def interval(self, n_val: int) -> tuple[float, float]:
        """95 % interval of the score; of a record without one, which is accuracy, Wilson's on `n_val` samples."""
        if self.low is None or self.high is None:
            return wilson_interval(self.val_score, n_val)
        return self.low, self.high


class RecipeRecord(Record):
    """A training recipe and where it comes from.

    Attributes:
        recipe: for all trainings of the run.
        origin: given by the user in full, by rules alone, or by a probe.
        given: names of the fields that the user gave.
        rules: what the rules propose.
        network: that the probe trained, for people.
        settings: of the probe, each as far as it came, in the order in which they were tried.
        compared_epochs: after which settings were compared in the end.
        gain: score on validation that the choice is ahead of the rules' then, 0..1; None: not compared. It may be
            below 0 where the choice was gaining faster.
        augmentation_gain: the same for its augmentation over none, or for none over the others; None: not compared.
        epochs_spent: of the probe, all settings together.
        seconds: that the probe took.
        note: why there was no probe, or why it ended early.
        small: augmentation of small students, where it was tried apart; None: they are trained as all others.
    """

    recipe: RecipeField
    origin: Literal["given", "rules", "probe"]
    given: tuple[str, ...] = ()
    rules: RecipeField
    network: str = ""
    settings: tuple[ProbeRecord, ...] = ()
    compared_epochs: int = 0
    gain: float | None = None
    augmentation_gain: float | None = None
    epochs_spent: int = 0
    seconds: float = 0.0
    note: str | None = None
    small: "SmallStudentsRecord | None" = None


class SmallStudentsRecord(Record):
    """The augmentation of small students, which may have to leave out what larger ones gain by.

    Attributes:
        below_weights: students of fewer weights are small.
        choice: settings that differ in augmentation alone, the run's recipe first, and which one was chosen.
    """

    below_weights: int
    choice: RecipeRecord

    def changes(self, weights: int) -> dict[str, Choice]:
        """Fields of the run's recipe that are others for a student of this many weights."""
        choice = self.choice
        return choice.rules.differences(choice.recipe) if weights < self.below_weights else {}
