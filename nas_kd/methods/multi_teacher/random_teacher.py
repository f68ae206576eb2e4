"""One of several teachers, drawn for every batch (Fukuda et al. 2017, Interspeech; surveys also cite You et al. 2017).

L = 0.1 CE + 0.9 T^2 KL(p_t || q), t uniform among the teachers, p_t and q softmax of logits / T; T = 4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.losses import kl_divergence
from nas_kd.methods.multi_teacher.average_teachers import require_two_teachers


class RandomTeacher(Method):
    """Soft targets of one teacher, drawn per step; ce_weight 0.1, kd_weight 0.9."""

    name = "random_teacher"
    source = "Fukuda 2017, Interspeech"
    summary = "soft targets of one of several teachers, drawn for every batch"
    decisions = frozenset({"sample", "rows"})
    target_grad_ratio = 1.8
    teachers = "several"
    tunable = ("temperature", "strength")
    ce_weight = 0.1
    kd_weight = 0.9

    def attach(self, context: MethodContext) -> None:
        """Check that there are two teachers or more; there is nothing to create.

        Raises:
            InputError: there are fewer.
        """
        require_two_teachers(self.name, context)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `random_teacher`: 0.9 T^2 KL to the drawn teacher's probabilities (B, C)."""
        drawn = teachers[int(torch.randint(len(teachers), ()))]
        divergence = kl_divergence(student.logits, drawn.logits, self.temperature, batch.weights)
        return {"random_teacher": self.kd_weight * divergence}


PLUGIN = RandomTeacher
