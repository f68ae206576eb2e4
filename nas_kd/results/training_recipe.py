"""How networks are trained, whatever they learn from: length, batch size, optimiser, augmentation and mixing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

Choice = int | float | str
OPTIMIZERS = ("sgd", "adamw")
STRENGTHS = ("none", "standard", "strong")
MIXES = ("none", "mixup", "cutmix")
# What suits most networks of a space, at batches of 16 to 128 samples alike (benchmarks/recipe).
LEARNING_RATES = {"sgd": 0.1, "adamw": 0.01}
WEIGHT_DECAYS = {"sgd": 5e-4, "adamw": 0.05}


@dataclass(frozen=True)
class TrainingRecipe:
    """The part of a recipe that all methods share.

    Attributes:
        epochs: passes over the training samples in a full training.
        batch_size: samples a step.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: its peak.
        weight_decay: on weights of layers, not on biases and normalisation.
        augment: strength of augmentation, one of `STRENGTHS`.
        mix: how training samples are mixed with each other, one of `MIXES`.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    augment: str
    mix: str = "none"

    def with_choices(self, choices: Mapping[str, Choice]) -> "TrainingRecipe":
        """Replace some of the fields; what is not given follows those that are.

        Another optimiser brings its own weight decay, and a learning rate that is as far from its usual one as this
        recipe's is.

        Args:
            choices: values by field.
        """
        if not choices:
            return self
        fields: dict[str, Any] = dict(choices)
        optimizer = str(choices.get("optimizer", self.optimizer))
        if optimizer != self.optimizer:
            rate = self.learning_rate / LEARNING_RATES[self.optimizer] * LEARNING_RATES[optimizer]
            fields = {"learning_rate": rounded(rate), "weight_decay": WEIGHT_DECAYS[optimizer]} | fields
        return replace(self, **fields)

    def differences(self, other: "TrainingRecipe") -> dict[str, Choice]:
        """Fields of the other recipe that are not as here: `with_choices` of them gives the other recipe."""
        mine = asdict(self)
        follow = ("learning_rate", "weight_decay") if other.optimizer != self.optimizer else ()
        return {name: value for name, value in asdict(other).items() if value != mine[name] or name in follow}

    def to_json(self) -> dict[str, Any]:
        """All fields by name, as the study and the store keep them; `mix`, which came later, only if it is not none."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("mix", "none")}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "TrainingRecipe":
        """Read the recipe that `to_json` wrote."""
        return TrainingRecipe(**value)


def rounded(value: float) -> float:
    """Round to two digits, as people write such numbers."""
    return float(f"{value:.2g}")
