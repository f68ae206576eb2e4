"""The default: TPE, every third time for accuracy alone, and NSGA-II once TPE would take longer than it is worth."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_kd.nas.samplers.base import (
    STARTUP_TRIALS,
    FixedSpaceSampler,
    SamplerInputs,
    SearchSampler,
    optuna_silenced,
)
from nas_kd.nas.samplers.nsga2 import PLUGIN as NSGA2

TPE_TRIALS = 500  # asking takes 10 ms more with every 400 of them
ACCURACY_EVERY = 3  # every n-th proposal is for accuracy alone


class AccuracyTPE(TPESampler):
    """TPE for the first objective alone, within the constraints.

    A user deploys the most accurate candidate within the budget, but two of the three objectives favour small ones.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw as if there were no other objectives."""
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


class Auto(SearchSampler):
    """TPE for all objectives or now and then for accuracy alone; NSGA-II from trial 500 on."""

    name = "auto"
    summary = "tpe, in every third proposal for accuracy alone; nsga2 from trial 500 on"

    def create(self, inputs: SamplerInputs) -> BaseSampler:
        """Create the sampler whose turn it is."""
        if inputs.number >= TPE_TRIALS:
            return NSGA2.create(inputs)
        kind = AccuracyTPE if inputs.number % ACCURACY_EVERY == 0 else TPESampler
        tpe = kind(n_startup_trials=STARTUP_TRIALS, multivariate=True, seed=inputs.seed)
        return FixedSpaceSampler(tpe, inputs)


PLUGIN = Auto()
