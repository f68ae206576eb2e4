"""The loss of scores that stand for the quality of boxes."""

import torch.nn.functional as F
from torch import Tensor


def quality_focal_loss(logits: Tensor, wanted: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al. 2020, arXiv:2006.04388), eq. 3.

    QFL(p) = -|y - p|^beta ((1 - y) log(1 - p) + y log p), p the sigmoid of a logit. With y of 0 and 1 alone it is the
    focal loss without its alpha (Lin et al. 2017, arXiv:1708.02002), eq. 4.

    Args:
        logits: (...) any shape.
        wanted: (...) y in 0..1: how good the box is, 0 for what is none.
        beta: how little counts what is nearly right.

    Returns:
        (...) of each logit.
    """
    error = (wanted - logits.sigmoid()).abs()
    return error**beta * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
