"""Weights of a smaller network as parts of a larger one's.

Of most spaces they are slices: leading channels, leading blocks, the centre of the kernel. A network that was cut out
of another one knows which places of its tensors were kept, and which of its layers are factors of one at a lower rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.low_rank_factors import low_rank_factors

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


@dataclass(frozen=True)
class Factor:
    """One of the two factors of a matrix at a rank; `left`: the one of its outputs (outputs, rank)."""

    rank: int
    left: bool


@dataclass(frozen=True)
class Part:
    """What a tensor of a cut network is of a tensor of the whole one.

    Attributes:
        tensor: name of the whole network's tensor.
        places: that are kept of it.
        factor: of what is kept; None: all of that.
    """

    tensor: str
    places: Places
    factor: Factor | None = None

    def select(self, tensor: Tensor) -> Tensor:
        """Take it out of the whole network's tensor; gradients flow back into that."""
        kept = self.places.select(tensor)
        if self.factor is None:
            return kept
        left, right = low_rank_factors(kept, self.factor.rank)
        return left if self.factor.left else right


def keep_parts(network: nn.Module, parts: Mapping[str, Part]) -> nn.Module:
    """Let a network know what of the whole one its tensors are, by the names of its own; returns it."""
    network.kept_parts = dict(parts)  # type: ignore[assignment]
    return network


def kept_parts(network: nn.Module) -> dict[str, Part]:
    """The parts that a network, or one inside it, was told by `keep_parts`; by its own names."""
    found: dict[str, Part] = {}
    for path, module in network.named_modules():
        inner: Mapping[str, Part] = vars(module).get("kept_parts", {})
        prefix = f"{path}." if path else ""
        found |= {prefix + name: replace(part, tensor=prefix + part.tensor) for name, part in inner.items()}
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
    parts = kept_parts(smaller)
    with torch.no_grad():
        return {
            name: weight_slice(larger, name, target.shape, parts.get(name)).clone()
            for name, target in smaller.state_dict().items()
        }


def is_subnetwork(larger: Mapping[str, Tensor], smaller: nn.Module) -> bool:
    """Whether weights for `smaller` can be cut out of the state dict `larger`."""
    parts = kept_parts(smaller)
    try:
        for name, target in smaller.state_dict().items():
            weight_slice(larger, name, target.shape, parts.get(name))
    except InputError:
        return False
    return True


def weight_slice(larger: Mapping[str, Tensor], name: str, shape: torch.Size, part: Part | None = None) -> Tensor:
    """View, or select, the part of a larger network's tensor that a smaller network uses.

    Args:
        larger: tensors of the larger network by name.
        name: the tensor.
        shape: its shape in the smaller network.
        part: what it is of the whole network, if the smaller one knows.

    Raises:
        InputError: there is no such tensor, or it is smaller than `shape`.
    """
    if part is not None:
        return _part_of(larger, name, shape, part)
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


def _part_of(larger: Mapping[str, Tensor], name: str, shape: torch.Size, part: Part) -> Tensor:
    """The part of the whole network's tensor, or the tensor of a network that was cut alike."""
    if part.tensor in larger and tuple(larger[part.tensor].shape) == part.places.whole:
        return part.select(larger[part.tensor])
    if name in larger and larger[name].shape == shape:
        return larger[name]
    found = f"{name!r} is {tuple(larger[name].shape)}" if name in larger else f"there is no {name!r}"
    raise InputError(f"not a sub-network: {found}, and no {part.tensor!r} of the whole network {part.places.whole}")
