"""Weights of a smaller network as slices of a larger one's: leading channels, leading blocks, centre of the kernel."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError

_CHANNEL_AXES = 2  # of a weight (out, in, height, width); the following axes belong to the kernel


def cut_weights(larger: Mapping[str, Tensor], smaller: nn.Module) -> dict[str, Tensor]:
    """Cut a state dict for `smaller` out of the state dict of a larger network of the same space.

    Channels are cut from the start, kernels (whose sides differ by an even number) from the centre.

    Args:
        larger: state dict of the larger network.
        smaller: the network that needs weights; it is not changed.

    Returns:
        Copies of the slices, by the names of `smaller`'s state dict.

    Raises:
        InputError: `smaller` is not a sub-network: a tensor is missing from `larger`, or is smaller there.
    """
    with torch.no_grad():
        return {name: weight_slice(larger, name, target.shape).clone() for name, target in smaller.state_dict().items()}


def is_subnetwork(larger: Mapping[str, Tensor], smaller: nn.Module) -> bool:
    """Whether weights for `smaller` can be cut out of the state dict `larger`."""
    try:
        for name, target in smaller.state_dict().items():
            weight_slice(larger, name, target.shape)
    except InputError:
        return False
    return True


def weight_slice(larger: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """View the part of a larger network's tensor that a smaller network uses.

    Args:
        larger: tensors of the larger network by name.
        name: the tensor.
        shape: its shape in the smaller network.

    Raises:
        InputError: there is no such tensor, or it is smaller than `shape`.
    """
    if name not in larger:
        raise InputError(f"not a sub-network: the larger network has no {name!r}")
    source = larger[name]
    if source.ndim != len(shape) or any(have < want for have, want in zip(source.shape, shape, strict=True)):
        raise InputError(
            f"not a sub-network: {name!r} is {tuple(source.shape)} in the larger network, needed {tuple(shape)}"
        )
    starts = [
        (have - want) // 2 if axis >= _CHANNEL_AXES else 0
        for axis, (have, want) in enumerate(zip(source.shape, shape, strict=True))
    ]
    return source[tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))]
