"""Estimates the running statistics of batch normalisation again, for weights trained as part of a larger network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def re_estimate(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replace the running statistics by means over some batches (Yu et al. 2020, arXiv:2003.11142, section 3.3).

    Args:
        model: changed in place.
        batches: (B, ...) each, in stored units; at least one.

    Returns:
        The model, in eval mode.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over all that follows
    model.train()
    for x in batches:
        model(x)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return model.eval()
