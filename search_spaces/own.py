"""The teacher's own network, smaller: students are cut out of it, and begin with its weights."""

from typing import NoReturn

from optuna.trial import BaseTrial
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.derived.derived_space import DerivedSpace
from nas_kd.results.candidate import Architecture


class OwnSpace:
    """Stands for the space of the run's teacher until that is there."""

    name = "own"
    summary = DerivedSpace.summary

    def derive(self, network: nn.Module, example: Tensor, starts: tuple[str, ...], *, gathered: bool) -> DerivedSpace:
        """Make the space of a trained network, see `DerivedSpace`; factors of layers are computed, not gathered."""
        return DerivedSpace(network, example, starts=starts, ranks=not gathered)

    def suggest(self, trial: BaseTrial, prefix: str = "") -> Architecture:
        """Raise an error: there is no network yet."""
        self._refuse()

    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Raise an error: there is no network yet."""
        self._refuse()

    def size_ladder(self, n: int) -> list[Architecture]:
        """Raise an error: there is no network yet."""
        self._refuse()

    def cardinality(self) -> int:
        """Raise an error: there is no network yet."""
        self._refuse()

    def describe(self, architecture: Architecture) -> str:
        """Raise an error: there is no network yet."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"space {self.name!r} is made of the run's first teacher: it is for space.name, and no teacher can be "
            "trained from it"
        )


PLUGIN = OwnSpace()
