"""Networks of the search spaces: building them, and what can be known of them before any training."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from torch import nn

from nas_kd.data.dataset import Dataset
from nas_kd.engine.numerics import seeded
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.models.normalised import Normalized
from nas_kd.models.search_space import SearchSpace
from nas_kd.plugins import load
from nas_kd.results.candidate import Architecture
from nas_kd.results.records import Costs


def load_space(name: str) -> SearchSpace:
    """The search space called `name`; a class is instantiated.

    Raises:
        InputError: it is unknown, or lacks a part of the protocol.
    """
    found: Any = load("space", name)
    space = found() if isinstance(found, type) else found
    for part in ("name", "suggest", "build", "size_ladder", "cardinality", "describe"):
        if not hasattr(space, part):
            raise InputError(f"space {name!r} has no {part!r}; see nas_kd.models.search_space.SearchSpace")
    return space  # type: ignore[no-any-return]


class NetworkBuilder:
    """Builds one data set's networks: (B, *input_shape) in stored units -> (B, C) logits, normalisation inside."""

    def __init__(self, data: Dataset, space: SearchSpace) -> None:
        self._data = data
        self._spaces = {space.name: space}
        self._counted = lru_cache(maxsize=None)(self._count)

    def space(self, architecture: Architecture) -> SearchSpace:
        """The architecture's space."""
        name = architecture.space
        if name not in self._spaces:
            self._spaces[name] = load_space(name)
        return self._spaces[name]

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """A network with initial weights that depend on the architecture and the seed alone."""
        data = self._data
        with seeded(seed, 0):
            body = self.space(architecture).build(architecture, data.input_shape, data.n_classes)
        return Normalized(body, data.mean, data.std)

    def parameters(self, architecture: Architecture) -> int:
        """Number of trained weights."""
        return self._counted(architecture).parameters

    def macs(self, architecture: Architecture) -> int:
        """Multiply-adds of one sample."""
        return self._counted(architecture).macs

    def counted(self, deployed: Sequence[Architecture]) -> Costs:
        """Of all of them together, as a file has them."""
        return Costs(parameters=sum(map(self.parameters, deployed)), macs=sum(map(self.macs, deployed)))

    def _count(self, architecture: Architecture) -> Costs:
        network = self.build(architecture, 0)
        return Costs(parameters=count_parameters(network), macs=count_macs(network, self._data.input_shape))

    def description(self, architecture: Architecture) -> str:
        """`3 stages, 16-24-48 wide, 5 blocks, 21 k weights`."""
        return (
            f"{self.space(architecture).describe(architecture)}, {in_thousands(self.parameters(architecture))} weights"
        )


def in_thousands(n: int) -> str:
    """`950`, `2.1 k`, `21 k`, `1.3 M`."""
    for limit, scale, unit, digits in ((1e3, 1, "", 0), (1e4, 1e3, " k", 1), (1e6, 1e3, " k", 0)):
        if n < limit:
            return f"{n / scale:.{digits}f}{unit}"
    return f"{n / 1e6:.1f} M"
