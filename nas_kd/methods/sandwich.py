"""The sandwich rule with in-place distillation (Yu et al. 2020, BigNAS, arXiv:2003.11142, section 3.1).

Every step trains the largest sub-network, the smallest and a few random ones on one batch. Each learns from the teacher
with L = 0.1 CE + 0.9 T^2 KL (soft targets, T = 4), and the mean over the sub-networks is minimised. In the paper the
largest learns from the labels and the others from the largest: so does `InPlaceDistillation`, without a teacher.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Network, Outputs
from nas_kd.methods.response.soft_targets import SoftTargets
from nas_kd.results.candidate import Architecture


@runtime_checkable
class ElasticNetwork(Protocol):
    """A weight-sharing network that can run as any of its sub-networks."""

    def as_subnet(self, architecture: Architecture) -> AbstractContextManager[None]:
        """Run as the sub-network of this architecture while the context is open."""


class Sandwich(Method):
    """Trains an elastic student whose current sub-network is its largest; cross-entropy is one of the terms."""

    name = "sandwich"
    source = "Yu 2020, arXiv:2003.11142"
    summary = "trains the largest, the smallest and random sub-networks of one elastic network together"
    tunable = ()
    ce_weight = 0.0
    target_grad_ratio = None

    def __init__(self, smallest: Architecture, pool: Sequence[Architecture], n_random: int) -> None:
        """Choose the sub-networks that take part beside the largest.

        Args:
            smallest: part of every step.
            pool: the sub-networks that random ones are drawn from, with replacement.
            n_random: number of random sub-networks per step.
        """
        super().__init__()
        self._smallest, self._pool, self._n_random = smallest, tuple(pool), n_random
        self._student: tuple[ElasticNetwork, Network] | None = None

    def attach(self, context: MethodContext) -> None:
        """Keep the student, which is run once per sub-network.

        Raises:
            InputError: the student is not an elastic network.
        """
        if not isinstance(context.student, ElasticNetwork):
            raise InputError("the sandwich rule trains an elastic network, and the student is none")
        self._student = context.student, context.observe(context.student, context.example)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `sandwich_ce` (labels) and `sandwich` (teacher), means over the sub-networks.

        Args:
            student: outputs of the largest sub-network; the others are run here.
            teachers: one teacher's outputs.
            batch: the batch, also the input of the other sub-networks.
        """
        logits = [student.logits, *(self._logits(a, batch) for a in [self._smallest, *self._draw()])]
        kd_weight = SoftTargets.kd_weight / len(logits)
        label_terms = [batch.label_loss(z) for z in logits]
        kd_terms = [batch.divergence(z, teachers[0].logits, self.temperature) for z in logits]
        ce_weight = SoftTargets.ce_weight / len(logits)
        return {
            "sandwich_ce": ce_weight * torch.stack(label_terms).sum(),
            "sandwich": kd_weight * torch.stack(kd_terms).sum(),
        }

    def _draw(self) -> list[Architecture]:
        return [self._pool[int(i)] for i in torch.randint(len(self._pool), (self._n_random,))]

    def _logits(self, architecture: Architecture, batch: Batch) -> Tensor:
        if self._student is None:
            raise RuntimeError("attach comes first")
        elastic, run = self._student
        with elastic.as_subnet(architecture):
            return batch.counted(run(batch.x).logits)


class InPlaceDistillation(Sandwich):
    """Trains an elastic student from labels, and its sub-networks from itself; its current sub-network is its largest.

    L = CE(largest) + mean over the others of T^2 KL(largest || sub-network), T = 4. The largest gets no gradient by the
    divergence from its own outputs, which would become easy to learn and wrong.
    """

    name = "in_place"
    summary = "trains an elastic network from the labels, and its smaller sub-networks from the outputs of the largest"
    teachers = "none"
    ce_weight = 1.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `in_place`, the mean over the smallest and the random sub-networks.

        Args:
            student: outputs of the largest sub-network; the others are run here.
            teachers: none.
            batch: the batch, also the input of the other sub-networks.
        """
        soft = student.logits.detach()
        others = [self._logits(architecture, batch) for architecture in [self._smallest, *self._draw()]]
        return {"in_place": torch.stack([batch.divergence(z, soft, self.temperature) for z in others]).mean()}
