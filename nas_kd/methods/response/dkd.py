"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv:2203.08679), eq. 7.

L = CE + 1 T^2 KL(b_t || b_s) + 2 T^2 KL(r_t || r_s): b the binary distribution target / rest, r the distribution among
the other classes; T = 4. Both terms ramp up linearly over the first part of training (20 of 240 epochs).

The target is the label, that of the larger share where samples are mixed. Of a sample without one it is the class that
the teacher finds most likely: whichever class is set apart, the two divergences add up to that of soft targets, and no
label is claimed.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.losses import weighted_mean


class DecoupledKD(Method):
    """Target-class and non-target-class knowledge, weighted separately: 1 and 2."""

    name = "dkd"
    source = "Zhao 2022, arXiv:2203.08679"
    tunable = ("temperature", "strength")
    summary = "target-class and non-target-class parts of the soft targets, weighted separately"
    decisions = frozenset({"sample", "rows"})
    target_grad_ratio = 3.7
    target_weight = 1.0
    rest_weight = 2.0
    warmup = 20 / 240  # share of the schedule

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `dkd_target` and `dkd_rest`, the two divergences of logits (B, C), with the warm-up factor."""
        log_s = F.log_softmax(student.logits / self.temperature, dim=1)
        log_t = F.log_softmax(teachers[0].logits / self.temperature, dim=1)
        is_target = F.one_hot(_targets(batch.targets, log_t), log_s.shape[1]).bool()
        scale = min(1.0, batch.progress / self.warmup) * self.temperature**2
        return {
            "dkd_target": scale
            * self.target_weight
            * _kl(_binary(log_s, is_target), _binary(log_t, is_target), batch.weights),
            "dkd_rest": scale
            * self.rest_weight
            * _kl(_among_rest(log_s, is_target), _among_rest(log_t, is_target), batch.weights),
        }


def _targets(labels: Tensor, log_t: Tensor) -> Tensor:
    """The labels (L,), and for the other rows of `log_t` (B, C) the teacher's most likely class: (B,)."""
    if len(labels) == len(log_t):
        return labels
    return torch.cat([labels, log_t[len(labels) :].argmax(dim=1)])


def _kl(log_q: Tensor, log_p: Tensor, weights: Tensor | None) -> Tensor:
    if weights is not None:
        return weighted_mean(F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1), weights)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def _binary(log_p: Tensor, is_target: Tensor) -> Tensor:
    """Log probabilities (B, C) -> (B, 2): of the target class, and of all other classes together."""
    rest = log_p.masked_fill(is_target, -torch.inf).logsumexp(dim=1)
    return torch.stack([log_p[is_target], rest], dim=1)


def _among_rest(log_p: Tensor, is_target: Tensor) -> Tensor:
    """Log probabilities (B, C) -> (B, C - 1), renormalised among the classes other than the target."""
    rest = log_p[~is_target].view(log_p.shape[0], -1)
    return F.log_softmax(rest, dim=1)


PLUGIN = DecoupledKD
