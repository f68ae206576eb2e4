"""Groups of channels that must be cut together, read from torch-pruning's dependency graph of a network.

Fang et al. 2023 (arXiv:2301.12900). The graph alone is taken from there; what is cut, and how, is decided here.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.derived.attention import Attention, find_attention
from nas_kd.user_code import describe_error

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
ROOTS = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
Item = tuple[Any, list[int], list[int]]  # a dependency of the library, places, and the root's channels there
MOST_MEMBERS, MOST_ENTANGLED = 600, 2  # members of a group before merging, and groups with more that are looked at
ENTANGLED = "its channels are split and joined too often to be followed"


@dataclass(frozen=True)
class Member:
    """A side of a tensor that a group of channels takes a part of.

    Attributes:
        tensor: its name in the state dict.
        axis: the side.
        positions: (P,) places along the side.
        channels: (P,) the group's channel at each of them.
        reads: whether the layer reads these channels, rather than makes or passes them on.
    """

    tensor: str
    axis: int
    positions: Tensor
    channels: Tensor
    reads: bool


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of a network that are one and the same wherever they appear.

    Attributes:
        root: path of the first layer that makes them.
        size: number of channels.
        unit: channels that stay together, next to each other: those of a head, or of a group that is normalised.
        members: all sides of tensors that they are a part of.
        producers: paths of the layers that make them; more than one: a residual stream.
        attention: paths of the attention modules whose heads they are.
        frozen: why they cannot be cut; empty: they can.
    """

    root: str
    size: int
    unit: int
    members: tuple[Member, ...]
    producers: tuple[str, ...]
    attention: tuple[str, ...] = ()
    frozen: str = ""


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
            return _consistent(list(_groups(graph, model)), model)
    except Exception as error:  # of the network, or of a graph that the library cannot follow
        raise InputError(f"the network's graph cannot be traced: {describe_error(error)}") from error


def _groups(graph: Any, model: nn.Module) -> Iterator[ChannelGroup]:
    names = {module: name for name, module in model.named_modules()}
    parameters = {parameter: name for name, parameter in model.named_parameters()}
    by_layer = {layer: found for found in find_attention(model) for layer in found.layers}
    seen, entangled = set[nn.Module](), 0
    for root in [m for m in graph.module2node if m in names and isinstance(m, ROOTS) and graph.get_pruner_of_module(m)]:
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
    members, producers, unit, frozen = list[Member](), list[str](), 1, ""
    for dep, places, roots in items:
        target = dep.target.module
        if not (isinstance(target, nn.Parameter) or target in names):
            continue
        channels = torch.tensor(roots) % size
        try:
            parts = _parts(graph, dep, target, names, parameters)
        except _CannotCutError as reason:
            frozen = frozen or str(reason)
            continue
        if isinstance(target, nn.GroupNorm):
            unit = max(unit, size // target.num_groups) if size == target.num_channels else 0
        if isinstance(target, ROOTS) and _makes(graph, dep) and not _is_depthwise(target):
            producers.append(names[target])
        reads = isinstance(target, ROOTS) and not _makes(graph, dep)
        members += [Member(n, axis, torch.tensor(places), channels, reads) for n, axis in parts]
    if heads:
        unit = heads[0].width // heads[0].heads
        if len({(h.width, h.heads) for h in heads}) > 1:
            frozen = frozen or "attention modules of different numbers of heads share it"
    if unit == 0:
        unit, frozen = 1, frozen or "it is normalised together with other channels"
    attention = tuple(dict.fromkeys(names[h.module] for h in heads))
    return ChannelGroup(names[root], size, unit, tuple(members), tuple(dict.fromkeys(producers)), attention, frozen)


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


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS) and module.groups == module.in_channels == module.out_channels > 1


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
    sides = _sides(target, makes=_makes(graph, dep))
    if sides is None:
        kind = type(target).__name__ + (" with groups" if getattr(target, "groups", 1) != 1 else "")
        raise _CannotCutError(f"{name} is a {kind}")
    return [(f"{name}.{n}" if name else n, axis) for n, axis in sides.items() if n in held]


def _sides(target: nn.Module, *, makes: bool) -> dict[str, int] | None:
    """The side of each tensor on which a layer has the channels that it makes, or reads; None: it cannot be cut."""
    if isinstance(target, NORMS):
        across = isinstance(target, nn.LayerNorm) and len(target.normalized_shape) != 1  # normalises pixels, too
        return None if across else dict.fromkeys(("weight", "bias", "running_mean", "running_var"), 0)
    if isinstance(target, nn.PReLU):
        return {} if target.num_parameters == 1 else {"weight": 0}
    if isinstance(target, nn.Embedding):
        return {"weight": 1}
    if _is_depthwise(target):
        return {"weight": 0, "bias": 0}
    if isinstance(target, ROOTS) and getattr(target, "groups", 1) == 1:
        out = 1 if isinstance(target, TRANSPOSED) else 0
        return {"weight": out, "bias": 0} if makes else {"weight": 1 - out}
    has_none = not list(target.parameters(recurse=False)) and not list(target.children())
    return {} if has_none else None
