"""Weights of a smaller network as parts of a larger one's.

Of most spaces they are slices: leading channels, leading blocks, the centre of the kernel. A network that was cut out
of another one knows which places of its tensors were kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError

_CHANNEL_AXES = 2  # of a weight (out, in, height, width); the following axes belong to the kernel


@dataclass(frozen=True)
class Places:
    """Where the values of a tensor stand in the tensor of the whole network that it was cut out of.

    Attributes:
        whole: shape of the whole network's tensor.
        sides: for each side the places (kept,); None: all.
    """

    whole: tuple[int, ...]
    sides: tuple[Tensor | None, ...]

    def select(self, tensor: Tensor) -> Tensor:
        """Take the values out of the whole network's tensor; gradients flow back into it."""
        for axis, places in enumerate(self.sides):
            if places is not None:
                tensor = tensor.index_select(axis, places.to(tensor.device))
        return tensor


def keep_places(network: nn.Module, places: Mapping[str, Places]) -> nn.Module:
    """Let a network know which places of the whole one's tensors it has, by the names of its own; returns it."""
    network.kept_places = dict(places)  # type: ignore[assignment]
    return network


def kept_places(network: nn.Module) -> dict[str, Places]:
    """The places that a network, or one inside it, was told by `keep_places`; by its own names."""
    found: dict[str, Places] = {}
    for path, module in network.named_modules():
        inner: Mapping[str, Places] = vars(module).get("kept_places", {})
        found |= {f"{path}.{name}" if path else name: places for name, places in inner.items()}
    return found


def cut_weights(larger: Mapping[str, Tensor], smaller: nn.Module) -> dict[str, Tensor]:
    """Cut a state dict for `smaller` out of the state dict of a larger network of the same space.

    Channels are cut from the start, kernels (whose sides differ by an even number) from the centre, unless the network
    knows its places.

    Args:
        larger: state dict of the larger network.
        smaller: the network that needs weights; it is not changed.

    Returns:
        Copies of the slices, by the names of `smaller`'s state dict.

    Raises:
        InputError: `smaller` is not a sub-network: a tensor is missing from `larger`, or is smaller there.
    """
    places = kept_places(smaller)
    with torch.no_grad():
        return {
            name: weight_slice(larger, name, target.shape, places.get(name)).clone()
            for name, target in smaller.state_dict().items()
        }


def is_subnetwork(larger: Mapping[str, Tensor], smaller: nn.Module) -> bool:
    """Whether weights for `smaller` can be cut out of the state dict `larger`."""
    places = kept_places(smaller)
    try:
        for name, target in smaller.state_dict().items():
            weight_slice(larger, name, target.shape, places.get(name))
    except InputError:
        return False
    return True


def weight_slice(larger: Mapping[str, Tensor], name: str, shape: torch.Size, places: Places | None = None) -> Tensor:
    """View, or select, the part of a larger network's tensor that a smaller network uses.

    Args:
        larger: tensors of the larger network by name.
        name: the tensor.
        shape: its shape in the smaller network.
        places: where its values stand in the whole network, if the smaller one knows.

    Raises:
        InputError: there is no such tensor, or it is smaller than `shape`.
    """
    if name not in larger:
        raise InputError(f"not a sub-network: the larger network has no {name!r}")
    source = larger[name]
    if places is not None and tuple(source.shape) == places.whole:
        return places.select(source)
    if places is not None and source.shape != shape:
        raise InputError(f"not a sub-network: {name!r} is {tuple(source.shape)}, of the whole network {places.whole}")
    if source.ndim != len(shape) or any(have < want for have, want in zip(source.shape, shape, strict=True)):
        raise InputError(
            f"not a sub-network: {name!r} is {tuple(source.shape)} in the larger network, needed {tuple(shape)}"
        )
    starts = [
        (have - want) // 2 if axis >= _CHANNEL_AXES else 0
        for axis, (have, want) in enumerate(zip(source.shape, shape, strict=True))
    ]
    return source[tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))]
