"""A search space under test: random draws, networks, and what to compare them by."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial
from torch import Tensor, nn

from nas_kd.models.search_space import SearchSpace
from nas_kd.results.candidate import Architecture, Choice
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION

PREFIX = "student."
N_DRAWS = 40
InputShape = tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """An architecture, and the Optuna parameters that it was drawn with.

    Attributes:
        architecture: as the space returned it.
        distributions: of the trial's parameters, by name with the prefix.
    """

    architecture: Architecture
    distributions: Mapping[str, BaseDistribution]


class SpaceCase:
    """A space with what its rules need.

    Attributes:
        space: the plug-in.
        input_shapes: of one sample each; all rules but the one on shapes use the first.
        n_classes: length of the logits.
        nested: whether the ladder's networks are to be leading parts of the next ones.
        task: that the networks are for.
    """

    def __init__(
        self,
        space: SearchSpace,
        input_shapes: tuple[InputShape, ...],
        n_classes: int,
        *,
        nested: bool,
        task: Task = CLASSIFICATION,
    ) -> None:
        self.space, self.input_shapes, self.n_classes, self.nested = space, input_shapes, n_classes, nested
        self.task = task

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of what a network returns for one sample; None: a side of any length."""
        return self.task.raw_shape(self.n_classes)

    @cached_property
    def draws(self) -> list[Draw]:
        """Random architectures, the same ones in every check."""
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        finally:
            optuna.logging.set_verbosity(level)
        trials = [study.ask() for _ in range(N_DRAWS)]
        return [Draw(self.space.suggest(trial, PREFIX), trial.distributions) for trial in trials]

    @property
    def dimensions(self) -> dict[str, BaseDistribution]:
        """The first draw's parameters by name, without the prefix."""
        return {name.removeprefix(PREFIX): d for name, d in self.draws[0].distributions.items()}

    def chosen(self, choices: Mapping[str, Choice]) -> Architecture:
        """The architecture that a trial with these values gives."""
        return self.space.suggest(FixedTrial(dict(choices)), "")

    def build(self, architecture: Architecture, shape: InputShape | None = None, seed: int = 7) -> nn.Module:
        """A network with the initial weights of this seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.space.build(architecture, shape or self.input_shapes[0], self.n_classes)

    def samples(self, n: int, shape: InputShape | None = None) -> Tensor:
        """Draw `n` samples of normal noise, (n, *shape)."""
        return torch.randn(n, *(shape or self.input_shapes[0]), generator=torch.Generator().manual_seed(n))

    def n_weights(self, architecture: Architecture) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.build(architecture).parameters())


def values_of(distribution: BaseDistribution) -> list[Any]:
    """Both ends of a range of numbers, or all categories."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return [distribution.low, distribution.high]
    raise TypeError(f"a parameter has a {type(distribution).__name__}; known are numbers and categories")


def n_values(distribution: BaseDistribution) -> float:
    """How many values a parameter can have; infinity for real numbers."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    return float("inf")
