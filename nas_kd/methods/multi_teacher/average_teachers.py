"""Soft targets averaged over the teachers (You et al. 2017, "Learning from Multiple Teacher Networks", KDD).

L = 0.1 CE + 0.9 T^2 KL(mean_t p_t || q), p_t and q softmax of teacher t's and the student's logits / T, mean over the
batch; T = 4. The mean of the KLs would be another loss.
"""

from collections.abc import Sequence
from math import log

from torch import Tensor

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.divergence import kl_divergence
from nas_kd.methods.multi_teacher.several import mixed_logits, require_several


class AverageTeachers(Method):
    """KL to the mean of the teachers' softened probabilities; ce_weight 0.1, kd_weight 0.9."""

    name = "average_teachers"
    source = "You 2017, KDD"
    summary = "KL divergence to the mean of several teachers' softened probabilities"
    target_grad_ratio = 2.0
    teachers = "several"
    tunable = ("temperature", "strength")
    ce_weight = 0.1
    kd_weight = 0.9

    def attach(self, context: MethodContext) -> None:
        """Nothing to create."""
        require_several(self.name, context)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term."""
        equal = student.logits.new_full((1, len(teachers)), -log(len(teachers)))
        target = mixed_logits(teachers, self.temperature, equal)
        return {"average_teachers": self.kd_weight * kl_divergence(student.logits, target, self.temperature)}


PLUGIN = AverageTeachers
