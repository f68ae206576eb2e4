"""Bayesian optimisation with a Gaussian process."""

from optuna.samplers import BaseSampler, GPSampler

from nas_kd.nas.samplers.base import STARTUP_TRIALS, FixedSpaceSampler, SamplerInputs, SearchSampler


class GaussianProcess(SearchSampler):
    """Optuna's sampler with a Gaussian process as its model."""

    name = "gp"
    summary = "Gaussian process"

    def create(self, inputs: SamplerInputs) -> BaseSampler:
        """Create it with a few random proposals at the start."""
        return FixedSpaceSampler(GPSampler(n_startup_trials=STARTUP_TRIALS, seed=inputs.seed), inputs)


PLUGIN = GaussianProcess()
