"""How far decisions between classes are from each other."""

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Kullback-Leibler divergence of softened class probabilities, T^2 sum_c p_c log(p_c / q_c), mean over the batch.

    Args:
        student_logits: (B, C); q is their softmax at T.
        teacher_logits: (B, C); p is their softmax at T. Gradients reach both.
        temperature: T > 0. The factor T^2 keeps the gradient's size independent of T (Hinton et al. 2015, section 2).
        weights: (B,) how much each row counts in the mean; None: all alike.

    Returns:
        A scalar: summed over the classes, averaged over the batch (not over the classes too).
    """
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    if weights is not None:
        rows = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
        return weighted_mean(rows, weights) * temperature**2
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


def weighted_mean(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of figures (P,), each counted by its weight (P,); None: all alike. 0 where all weights are."""
    if weights is None:
        return rows.mean()
    return (rows * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
