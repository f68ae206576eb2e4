"""What a sampler of this search is: seeded anew for each proposal, on a space that is known."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_kd.plugins import load

STARTUP_TRIALS = 12  # proposals drawn at random before a sampler learns from their results
MAX_STEPS = 30  # away from what was tried often enough, before it is proposed once more
Space = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class SamplerInputs:
    """What a sampler is created from, for one proposal.

    Attributes:
        number: of the proposal, from 0.
        seed: of this proposal, so that a resumed run proposes what the uninterrupted one would have.
        space: all parameters, by name; empty for the first proposal.
        best_trials: numbers of the n best trials, best first.
        tried_enough: whether candidates with these parameters, whatever their real-valued ones, were tried often
            enough.
    """

    number: int
    seed: int
    space: Space
    best_trials: Callable[[int], Sequence[int]]
    tried_enough: Callable[[Mapping[str, Any]], bool]


class SearchSampler(ABC):
    """One file in `nas_kd/nas/samplers/` with `PLUGIN = <instance>`, or a user's `package.module:Name`."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for `nas-kd list samplers`

    @abstractmethod
    def create(self, inputs: SamplerInputs) -> BaseSampler:
        """Create a fresh Optuna sampler for one proposal; it must depend on `inputs` alone."""


def load_sampler(name: str) -> SearchSampler:
    """Find the sampler called `name` (or `package.module:Name`).

    Raises:
        InputError: there is none, or it is no `SearchSampler`.
    """
    return load("sampler", name, SearchSampler)  # type: ignore[type-abstract]


def make_sampler(
    name: str,
    root_seed: int,
    number: int,
    *,
    space: Space,
    best_trials: Callable[[int], Sequence[int]],
    tried_enough: Callable[[Mapping[str, Any]], bool],
) -> BaseSampler:
    """Create a fresh sampler for proposal `number`.

    Args:
        name: in the registry, or `package.module:Name`.
        root_seed: of the run.
        number: of the proposal, from 0.
        space: see `SamplerInputs`.
        best_trials: see `SamplerInputs`.
        tried_enough: see `SamplerInputs`.

    Raises:
        InputError: there is no such sampler.
    """
    seed = int(np.random.SeedSequence([root_seed, number]).generate_state(1)[0])
    return load_sampler(name).create(SamplerInputs(number, seed, space, best_trials, tried_enough))


class FixedSpaceSampler(BaseSampler):
    """Wraps a sampler: gives it the search space, and makes its draws step aside from what was tried often enough.

    A fresh sampler would otherwise infer the space from all trials, at every proposal. And a sampler that has found
    good networks goes on drawing a handful of them, which differ in temperature and strength alone.
    """

    def __init__(self, inner: BaseSampler, inputs: SamplerInputs) -> None:
        """Wrap `inner` for the proposal that `inputs` describe."""
        self._inner = inner
        self._space = dict(sorted(inputs.space.items()))
        self._changing = {name: d for name, d in self._space.items() if not d.single()}
        self._tried_enough = inputs.tried_enough
        self._anew = RandomSampler(seed=inputs.seed)
        self._generator = np.random.default_rng(inputs.seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the space that was given."""
        return self._changing

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw all parameters together as the inner sampler does, or step aside to a neighbour."""
        drawn = self._inner.sample_relative(study, trial, search_space)
        if not drawn:
            return drawn  # the first proposals are independent draws
        for name, distribution in self._space.items():
            if name not in drawn:  # it has a single value, or mutates
                drawn[name] = self._inner.sample_independent(study, trial, name, distribution)
        choices = [name for name, d in self._changing.items() if not isinstance(d, FloatDistribution)]
        there = drawn
        for _ in range(MAX_STEPS if choices else 0):
            if not self._tried_enough(there):
                return there
            name = str(self._generator.choice(choices))
            there = there | {name: self._anew.sample_independent(study, trial, name, self._space[name])}
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter as the inner sampler does."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Forward to the inner sampler."""
        self._inner.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Forward to the inner sampler."""
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Forward to the inner sampler."""
        self._inner.after_trial(study, trial, state, values)


@contextmanager
def optuna_silenced() -> Iterator[None]:
    """Leave out Optuna's log lines and its notices about experimental parts: a user can do nothing about them."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
