"""The sandwich rule with in-place distillation (Yu et al. 2020, BigNAS, arXiv:2003.11142, section 3.1).

Every step trains the largest sub-network, the smallest and a few drawn at random on one batch. All of them learn from
the teacher, each with L = 0.1 CE + 0.9 T^2 KL (soft targets, T = 4), and the mean over them is what is minimised; in
the paper the largest learns from the labels, the others from the largest.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Network, Outputs
from nas_kd.methods.divergence import kl_divergence
from nas_kd.methods.response.soft_targets import SoftTargets
from nas_kd.results.candidate import Architecture


@runtime_checkable
class ManySided(Protocol):
    """A network that can run as any of its sub-networks."""

    def showing(self, architecture: Architecture) -> AbstractContextManager[None]:
        """Run as this one inside."""


class Sandwich(Method):
    """Trains an elastic student, shown as its largest sub-network; its cross-entropy is among the terms."""

    name = "sandwich"
    source = "Yu 2020, arXiv:2003.11142"
    summary = "trains the largest, the smallest and random sub-networks of one elastic network together"
    tunable = ()
    ce_weight = 0.0
    target_grad_ratio = None

    def __init__(self, smallest: Architecture, pool: Sequence[Architecture], drawn: int) -> None:
        """`pool`: the sub-networks from which `drawn` take part in a step."""
        super().__init__()
        self._smallest, self._pool, self._drawn = smallest, tuple(pool), drawn
        self._student: tuple[ManySided, Network] | None = None

    def attach(self, context: MethodContext) -> None:
        """See the student."""
        if not isinstance(context.student, ManySided):
            raise InputError("the sandwich rule trains an elastic network, and the student is none")
        self._student = context.student, context.observe(context.student, context.example)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term for the labels, one for the teacher."""
        shown = [student.logits, *(self._logits(a, batch.x) for a in [self._smallest, *self._draw()])]
        share = SoftTargets.kd_weight / len(shown)
        labels = [F.cross_entropy(logits, batch.y) for logits in shown]
        taught = [kl_divergence(logits, teachers[0].logits, self.temperature) for logits in shown]
        rest = SoftTargets.ce_weight / len(shown)
        return {"sandwich_ce": rest * torch.stack(labels).sum(), "sandwich": share * torch.stack(taught).sum()}

    def _draw(self) -> list[Architecture]:
        return [self._pool[int(i)] for i in torch.randint(len(self._pool), (self._drawn,))]

    def _logits(self, architecture: Architecture, x: Tensor) -> Tensor:
        if self._student is None:
            raise RuntimeError("attach comes first")
        elastic, run = self._student
        with elastic.showing(architecture):
            return run(x).logits
