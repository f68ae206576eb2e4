"""Random search, the baseline of every sampler."""

from optuna.samplers import BaseSampler, RandomSampler

from nas_kd.nas.samplers.base import SamplerInputs, SearchSampler


class Random(SearchSampler):
    """Draws every parameter independently and uniformly."""

    name = "random"
    summary = "independent random draws"

    def create(self, inputs: SamplerInputs) -> BaseSampler:
        """Create it for this proposal's seed."""
        return RandomSampler(seed=inputs.seed)


PLUGIN = Random()
