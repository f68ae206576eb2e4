"""Batch normalisation's running statistics estimated anew, for weights that were trained as part of something else."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def re_estimate(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Mean statistics over `batches` (B, ...) in stored units (Yu et al. 2020, section 3.3); left in eval mode."""
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
