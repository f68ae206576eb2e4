"""How far a batch's statistics are from those that a network's batch normalisation saw in training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def norms_of(network: nn.Module) -> list[nn.Module]:
    """The batch normalisation layers that kept running statistics."""
    return [m for m in network.modules() if isinstance(m, NORMS) and m.running_mean is not None]


def with_statistics(network: nn.Module, run: Callable[[], Any]) -> tuple[Any, Tensor]:
    """What `run` returns, and sum over `norms_of(network)` of ||mean - running mean||_2 + ||var - running var||_2.

    Yin et al. 2020, eq. 4, each layer's norms divided by the square root of its width; 0 without such layers. Batch
    statistics are those of the layer's input. `run` calls the network once, in eval mode.
    """
    distances: list[Tensor] = []

    def compare(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        distances.append(distance(inputs[0], norm.running_mean, norm.running_var))

    handles = [norm.register_forward_pre_hook(compare) for norm in norms_of(network)]
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    return result, torch.stack(distances).sum() if distances else torch.zeros(())


def distance(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Of (B, c, ...) from the statistics (c,): root mean square over the channels, of means plus of variances."""
    channels = x.float().transpose(0, 1).flatten(1)
    var, mu = torch.var_mean(channels, dim=1, correction=0)
    return rms(mu - mean) + rms(var - variance)


def rms(x: Tensor) -> Tensor:
    """Root mean square; its gradient is finite at 0."""
    return (x.square().mean() + 1e-12).sqrt()
