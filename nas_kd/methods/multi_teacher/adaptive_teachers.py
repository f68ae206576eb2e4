"""Adaptive multi-teacher, multi-level distillation (Liu et al. 2020, arXiv:2103.04062; "ALTKD").

L = 0.3 CE + 0.7 T^2 KL(sum_t w_t p_t || q) + sum over teachers of mean((r_t(f_s) - f_t)^2), T = 5, the weights of a
sample are w = softmax over t of v . (theta_t * e_s): theta_t is a latent representation of teacher t, e_s the student's
representation of the sample, r_t the regressor of `fitnet`.

As in the paper, theta and v are learnt from the KL itself, and each teacher gives a hint at another stage (the first
teacher at the last stage, the second at the stage before, and so on). Choices made here: e_s is the embedding and gets
no gradient from the weights, so that the student cannot choose its targets through its features; theta and v are learnt
throughout the training instead of before it; they start near equal weights; no angle loss (`adaptive_teachers+rkd` adds
one).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import hint_regressor, paired_stages, pool_to_smaller
from nas_kd.methods.losses import kl_divergence
from nas_kd.methods.multi_teacher.average_teachers import mean_teacher_logits, require_two_teachers


class AdaptiveTeachers(Method):
    """Teachers weighted per sample, and hints from their features; ce_weight 0.3, kd_weight 0.7, hint_weight 1."""

    name = "adaptive_teachers"
    source = "Liu 2020, arXiv:2103.04062"
    summary = "several teachers' soft targets, weighted sample by sample, and their feature maps as hints"
    target_grad_ratio = 2.0
    needs = frozenset({"logits", "features", "embedding"})
    optional = frozenset({"features", "embedding"})  # of the teachers: those without features give no hints
    teachers = "several"
    tunable = ("temperature", "strength")
    default_temperature = 5.0
    version = 2
    ce_weight = 0.3
    kd_weight = 0.7
    hint_weight = 1.0
    theta: nn.Parameter  # (teachers, d)
    v: nn.Parameter  # (1, d)
    adapters: nn.ModuleList

    def attach(self, context: MethodContext) -> None:
        """Create the teachers' representations and the adapters of the hints.

        Raises:
            InputError: there are fewer than two teachers.
        """
        require_two_teachers(self.name, context)
        d = context.student_outputs.embedding.shape[1]
        self.theta = nn.Parameter(torch.randn(len(context.teachers), d))
        self.v = nn.Parameter(torch.randn(1, d) / d)
        self.adapters = nn.ModuleList(
            hint_regressor(s, t) for s, t in hinted(context.student_outputs, context.teacher_outputs)
        )

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `adaptive_teachers` and, where there are feature maps, `adaptive_hints`."""
        target = mean_teacher_logits(teachers, self.temperature, self.log_weights(student.embedding))
        terms = {"adaptive_teachers": self.kd_weight * kl_divergence(student.logits, target, self.temperature)}
        hints = []
        for adapter, (f_s, f_t) in zip(self.adapters, hinted(student, teachers), strict=True):
            small_s, small_t = pool_to_smaller(f_s, f_t)
            hints.append(F.mse_loss(adapter(small_s), small_t))
        return terms | ({"adaptive_hints": self.hint_weight * torch.stack(hints).sum()} if hints else {})

    def log_weights(self, embedding: Tensor) -> Tensor:
        """Logarithms of each sample's teacher weights, which sum to 1: (B, d) -> (B, teachers)."""
        return F.log_softmax(embedding.detach() @ (self.v * self.theta).T, dim=1)


def hinted(student: Outputs, teachers: Sequence[Outputs]) -> list[tuple[Tensor, Tensor]]:
    """Choose the stage at which each teacher gives a hint.

    Args:
        student: outputs with feature maps (B, c, h, w).
        teachers: outputs of each teacher.

    Returns:
        The student's and the teacher's map, for each teacher that has feature maps.
    """
    if not student.features:
        return []
    pairs = ((i, paired_stages(student.features, t.features)) for i, t in enumerate(teachers) if t.features)
    return [stages[-1 - i % len(stages)] for i, stages in pairs]


PLUGIN = AdaptiveTeachers
