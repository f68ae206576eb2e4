"""Teacher assistants (Mirzadeh et al. 2020, TAKD, arXiv:1902.03393): each link learns from the one before."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.chain_policies.base import ChainPolicy
from nas_kd.results.candidate import Architecture

if TYPE_CHECKING:
    from nas_kd.kd.distiller import Distiller


class Sequential(ChainPolicy):
    """Teacher -> assistant -> assistant -> student: one teacher a link."""

    name = "sequential"
    source = "Mirzadeh 2020, arXiv:1902.03393"
    any_classes = True
    summary = "each link learns from the one before"

    def teachers(
        self, distiller: "Distiller", roots: Sequence[Teacher], assistants: tuple[Architecture, ...]
    ) -> list[Teacher]:
        """List the last assistant alone."""
        return [distiller.assistant(self, assistants)]


PLUGIN = Sequential()
