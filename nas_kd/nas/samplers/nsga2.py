"""NSGA-II (Deb et al. 2002) in steady state: parents are the best of all trials, not of a generation."""

from optuna.samplers import BaseSampler

from nas_kd.nas.samplers.base import SamplerInputs, SearchSampler
from nas_kd.nas.samplers.steady_state import SteadyNSGAII, create_steady


class NSGAII(SearchSampler):
    """Evolution by non-dominated sorting, one child at a time."""

    name = "nsga2"
    summary = "NSGA-II, one child at a time"

    def create(self, inputs: SamplerInputs) -> BaseSampler:
        """Create it with the best trials so far as parents."""
        return create_steady(SteadyNSGAII, inputs)


PLUGIN = NSGAII()
