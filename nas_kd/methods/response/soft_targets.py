"""Soft targets (Hinton et al. 2015, arXiv:1503.02531), section 2.

L = 0.1 CE + 0.9 T^2 KL(p || q), p and q the softmax of teacher's and student's logits / T, mean over the batch; T = 4.
"""

from collections.abc import Sequence

from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.losses import kl_divergence


class SoftTargets(Method):
    """KL between softened class probabilities; ce_weight 0.1, kd_weight 0.9."""

    name = "soft_targets"
    source = "Hinton 2015, arXiv:1503.02531"
    tunable = ("temperature", "strength")
    summary = "KL divergence between class probabilities softened by a temperature"
    decisions = frozenset({"sample", "rows"})
    target_grad_ratio = 1.8
    any_classes = True
    ce_weight = 0.1
    kd_weight = 0.9

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `soft_targets`: 0.9 T^2 KL(p || q) of logits (B, C)."""
        divergence = kl_divergence(student.logits, teachers[0].logits, self.temperature, batch.weights)
        return {"soft_targets": self.kd_weight * divergence}


PLUGIN = SoftTargets
