"""Builds networks of the search spaces for one data set, and counts what is known of them before any training."""

from collections.abc import Sequence
from functools import lru_cache

from torch import nn

from nas_kd.data.dataset import Dataset
from nas_kd.engine.numerics import seeded
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.models.search_space import SearchSpace, load_space
from nas_kd.models.wrappers import Normalized
from nas_kd.results.candidate import Architecture
from nas_kd.results.trial_record import Costs


class NetworkBuilder:
    """Builds one data set's networks: (B, *input_shape) in stored units -> (B, C) logits, normalisation inside."""

    def __init__(self, data: Dataset, space: SearchSpace) -> None:
        """Build networks for these data.

        Args:
            data: gives input shape, classes and statistics.
            space: of students; others are found by name.
        """
        self._data = data
        self._spaces = {space.name: space}
        self._counted = lru_cache(maxsize=None)(self._count)

    def space(self, architecture: Architecture) -> SearchSpace:
        """Find the space that an architecture belongs to."""
        name = architecture.space
        if name not in self._spaces:
            self._spaces[name] = load_space(name)
        return self._spaces[name]

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """Build a network with initial weights that depend on the architecture and the seed alone."""
        data = self._data
        with seeded(seed, 0):
            body = self.space(architecture).build(architecture, data.input_shape, data.n_classes)
        return Normalized(body, data.mean, data.std)

    def parameters(self, architecture: Architecture) -> int:
        """Count the network's trained weights."""
        return self._counted(architecture).parameters

    def macs(self, architecture: Architecture) -> int:
        """Count the multiply-adds of one sample."""
        return self._counted(architecture).macs

    def counted(self, deployed: Sequence[Architecture]) -> Costs:
        """Count weights and multiply-adds of networks that are deployed as one file."""
        return Costs(parameters=sum(map(self.parameters, deployed)), macs=sum(map(self.macs, deployed)))

    def _count(self, architecture: Architecture) -> Costs:
        network = self.build(architecture, 0)
        return Costs(parameters=count_parameters(network), macs=count_macs(network, self._data.input_shape))

    def description(self, architecture: Architecture) -> str:
        """Describe the network for people: `3 stages, 16-24-48 wide, 5 blocks, 21 k weights`."""
        return (
            f"{self.space(architecture).describe(architecture)}, {in_thousands(self.parameters(architecture))} weights"
        )


def in_thousands(n: int) -> str:
    """Write a count as people do: `950`, `2.1 k`, `21 k`, `1.3 M`."""
    for limit, scale, unit, digits in ((1e3, 1, "", 0), (1e4, 1e3, " k", 1), (1e6, 1e3, " k", 0)):
        if n < limit:
            return f"{n / scale:.{digits}f}{unit}"
    return f"{n / 1e6:.1f} M"
