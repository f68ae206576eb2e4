"""Groups of channels that must be cut together, read from torch-pruning's dependency graph of a network.

Fang et al. 2023 (arXiv:2301.12900). The graph alone is taken from there; what is cut, and how, is decided here.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.derived.attention import Attention, find_attention
from nas_kd.models.derived.channel_groups import (
    ROOTS,
    ChannelGroup,
    GroupedSide,
    Member,
    channel_sides,
    is_depthwise,
    is_grouped,
)
from nas_kd.models.derived.joined_groups import join_grouped
from nas_kd.user_code import describe_error

Item = tuple[Any, list[int], list[int | None]]  # a dependency of the library, places, and the root's channels there
MOST_MEMBERS, MOST_ENTANGLED = 600, 2  # members of a group before merging, and groups with more that are looked at
ENTANGLED = "its channels are split and joined too often to be followed"


class _CannotCutError(Exception):
    """Says in a few words which layer stands in the way."""


def find_groups(model: nn.Module, example: Tensor) -> list[ChannelGroup]:
    """Find the groups of channels of a network, in the order of their first layer.

    Args:
        model: in evaluation mode, with weights that need gradients; it is not changed.
        example: (B, ...) what it takes.

    Raises:
        InputError: the network's graph cannot be traced.
    """
    graph = tp.DependencyGraph()
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph.build_dependency(model, example, verbose=False)
            return _consistent(join_grouped(list(_groups(graph, model))), model)
    except Exception as error:  # of the network, or of a graph that the library cannot follow
        raise InputError(f"the network's graph cannot be traced: {describe_error(error)}") from error


def _groups(graph: Any, model: nn.Module) -> Iterator[ChannelGroup]:
    names = {module: name for name, module in model.named_modules()}
    parameters = {parameter: name for name, parameter in model.named_parameters()}
    by_layer = {layer: found for found in find_attention(model) for layer in found.layers}
    seen, entangled = set[nn.Module](), 0
    roots = [m for m in graph.module2node if m in names and isinstance(m, ROOTS) and graph.get_pruner_of_module(m)]
    repeated = {layer for layer, found in by_layer.items() if layer.out_features < found.width}
    for root in sorted(roots, key=repeated.__contains__):  # what queries share is found from them
        if root in seen:
            continue
        reason, items = ENTANGLED, list[Item]()
        if entangled < MOST_ENTANGLED:
            try:
                items = _items(graph, root)
            except _EntangledError:
                entangled += 1
            except Exception as error:  # of the library
                reason = f"its graph cannot be followed ({describe_error(error)})"
        if not items:
            yield ChannelGroup(names[root], root.weight.shape[0], 1, (), (names[root],), (), reason)
            continue
        seen |= {dep.target.module for dep, *_ in items if _makes(graph, dep)}
        yield _group(graph, items, names, parameters, by_layer)


def _items(graph: Any, root: nn.Module) -> list[Item]:
    """All that goes with a layer's outputs: what is cut, places, and the layer's channels at them.

    Raises:
        _EntangledError: there is no end of it, as where channels are split, shuffled and joined again and again.
    """
    pruner = graph.get_pruner_of_module(root)
    bounded = tp.dependency.graph.Group
    tp.dependency.graph.Group = _BoundedGroup
    try:
        group = graph.get_pruning_group(root, pruner.prune_out_channels, list(range(pruner.get_out_channels(root))))
    finally:
        tp.dependency.graph.Group = bounded
    return [(item.dep, list(item.idxs), list(item.root_idxs)) for item in group]


class _EntangledError(Exception):
    """A group of channels has no end."""


class _BoundedGroup(tp.dependency.group.Group):  # type: ignore[misc]
    """A group of the library that gives up where the library would go on for hours."""

    def add_dep(self, dep: Any, idxs: Any) -> None:
        """Add a member, unless there are too many."""
        if len(self._group) >= MOST_MEMBERS:
            raise _EntangledError
        super().add_dep(dep, idxs)


def _group(
    graph: Any,
    items: Sequence[Item],
    names: dict[Any, str],
    parameters: dict[Any, str],
    by_layer: dict[Any, Attention],
) -> ChannelGroup:
    root = items[0][0].target.module
    heads = [by_layer[m] for dep, *_ in items if (m := dep.target.module) in by_layer and _makes(graph, dep)]
    size = heads[0].width if heads else len(items[0][1])
    members, producers, sides = list[Member](), list[str](), list[GroupedSide]()
    unit, frozen = 1, ""
    for dep, places, roots in items:
        target, makes = dep.target.module, _makes(graph, dep)
        if not (isinstance(target, nn.Parameter) or target in names):
            continue
        try:
            parts = _parts(graph, dep, target, names, parameters)
        except _CannotCutError as reason:
            frozen = frozen or str(reason)
            continue
        if target in by_layer and makes:
            channels = by_layer[target].channels_of(target)
            positions = torch.arange(len(channels))
        elif heads and parts:
            positions, channels = _outside_attention(_length(target, parts[0]), places, roots, size)
        else:
            positions, channels = torch.tensor(places), torch.tensor(roots) % size
        if isinstance(target, nn.GroupNorm):
            unit = max(unit, size // target.num_groups) if size == target.num_channels else 0
        if is_grouped(target):
            sides.append(GroupedSide.of(target, names[target], positions, channels, makes=makes))
        elif isinstance(target, ROOTS) and makes and not is_depthwise(target):
            producers.append(names[target])
        reads = isinstance(target, ROOTS) and not makes
        members += [Member(n, axis, positions, channels, reads) for n, axis in parts if len(positions)]
    if unit == 0:
        unit, frozen = 1, frozen or "it is normalised together with other channels"
    if heads:
        unit = heads[0].unit
        if len({(h.width, h.heads, h.kv_heads) for h in heads}) > 1:
            frozen = frozen or "attention modules of different numbers of heads share it"
    attention = tuple(dict.fromkeys(names[h.module] for h in heads))
    makers = tuple(dict.fromkeys(producers))
    return ChannelGroup(names[root], size, unit, tuple(members), makers, attention, frozen, tuple(sides))


def _outside_attention(length: int, places: list[int], roots: list[int | None], size: int) -> tuple[Tensor, Tensor]:
    """Places along a side of a layer that heads go through, and the channels at them; none where no head is apart.

    Between the layers of an attention module the library follows channels, of half a head or of heads that are
    repeated, to places that no layer has. What is as wide as the queries has them in their order.
    """
    if length == size:
        return torch.arange(size), torch.arange(size)
    if max(places) >= length or None in roots:
        return torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long)
    return torch.tensor(places), torch.tensor(roots) % size


def _length(target: nn.Module | nn.Parameter, part: tuple[str, int]) -> int:
    """Places along a side of a layer's tensor, or of a parameter."""
    name, axis = part
    tensor = target if isinstance(target, nn.Parameter) else getattr(target, name.rpartition(".")[2])
    return int(tensor.shape[axis])


def _consistent(groups: Sequence[ChannelGroup], model: nn.Module) -> list[ChannelGroup]:
    """Freeze groups whose places are not there, or belong to another group already."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    owners: dict[tuple[str, int], Tensor] = {}
    found = []
    for number, group in enumerate(groups):
        frozen = group.frozen
        for member in group.members:
            shape = shapes[member.tensor]
            if member.axis >= len(shape) or int(member.positions.max()) >= shape[member.axis]:
                frozen = frozen or f"the graph contradicts {member.tensor}"
                break
            owner = owners.setdefault((member.tensor, member.axis), torch.full((shape[member.axis],), -1))
            if bool(((owner[member.positions] != -1) & (owner[member.positions] != number)).any()):
                frozen = frozen or f"{member.tensor} has channels of several groups in one place"
            owner[member.positions] = number
        found.append(replace(group, frozen=frozen, members=() if frozen else group.members))
    return found


def _makes(graph: Any, dep: Any) -> bool:
    """Whether the channels are what the target puts out."""
    return bool(graph.is_out_channel_pruning_fn(dep.handler))


def _parts(
    graph: Any, dep: Any, target: nn.Module | nn.Parameter, names: dict[Any, str], parameters: dict[Any, str]
) -> list[tuple[str, int]]:
    """The tensors of a layer that have the channels, each with the side that they are on.

    Raises:
        _CannotCutError: this kind of layer cannot be cut.
    """
    if isinstance(target, nn.Parameter):
        if target not in parameters:
            raise _CannotCutError("a parameter without a name")
        return [(parameters[target], int(dep.target.pruning_dim))]
    name = names[target]
    tensors = (*target.named_parameters(recurse=False), *target.named_buffers(recurse=False))
    held = {n for n, tensor in tensors if tensor is not None}
    if hasattr(target, "parametrizations") or any(n.endswith(("_g", "_v", "_orig")) for n in held):
        raise _CannotCutError(f"{name} is parametrised")
    sides = channel_sides(target, makes=_makes(graph, dep))
    if sides is None:
        kind = type(target).__name__ + (" with groups" if getattr(target, "groups", 1) != 1 else "")
        raise _CannotCutError(f"{name} is a {kind}")
    return [(f"{name}.{n}" if name else n, axis) for n, axis in sides.items() if n in held]
