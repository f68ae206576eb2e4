"""Optuna's samplers as this search uses them: seeded anew for each proposal, on a space that is known."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import (
    BaseGASampler,
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_kd.config.options import Sampler

STARTUP_TRIALS = 12
PARENTS = 50  # at most, and a tenth of all trials
TPE_TRIALS = 500  # asking takes 10 ms more with every 400 of them
MOST_ACCURATE = 3  # of so many proposals one seeks accuracy alone
STEPS = 30  # away from what was tried often enough, before it is tried once more
Space = Mapping[str, BaseDistribution]
Best = Callable[[int], Sequence[int]]
TriedEnough = Callable[[Mapping[str, Any]], bool]


def make_sampler(
    name: Sampler, root_seed: int, number: int, *, space: Space, best: Best, tried_enough: TriedEnough
) -> BaseSampler:
    """A fresh sampler for proposal `number`: a resumed run proposes what the uninterrupted one would have.

    `best`: numbers of so many trials, the best ones first. `worn`: see `KnownSpace`.
    "auto": TPE, for all objectives or now and then for accuracy alone, and once it would spend more time on its
    densities than a training is worth, NSGA-II.
    """
    tpe = TPESampler
    if name == "auto":
        name = "tpe" if number < TPE_TRIALS else "nsga2"
        tpe = AccuracyTPE if number % MOST_ACCURATE == 0 else TPESampler
    seed = int(np.random.SeedSequence([root_seed, number]).generate_state(1)[0])
    match name:
        case "tpe":
            return FixedSpaceSampler(
                tpe(n_startup_trials=STARTUP_TRIALS, multivariate=True, seed=seed), space, tried_enough, seed
            )
        case "nsga2" | "nsga3":
            parents = min(PARENTS, max(STARTUP_TRIALS, number // 10))
            steady = (SteadyNSGAII if name == "nsga2" else SteadyNSGAIII)(population_size=parents, seed=seed)
            steady.best = best(2 * parents)
            return FixedSpaceSampler(steady, space, tried_enough, seed)
        case "gp":
            return FixedSpaceSampler(GPSampler(n_startup_trials=STARTUP_TRIALS, seed=seed), space, tried_enough, seed)
        case "random":
            return RandomSampler(seed=seed)


class AccuracyTPE(TPESampler):
    """TPE that seeks the first objective alone, within the constraints.

    The most accurate candidate within the budget is the one that leaves; but two of three objectives favour small ones.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A draw as if there were no other objectives."""
        with optuna_silenced():
            alone = optuna.create_study(direction=study.directions[0], sampler=RandomSampler(seed=0))
            alone.add_trials([_first_objective(t) for t in study.get_trials(deepcopy=False) if t.state.is_finished()])
            asked = alone.ask()
        return super().sample_relative(alone, alone.get_trials(deepcopy=False)[asked.number], search_space)


def _first_objective(trial: FrozenTrial) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=trial.state,
        value=trial.values[0] if trial.state == TrialState.COMPLETE else None,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
    )


class SteadyStateGA(BaseGASampler):
    """Parents are the best of all trials, not of the last generation.

    Optuna remembers a generation's parents from when they were first asked for: a restart would change them. Working
    them out again goes back through all generations, and trials of another sampler belong to none.
    """

    best: Sequence[int] = ()  # numbers of trials

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """0: too few trials to choose parents from."""
        return int(len(self.best) >= STARTUP_TRIALS)

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Of whom parents are chosen."""
        trials = study.get_trials(deepcopy=False)
        return [trials[number] for number in self.best]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The best of them."""
        return self.select_parent(study, generation) if generation else []


class SteadyNSGAII(SteadyStateGA, NSGAIISampler):
    """NSGA-II, one child at a time."""


class SteadyNSGAIII(SteadyStateGA, NSGAIIISampler):
    """NSGA-III, one child at a time."""


class FixedSpaceSampler(BaseSampler):
    """A sampler that is told the space, and whose draws step aside from what was tried often enough.

    A fresh one would else work the space out from all trials, at every proposal. And a sampler that has found good
    networks goes on drawing a handful of them, of which only temperature and strength still differ.
    """

    def __init__(self, inner: BaseSampler, space: Space, tried_enough: TriedEnough, seed: int) -> None:
        """`worn`: whether what these parameters stand for was tried often enough, whatever its real numbers are."""
        self._inner = inner
        self._space = dict(sorted(space.items()))
        self._changing = {name: d for name, d in self._space.items() if not d.single()}
        self._tried_enough = tried_enough
        self._anew = RandomSampler(seed=seed)
        self._generator = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space that was told."""
        return self._changing

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The inner sampler's draw of all parameters together, or what lies beside it."""
        drawn = self._inner.sample_relative(study, trial, search_space)
        if not drawn:
            return drawn  # all is left to chance at first
        for name, distribution in self._space.items():
            if name not in drawn:  # it has one value, or mutates
                drawn[name] = self._inner.sample_independent(study, trial, name, distribution)
        choices = [name for name, d in self._changing.items() if not isinstance(d, FloatDistribution)]
        there = drawn
        for _ in range(STEPS if choices else 0):
            if not self._tried_enough(there):
                return there
            name = str(self._generator.choice(choices))
            there = there | {name: self._anew.sample_independent(study, trial, name, self._space[name])}
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The inner sampler's draw of one parameter."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Pass on."""
        self._inner.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass on."""
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Pass on."""
        self._inner.after_trial(study, trial, state, values)


@contextmanager
def optuna_silenced() -> Iterator[None]:
    """Optuna's log lines and its notices about experimental parts, which a user can do nothing about, left out."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
