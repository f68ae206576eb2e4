"""Flow of the solution procedure (Yim et al. 2017, "A gift from knowledge distillation", CVPR), eq. 1-2.

L = CE + 50 sum over consecutive stages of mean((G_s - G_t)^2), G = F_1 F_2^T / (h w), (c_1, c_2) a sample.

The larger of F_1, F_2 is pooled to the smaller. Trained here together with CE, where the paper first trains on G alone.
Where the channels of a stage differ from the teacher's, a trained linear map A (a 1x1 convolution on the student's
features) takes them there; as (A_1 F_1)(A_2 F_2)^T = A_1 (F_1 F_2^T) A_2^T, it is applied to the small matrix instead.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.maps import linear_adapter, pool_to_smaller, positions, same_depth


class FSP(Method):
    """How features change from stage to stage imitates how the teacher's do."""

    name = "fsp"
    source = "Yim 2017, CVPR (A gift from knowledge distillation)"
    summary = "inner products between the channels of consecutive stages"
    target_grad_ratio = 0.25
    needs = frozenset({"features"})
    weight = 50.0
    adapters: nn.ModuleList

    def attach(self, context: MethodContext) -> None:
        """Create an adapter for every stage.

        Raises:
            InputError: the networks have fewer than two stages in common.
        """
        pairs = same_depth(context.student_outputs.features, context.teacher_outputs[0].features)
        if len(pairs) == 1:
            n_s, n_t = len(context.student_outputs.features), len(context.teacher_outputs[0].features)
            raise InputError(
                f"method 'fsp' needs two stages (resolutions) or more; the student has {n_s}, the teacher {n_t}"
            )
        self.adapters = nn.ModuleList(linear_adapter(s, t) for s, t in pairs)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term, summed over the pairs of stages."""
        s, t = zip(*same_depth(student.features, teachers[0].features), strict=True)
        terms = [F.mse_loss(self._adapted(flow(s[i], s[i + 1]), i), flow(t[i], t[i + 1])) for i in range(len(s) - 1)]
        return {"fsp": self.weight * torch.stack(terms).sum()}

    def _adapted(self, matrix: Tensor, i: int) -> Tensor:
        """(B, c_1, c_2) of the student -> (B, d_1, d_2), the teacher's channels at stages i and i + 1."""
        right: Tensor = self.adapters[i + 1](matrix)
        left: Tensor = self.adapters[i](right.transpose(1, 2))
        return left.transpose(1, 2)


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Feature maps of two stages -> (B, c_1, c_2), their channels' inner products, mean over the positions."""
    a, b = (positions(f) for f in pool_to_smaller(first, second))
    return a.transpose(1, 2) @ b / a.shape[1]


PLUGIN = FSP
