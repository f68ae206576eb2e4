"""The one Kullback-Leibler divergence of this project: T^2 * sum over classes, mean over the batch."""

import torch.nn.functional as F
from torch import Tensor


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 sum_c p_c log(p_c / q_c), p and q the teacher's and student's softmax at T; (B, C), (B, C) -> scalar."""
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
