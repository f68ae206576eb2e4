"""How far decisions between classes are from each other."""

import torch.nn.functional as F
from torch import Tensor


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened class probabilities, T^2 sum_c p_c log(p_c / q_c), mean over the batch.

    Args:
        student_logits: (B, C); q is their softmax at T.
        teacher_logits: (B, C); p is their softmax at T. Gradients reach both.
        temperature: T > 0. The factor T^2 keeps the gradient's size independent of T (Hinton et al. 2015, section 2).

    Returns:
        A scalar: summed over the classes, averaged over the batch (not over the classes too).
    """
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
