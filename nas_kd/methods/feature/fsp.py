"""Flow of the solution procedure (Yim et al. 2017, "A gift from knowledge distillation", CVPR), eq. 1-2.

L = CE + 50 sum over the stages of mean((G_s - G_t)^2), G = F_1 F_2^T / (h w), (c_1, c_2) per sample.

F_1 is what a stage starts from and F_2 what it ends with: the pairs are stem and stage 1, stage 1 and stage 2, and so
on. Without a stem of stage 1's resolution (it is a stage of its own then, or there is none) they begin with stages 1
and 2. The larger of F_1, F_2 is pooled to the smaller. Here both losses are trained together; the paper first trains on
G alone. Where the numbers of channels differ, a trained linear map A takes the student's channels to the teacher's (a
1x1 convolution). As (A_1 F_1)(A_2 F_2)^T = A_1 (F_1 F_2^T) A_2^T, A is applied to the small matrix instead of the map.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import flatten_positions, linear_adapter, paired_stages, pool_to_smaller


class FSP(Method):
    """Squared difference of the Gram matrices between where stages start and end; weight 50."""

    name = "fsp"
    source = "Yim 2017, CVPR (A gift from knowledge distillation)"
    summary = "inner products between the channels of consecutive stages, the stem included"
    target_grad_ratio = 3.0
    needs = frozenset({"features", "stem"})
    version = 2
    weight = 50.0
    adapters: nn.ModuleList

    def attach(self, context: MethodContext) -> None:
        """Create a linear adapter for the stem and every stage.

        Raises:
            InputError: one of the networks has fewer than two of them.
        """
        student, teacher = context.student_outputs, context.teacher_outputs[0]
        paired_stages(student.features, teacher.features)  # refuses networks without any
        pairs = _pairs(student, teacher)
        if len(pairs) == 1:
            n_s, n_t = len(student.features), len(teacher.features)
            raise InputError(
                f"method 'fsp' needs two stages (resolutions) or more; the student has {n_s}, the teacher {n_t}"
            )
        self.adapters = nn.ModuleList(linear_adapter(s, t) for s, t in pairs)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `fsp`, summed over the pairs of consecutive stages."""
        s, t = zip(*_pairs(student, teachers[0]), strict=True)
        terms = [F.mse_loss(self._adapted(flow(s[i], s[i + 1]), i), flow(t[i], t[i + 1])) for i in range(len(s) - 1)]
        return {"fsp": self.weight * torch.stack(terms).sum()}

    def _adapted(self, matrix: Tensor, i: int) -> Tensor:
        """Map the student's matrix (B, c_1, c_2) to the teacher's channels at stages i and i + 1: (B, d_1, d_2)."""
        right: Tensor = self.adapters[i + 1](matrix)
        left: Tensor = self.adapters[i](right.transpose(1, 2))
        return left.transpose(1, 2)


def _pairs(student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
    """The student's and the teacher's stem and stages, paired from the last; of maps and tokens by share of depth."""
    kinds = {o.features[-1].dim() for o in (student, teacher) if o.features}
    if len(kinds) > 1:
        stems = [] if student.stem is None or teacher.stem is None else [(student.stem, teacher.stem)]
        return [*stems, *paired_stages(student.features, teacher.features)]
    s, t = ((*([] if o.stem is None else [o.stem]), *o.features) for o in (student, teacher))
    return paired_stages(s, t)


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Inner products between the channels of two maps (B, c_i, h_i, w_i): (B, c_1, c_2), mean over the positions."""
    a, b = (flatten_positions(f) for f in pool_to_smaller(first, second))
    return a.transpose(1, 2) @ b / a.shape[1]


PLUGIN = FSP
