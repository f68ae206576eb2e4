"""Similarity-preserving distillation (Tung & Mori 2019, arXiv:1907.09682), eq. 3-4.

L = CE + 3000 || norm(F_s F_s^T) - norm(F_t F_t^T) ||_F^2 / B^2 at the last stage, rows L2-normalised.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.maps import same_depth


class Similarity(Method):
    """Samples that the teacher finds alike shall be alike to the student."""

    name = "similarity"
    source = "Tung 2019, arXiv:1907.09682"
    summary = "similarity of the batch's samples to each other, at the last stage (SPKD)"
    target_grad_ratio = 1.0
    needs = frozenset({"features"})
    weight = 3000.0

    def attach(self, context: MethodContext) -> None:
        """Refuse networks without feature maps."""
        same_depth(context.student_outputs.features, context.teacher_outputs[0].features)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term."""
        difference = gram(student.features[-1]) - gram(teachers[0].features[-1])
        return {"similarity": self.weight * difference.square().mean()}


def gram(features: Tensor) -> Tensor:
    """(B, ...) -> (B, B): inner products of the flattened samples, rows of unit length."""
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


PLUGIN = Similarity
