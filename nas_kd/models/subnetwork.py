"""Weights of a smaller network cut out of a larger relative: leading channels, leading blocks, centre of the kernel."""

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
    return {name: _cut(name, larger, tuple(target.shape)) for name, target in smaller.state_dict().items()}


@torch.no_grad()
def _cut(name: str, larger: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    if name not in larger:
        raise InputError(f"not a sub-network: the larger network has no {name!r}")
    source = larger[name]
    if source.ndim != len(shape) or any(have < want for have, want in zip(source.shape, shape, strict=True)):
        raise InputError(f"not a sub-network: {name!r} is {tuple(source.shape)} in the larger network, needed {shape}")
    starts = [
        (have - want) // 2 if axis >= _CHANNEL_AXES else 0
        for axis, (have, want) in enumerate(zip(source.shape, shape, strict=True))
    ]
    window = tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))
    return source[window].clone()
