"""Ranks channels and blocks of a trained network: those that matter least are cut first."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nas_kd.models.derived.channel_groups import ChannelGroup
from nas_kd.models.derived.observe import Hook, run_with_hooks


def rank_channels(group: ChannelGroup, tensors: Mapping[str, Tensor]) -> Tensor:
    """Rank a group's channels by the size of all weights that belong to them.

    The squares of each tensor's weights are summed by channel, and divided by their mean, so that every tensor counts
    alike; channels of a unit stay together. Li et al. 2017 (arXiv:1608.08710), over all members of the group.

    Args:
        group: of channels.
        tensors: state dict of the network.

    Returns:
        (size,) ranks, 0 for the channel that is kept longest.
    """
    total = torch.zeros(group.size)
    for member in group.members:
        tensor = tensors[member.tensor].detach().float()
        if tensor.dim() < 2 or member.axis >= tensor.dim():
            continue
        squares = tensor.transpose(0, member.axis).flatten(1).square().sum(1)[member.positions].cpu()
        sums = torch.zeros(group.size).index_add_(0, member.channels, squares)
        total += sums / sums.mean().clamp(min=torch.finfo(sums.dtype).tiny)
    units = total.reshape(-1, group.unit).mean(1)
    order = torch.argsort(units, descending=True, stable=True)
    ranks = torch.empty(len(units), dtype=torch.long)
    ranks[order] = torch.arange(len(units))
    return (ranks[:, None] * group.unit + torch.arange(group.unit)).flatten()


def block_changes(model: nn.Module, paths: Sequence[str], example: Tensor) -> dict[str, float]:
    """Measure how much each residual block changes what passes through it: 1 - cosine of its input and output.

    Men et al. 2024 (arXiv:2403.03853).

    Args:
        model: in evaluation mode.
        paths: of blocks that return what they take, changed.
        example: (B, ...) samples.
    """
    found: dict[str, float] = {}

    def measure_of(path: str) -> Hook:
        def measure(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            out = output[0] if isinstance(output, tuple) else output
            similarity = torch.cosine_similarity(inputs[0].flatten(1), out.flatten(1), dim=1)
            found[path] = round(float(1 - similarity.mean()), 4)  # alike on every machine

        return measure

    run_with_hooks(model, example, {path: measure_of(path) for path in paths})
    return found
