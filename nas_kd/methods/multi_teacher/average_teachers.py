"""Soft targets averaged over the teachers (You et al. 2017, "Learning from Multiple Teacher Networks", KDD).

L = 0.1 CE + 0.9 T^2 KL(mean_t p_t || q), p_t and q softmax of teacher t's and the student's logits / T, mean over the
batch; T = 4. The mean of the KLs would be another loss.
"""

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.losses import kl_divergence


class AverageTeachers(Method):
    """KL to the mean of the teachers' softened probabilities; ce_weight 0.1, kd_weight 0.9."""

    name = "average_teachers"
    source = "You 2017, KDD"
    summary = "KL divergence to the mean of several teachers' softened probabilities"
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
        """Return `average_teachers`: 0.9 T^2 KL to the teachers' mean probabilities (B, C)."""
        equal = student.logits.new_full((1, len(teachers)), -log(len(teachers)))
        target = mean_teacher_logits(teachers, self.temperature, equal)
        divergence = kl_divergence(student.logits, target, self.temperature, batch.weights)
        return {"average_teachers": self.kd_weight * divergence}


def require_two_teachers(name: str, context: MethodContext) -> None:
    """Refuse a context with fewer than two teachers.

    Args:
        name: the method's name, for the message.
        context: the networks that the method is to work with.

    Raises:
        InputError: there are fewer than two.
    """
    if (n := len(context.teachers)) < 2:
        raise InputError(f"method {name!r} learns from several teachers, and has {n}: give it at least 2")


def mean_teacher_logits(teachers: Sequence[Outputs], temperature: float, log_weights: Tensor) -> Tensor:
    """Compute logits whose softmax at T is the weighted mean of the teachers' softmax at T.

    Args:
        teachers: outputs of each teacher, logits (B, C).
        temperature: T > 0.
        log_weights: (B, teachers) or (1, teachers) logarithms of weights that sum to 1.

    Returns:
        (B, C).
    """
    log_p = torch.stack([F.log_softmax(t.logits / temperature, dim=1) for t in teachers], dim=1)
    return temperature * (log_p + log_weights[:, :, None]).logsumexp(dim=1)


PLUGIN = AverageTeachers
