"""TPE for all objectives at once (Bergstra et al. 2011; multi-objective: Ozaki et al. 2022)."""

from optuna.samplers import BaseSampler, TPESampler

from nas_kd.nas.samplers.base import STARTUP_TRIALS, FixedSpaceSampler, SamplerInputs, SearchSampler


class TPE(SearchSampler):
    """Optuna's tree-structured Parzen estimator, all parameters drawn together."""

    name = "tpe"
    summary = "tree-structured Parzen estimator for accuracy, size and latency together"

    def create(self, inputs: SamplerInputs) -> BaseSampler:
        """Create it with a few random proposals at the start."""
        tpe = TPESampler(n_startup_trials=STARTUP_TRIALS, multivariate=True, seed=inputs.seed)
        return FixedSpaceSampler(tpe, inputs)


PLUGIN = TPE()
