"""Attention transfer (Zagoruyko & Komodakis 2017, arXiv:1612.03928), eq. 2.

L = CE + 1000 sum over stages of mean((Q_s - Q_t)^2), Q = mean over channels of f^2, flattened, L2-normalised.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import (
    flatten_positions,
    paired_stages,
    pool_to_smaller,
    require_positions,
    sum_of_squares,
)


class AttentionTransfer(Method):
    """Squared difference of the spatial attention maps of every stage; weight 1000."""

    name = "attention_transfer"
    source = "Zagoruyko 2017, arXiv:1612.03928"
    summary = "spatial attention maps of every stage"
    target_grad_ratio = 2.4
    needs = frozenset({"features"})
    by_stage = True
    weight = 1000.0

    def attach(self, context: MethodContext) -> None:
        """Check that both networks have stages to compare.

        Raises:
            InputError: one of the networks has no feature map, or tokens that are none beside one.
        """
        pairs = paired_stages(context.student_outputs.features, context.teacher_outputs[0].features)
        require_positions(self.name, pairs)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `attention_transfer`, summed over the stages of the shallower network."""
        pairs = (pool_to_smaller(s, t) for s, t in paired_stages(student.features, teachers[0].features))
        stages = [F.mse_loss(attention(s), attention(t)) for s, t in pairs]
        return {"attention_transfer": self.weight * torch.stack(stages).sum()}


def attention(features: Tensor) -> Tensor:
    """Mean of squares over the channels, (B, c, h, w) -> (B, h w), rows of unit length."""
    return F.normalize(sum_of_squares(flatten_positions(features), dim=2) / features.shape[1], dim=1)


PLUGIN = AttentionTransfer
