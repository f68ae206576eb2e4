"""Estimates the running statistics of batch normalisation again, for weights trained as part of a larger network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_kd.data.view import View
from nas_kd.engine.numerics import Numerics


def statistics_batches(view: View, numerics: Numerics, *, batch_size: int, count: int, seed: int) -> list[Tensor]:
    """Draw batches of training samples to estimate statistics on: (B, ...) each, in stored units, all of one size.

    Args:
        view: the training split as networks are shown it; its first epoch is used.
        numerics: memory layout.
        batch_size: samples of a batch, or all where there are fewer.
        count: batches at most.
        seed: draws the samples.
    """
    n = len(view)
    size = min(batch_size, n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    starts = range(0, min(count * size, n - size + 1), size)
    return [numerics.to_layout(view.batch(0, order[i : i + size])) for i in starts]


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
