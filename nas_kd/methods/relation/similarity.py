"""Similarity-preserving distillation (Tung & Mori 2019, arXiv:1907.09682), eq. 3-4.

L = CE + 3000 || norm(F_s F_s^T) - norm(F_t F_t^T) ||_F^2 / B^2 at the last stage, rows L2-normalised.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import paired_stages


class Similarity(Method):
    """Squared difference of the batch's normalised Gram matrices at the last stage; weight 3000."""

    name = "similarity"
    source = "Tung 2019, arXiv:1907.09682"
    summary = "similarities between the samples of a batch, at the last stage (SPKD)"
    target_grad_ratio = 1.7
    needs = frozenset({"features"})
    by_stage = True
    weight = 3000.0

    def attach(self, context: MethodContext) -> None:
        """Check that both networks have feature maps.

        Raises:
            InputError: one of them has none.
        """
        paired_stages(context.student_outputs.features, context.teacher_outputs[0].features)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `similarity`: 3000 times the mean squared difference of the (B, B) matrices."""
        difference = gram(student.features[-1]) - gram(teachers[0].features[-1])
        return {"similarity": self.weight * difference.square().mean()}


def gram(features: Tensor) -> Tensor:
    """Inner products of the flattened samples, (B, ...) -> (B, B), rows scaled to unit length."""
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


PLUGIN = Similarity
