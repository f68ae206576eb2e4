"""Weights of a smaller network as part of a larger relative's: leading channels and blocks, centre of the kernel."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError

_CHANNEL_AXES = 2  # of a weight (out, in, height, width); the axes that follow are the kernel's


def cut_weights(larger: Mapping[str, Tensor], smaller: nn.Module) -> dict[str, Tensor]:
    """The state for `smaller`, cut by name out of `larger`, the state of a network of the same space.

    Widths follow the leading channels; kernels (odd, or at least of equal parity) are cut from the centre.

    Raises:
        InputError: `smaller` is not a sub-network: a tensor is missing from `larger`, or is smaller there.
    """
    with torch.no_grad():
        return {name: part_of(larger, name, target.shape).clone() for name, target in smaller.state_dict().items()}


def is_part(larger: Mapping[str, Tensor], smaller: nn.Module) -> bool:
    """Whether weights for `smaller` can be cut out of `larger`."""
    try:
        for name, target in smaller.state_dict().items():
            part_of(larger, name, target.shape)
    except InputError:
        return False
    return True


def part_of(larger: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """The part of tensor `name` that a network with so many channels and such a kernel has: a view.

    Raises:
        InputError: there is no such part.
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
