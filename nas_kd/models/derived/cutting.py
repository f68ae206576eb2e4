"""Cuts smaller networks out of one: which channels are kept of every tensor, and layers that know their new sizes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.models.derived.attention import find_attention
from nas_kd.models.derived.channel_groups import CONVOLUTIONS, TRANSPOSED, ChannelGroup
from nas_kd.models.derived.low_rank import factorised
from nas_kd.models.subnetwork import Factor, Part, Places, keep_parts


class Passthrough(nn.Module):
    """Stands where a residual block was left out: returns what the block would have added to."""

    def __init__(self, as_tuple: bool) -> None:
        """Return the first argument, alone or in a tuple of one, as the block did."""
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Any:
        """Return x (B, ...) unchanged, in a tuple of one where the block did so."""
        return (x,) if self.as_tuple else x


@dataclass(frozen=True)
class Block:
    """A residual block that can be left out; `path`: of its module; `as_tuple`: whether it returns a tuple."""

    path: str
    as_tuple: bool


@dataclass(frozen=True)
class _Side:
    """Owners of the places along a side of a tensor: the group (-1: none), and the rank of the channel in it."""

    group: Tensor
    rank: Tensor


class Cutter:
    """Cuts networks out of one network; smaller ones are parts of larger ones.

    Attributes:
        model: the whole network, in evaluation mode.
        groups: of its channels.
        ranks: for each group the rank of each channel.
        blocks: that can be left out, by their path.
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[ChannelGroup], ranks: Sequence[Tensor], blocks: Sequence[Block] = ()
    ) -> None:
        """Prepare the cuts of a network.

        Args:
            model: it; not changed, and not to be changed.
            groups: of its channels; those that are frozen are never cut.
            ranks: for each group the rank (size,) of each channel: the first ones are kept longest.
            blocks: that can be left out.
        """
        self.model, self.groups, self.ranks = model, tuple(groups), tuple(ranks)
        self.blocks = {block.path: block for block in blocks}
        self._shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        self._sides: dict[tuple[str, int], _Side] = {}
        for number, (group, rank) in enumerate(zip(groups, ranks, strict=True)):
            if not group.frozen:
                self._own(number, group, rank)

    def _own(self, number: int, group: ChannelGroup, rank: Tensor) -> None:
        for member in group.members:
            key = member.tensor, member.axis
            if key not in self._sides:
                length = self._shapes[member.tensor][member.axis]
                self._sides[key] = _Side(torch.full((length,), -1), torch.zeros(length, dtype=torch.long))
            side = self._sides[key]
            side.group[member.positions], side.rank[member.positions] = number, rank[member.channels]

    def places(self, kept: Mapping[int, int]) -> dict[str, Places]:
        """Find the places that are kept of each tensor that loses any.

        Args:
            kept: channels that are kept of each group that loses any, by the group's number.
        """
        limits = self._limits(kept)
        found: dict[str, list[Tensor | None]] = {}
        for (name, axis), side in self._sides.items():
            keep = side.rank < limits[side.group]
            if not bool(keep.all()):
                found.setdefault(name, [None] * len(self._shapes[name]))[axis] = keep.nonzero()[:, 0]
        return {name: Places(tuple(self._shapes[name]), tuple(sides)) for name, sides in found.items()}

    def shapes(self, names: Iterable[str], kept: Mapping[int, int]) -> dict[str, tuple[int, ...]]:
        """Find the shapes of tensors in a cut network.

        Args:
            names: of the tensors.
            kept: as of `places`.
        """
        limits = self._limits(kept)

        def length(name: str, axis: int) -> int:
            side = self._sides.get((name, axis))
            return self._shapes[name][axis] if side is None else int((side.rank < limits[side.group]).sum())

        return {name: tuple(length(name, axis) for axis in range(len(self._shapes[name]))) for name in names}

    def _limits(self, kept: Mapping[int, int]) -> Tensor:
        """The rank from which channels of each group are left out; the last: of no group."""
        limits = torch.full((len(self.groups) + 1,), torch.iinfo(torch.long).max, device="cpu")
        for number, channels in kept.items():
            limits[number] = channels
        return limits

    def cut(
        self, kept: Mapping[int, int], left_out: Collection[str] = (), ranks: Mapping[str, int] | None = None
    ) -> nn.Module:
        """Cut a network with the weights of the whole one.

        Args:
            kept: as of `places`.
            left_out: paths of blocks.
            ranks: of linear layers that become two, by their path: not above the narrower side of what is cut of them,
                and of none inside a block that is left out.
        """
        model = deepcopy(self.model)
        before = find_attention(model)
        with torch.device("cpu"):
            places = self.places(kept)
            narrow(model, places)
        for attention in before:
            layer = attention.layers[0]
            width = layer.out_features // (3 if attention.fused is not None else 1)
            if width != attention.width:
                attention.repair(width)
        for path in left_out:
            replace_module(model, path, Passthrough(self.blocks[path].as_tuple))
        parts = {name: Part(name, of) for name, of in places.items()}
        for path, rank in (ranks or {}).items():
            parts |= self._factorise(model, path, rank, parts)
            parts = {name: part for name, part in parts.items() if name not in {f"{path}.weight", f"{path}.bias"}}
        gone = tuple(f"{path}." for path in left_out)
        return keep_parts(model, {name: part for name, part in parts.items() if not name.startswith(gone)})

    def _factorise(self, model: nn.Module, path: str, rank: int, parts: Mapping[str, Part]) -> dict[str, Part]:
        """Make two layers of one; returns what of the whole network their tensors are."""
        layer = model.get_submodule(path)
        assert isinstance(layer, nn.Linear)  # only such have a rank
        pair = factorised(layer, rank)
        replace_module(model, path, pair)
        found = {}
        for name, of, factor in (
            ("0.weight", "weight", Factor(rank, left=False)),
            ("1.weight", "weight", Factor(rank, left=True)),
            ("1.bias", "bias", None),
        ):
            tensor = f"{path}.{of}"
            if tensor in self._shapes:
                shape = tuple(self._shapes[tensor])
                places = parts[tensor].places if tensor in parts else Places(shape, (None,) * len(shape))
                found[f"{path}.{name}"] = Part(tensor, places, factor)
        return found


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of one of a network's."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def narrow(model: nn.Module, kept: Mapping[str, Places]) -> None:
    """Keep these places of a network's tensors only, and tell its layers their new sizes."""
    changed: dict[str, nn.Module] = {}
    with torch.no_grad():
        for path, places in kept.items():
            owner, _, name = path.rpartition(".")
            module = model.get_submodule(owner)
            if name in module._parameters:
                old = module._parameters[name]
                assert old is not None  # places are of tensors that are there
                module._parameters[name] = nn.Parameter(places.select(old.detach()).clone(), old.requires_grad)
            else:
                module._buffers[name] = places.select(module.get_buffer(name)).clone()
            changed[owner] = module
    for module in changed.values():
        _set_sizes(module)


def _set_sizes(module: nn.Module) -> None:
    """Make a layer's numbers those of its tensors."""
    numbers: dict[str, Any] = {}
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return
    if isinstance(module, CONVOLUTIONS):
        groups = module.groups * len(weight) // module.out_channels if module.groups > 1 else 1
        numbers = {"out_channels": len(weight), "in_channels": groups * weight.shape[1], "groups": groups}
    elif isinstance(module, TRANSPOSED):
        numbers = {"out_channels": weight.shape[1], "in_channels": len(weight)}
    elif isinstance(module, nn.Linear):
        numbers = {"out_features": len(weight), "in_features": weight.shape[1]}
    elif isinstance(module, nn.GroupNorm):
        numbers = {"num_groups": module.num_groups * len(weight) // module.num_channels, "num_channels": len(weight)}
    elif isinstance(module, nn.Embedding):
        numbers = {"embedding_dim": weight.shape[1]}
    elif isinstance(module, nn.PReLU):
        numbers = {"num_parameters": len(weight)}
    elif hasattr(module, "normalized_shape"):
        numbers = {"normalized_shape": (len(weight),)}
    elif hasattr(module, "num_features"):
        numbers = {"num_features": len(weight)}
    for name, value in numbers.items():
        setattr(module, name, value)
