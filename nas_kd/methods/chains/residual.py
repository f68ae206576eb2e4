"""Residual error distillation (Gao et al. 2021, arXiv:2002.09168), on logits: a network that adds what others lack.

The teachers are those whose logits are summed so far (frozen) and, last, the teacher proper. With z the sum of the
frozen logits and the student's own: L = 0.1 CE(z) + 0.9 T^2 KL(teacher || softmax(z / T)), T = 4; without a teacher
L = CE(z). The paper matches feature maps as well; logits suffice to sum networks of any two families.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.losses import kl_divergence


class Residual(Method):
    """Learns what the sum of frozen networks still gets wrong. Its cross-entropy is the sum's, hence ce_weight 0."""

    name = "residual"
    source = "Gao 2021, arXiv:2002.09168"
    summary = "learns the error that is left; deployed as a sum"
    teachers = "several"
    ce_weight = 0.0
    target_grad_ratio = None
    kd_weight = 0.9

    def __init__(self, taught: bool) -> None:
        """`taught`: whether the last teacher is the one to learn from, not one to be summed."""
        super().__init__()
        self._taught = taught

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Two terms, one where nobody teaches."""
        frozen = teachers[:-1] if self._taught else teachers
        logits = torch.stack([student.logits, *(f.logits for f in frozen)]).sum(dim=0)
        error = F.cross_entropy(logits, batch.y)
        if not self._taught:
            return {"residual_ce": error}
        distilled = kl_divergence(logits, teachers[-1].logits, self.temperature)
        return {"residual_ce": (1 - self.kd_weight) * error, "residual": self.kd_weight * distilled}
