"""FitNet hints (Romero et al. 2015, arXiv:1412.6550), eq. 3, trained together with the student.

L = CE + 100 mean((r(f_s) - f_t)^2) at the middle stage; r is a trained 1x1 convolution with batch normalisation and the
hint's own non-linearity, as in the paper: a ReLU where f_t stands behind one.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import hint_regressor, paired_stages, pool_to_smaller


class FitNet(Method):
    """Squared difference of the middle feature maps, the student's behind an adapter; weight 100."""

    name = "fitnet"
    source = "Romero 2015, arXiv:1412.6550"
    summary = "a trained 1x1 adapter maps the student's middle feature map onto the teacher's"
    target_grad_ratio = 3.0
    needs = frozenset({"features"})
    by_stage = True
    version = 2
    weight = 100.0
    adapter: nn.Module

    def attach(self, context: MethodContext) -> None:
        """Create the regressor from the student's channels to the teacher's.

        Raises:
            InputError: one of the networks has no feature map.
        """
        self.adapter = hint_regressor(*_middle(context.student_outputs, context.teacher_outputs[0]))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `fitnet`: 100 times the mean squared difference of maps (B, c, h, w)."""
        f_s, f_t = pool_to_smaller(*_middle(student, teachers[0]))
        return {"fitnet": self.weight * F.mse_loss(self.adapter(f_s), f_t)}


def _middle(student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
    pairs = paired_stages(student.features, teacher.features)
    return pairs[len(pairs) // 2]


PLUGIN = FitNet
