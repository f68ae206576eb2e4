"""Draws random architectures of any space, and crosses two, by the parameters that the space asks Optuna for."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from nas_kd.errors import InputError, TrialError
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.models.search_space import SearchSpace
from nas_kd.nas.samplers.base import optuna_silenced
from nas_kd.results.candidate import Architecture

Genotype = Mapping[str, Any]  # parameter -> value
MAX_TRIES = 40  # draws, until the space accepts one
MUTATION_RATE = 0.15  # chance of each parameter to be drawn anew


class ArchitectureSampler:
    """A stream of architectures that depends on the seed alone."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._generator = np.random.default_rng(seed)
        with optuna_silenced():
            self._study = optuna.create_study(sampler=RandomSampler(seed=seed))
            self._distributions = self._find_parameters()

    def _find_parameters(self) -> dict[str, BaseDistribution]:
        """Learn the space's parameters from a draw that it accepts.

        Raises:
            InputError: it accepts none.
        """
        reason: TrialError | None = None
        for _ in range(MAX_TRIES):
            trial = self._study.ask()
            try:
                with as_trial_error():
                    self._space.suggest(trial)
                return trial.distributions
            except TrialError as error:
                reason = reason or error
        raise InputError(f"space {self._space.name!r}: suggest() fails for all of {MAX_TRIES} draws: {reason}")

    def draw(self) -> Architecture:
        """Draw an architecture that the space accepts.

        Raises:
            TrialError: it accepts none of many.
        """
        for _ in range(MAX_TRIES - 1):
            with suppress(TrialError):
                return self.architecture(self.random())
        return self.architecture(self.random())

    def random(self) -> Genotype:
        """Draw all parameters as the space does."""
        with optuna_silenced():
            return self._study.ask(self._distributions).params

    def child(self, mother: Genotype, father: Genotype) -> Genotype:
        """Take each parameter from one of the two parents, or draw it anew."""
        new = self.random()
        chances = self._generator.random((len(new), 2))
        return {
            name: value if mutation < MUTATION_RATE else (mother if side < 0.5 else father)[name]
            for (name, value), (mutation, side) in zip(new.items(), chances, strict=True)
        }

    def pick(self, number: int, count: int) -> list[int]:
        """Draw `count` numbers below `number`, with repeats."""
        return [int(i) for i in self._generator.integers(0, number, count)]

    def architecture(self, genotype: Genotype) -> Architecture:
        """Turn parameters into an architecture in canonical form.

        Raises:
            TrialError: the space does not accept them.
        """
        with optuna_silenced(), as_trial_error():
            return self._space.suggest(FixedTrial(dict(genotype)))
