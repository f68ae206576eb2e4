"""Losses that several methods share."""

from torch import Tensor

from nas_kd.tasks.divergence import kl_divergence, weighted_mean

__all__ = ["kl_divergence", "standardized", "weighted_mean"]

MIN_DEVIATION = 1e-2  # of logits: smaller ones are divided by this, which bounds the gradient of nearly equal logits


def standardized(logits: Tensor) -> Tensor:
    """Scale the logits of each sample to mean 0 and standard deviation 1 (Sun et al. 2024, arXiv:2403.01427).

    The deviation is that of all C values (divisor C). Logits that deviate by less than `MIN_DEVIATION` are divided by
    that: equal logits become 0.

    Args:
        logits: (B, C). Gradients reach them.

    Returns:
        (B, C).
    """
    centred = logits - logits.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    scaled: Tensor = centred / variance.clamp_min(MIN_DEVIATION**2).sqrt()
    return scaled
