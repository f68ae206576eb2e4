"""One link of a chain: what it is to learn, and what has become of it."""

from dataclasses import dataclass

from torch import nn

from nas_kd.engine.schedule import Schedule
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Architecture, Precision, Recipe


@dataclass(frozen=True)
class TrainedModel:
    """A trained network. `seconds`: what its training took, when it took place; `losses`: means over the last epoch."""

    model: nn.Module
    key: str
    val_accuracy: float
    seconds: float
    losses: dict[str, float]
    calibration: dict[str, float]


@dataclass(frozen=True)
class TrainingJob:
    """One link to train: who, with which recipe, for how long, from which seed. `until`: epochs of the schedule.

    `precision`: the one that training knows of; fp32 for those that are made of its weights afterwards.
    """

    student: Architecture
    recipe: Recipe
    schedule: Schedule
    seed: int
    until: int
    precision: Precision = "fp32"


def training_precision(precision: Precision) -> Precision:
    """The precision itself if training knows of it, else that of the weights that it is made of."""
    return precision if load_precision(precision).quantization_aware else "fp32"
