"""NSGA-II and NSGA-III that make one child at a time, as trials come and go one by one."""

from collections.abc import Sequence

from optuna.samplers import BaseGASampler, BaseSampler, NSGAIIISampler, NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_kd.nas.samplers.base import STARTUP_TRIALS, FixedSpaceSampler, SamplerInputs

MAX_PARENTS = 50  # and a tenth of all trials at most


class SteadyStateGA(BaseGASampler):
    """Parents are the best of all trials, not of the last generation.

    Optuna remembers a generation's parents from when they were first asked for: a restart would change them. Working
    them out again goes back through all generations, and trials of another sampler belong to none.
    """

    best: Sequence[int] = ()  # numbers of trials

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Return 1, or 0 while there are too few trials to choose parents from."""
        return int(len(self.best) >= STARTUP_TRIALS)

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """List the trials that parents are chosen from."""
        trials = study.get_trials(deepcopy=False)
        return [trials[number] for number in self.best]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Choose the parents among them."""
        return self.select_parent(study, generation) if generation else []


class SteadyNSGAII(SteadyStateGA, NSGAIISampler):
    """NSGA-II (Deb et al. 2002), one child at a time."""


class SteadyNSGAIII(SteadyStateGA, NSGAIIISampler):
    """NSGA-III (Deb & Jain 2014), one child at a time."""


def create_steady(kind: type[SteadyNSGAII] | type[SteadyNSGAIII], inputs: SamplerInputs) -> BaseSampler:
    """Create one of them, its parents chosen from the best trials so far."""
    parents = min(MAX_PARENTS, max(STARTUP_TRIALS, inputs.number // 10))
    steady = kind(population_size=parents, seed=inputs.seed)
    steady.best = inputs.best_trials(2 * parents)
    return FixedSpaceSampler(steady, inputs)
