"""Derives what can be cut of a network: channels and blocks, each of them tried before it is offered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.derived.attention import split_attention
from nas_kd.models.derived.channel_groups import ROOTS, ChannelGroup
from nas_kd.models.derived.cutting import Block, Cutter
from nas_kd.models.derived.dependency_graph import find_groups
from nas_kd.models.derived.importance import block_changes, rank_channels
from nas_kd.models.derived.large_layers import LargeLayer, find_large_layers
from nas_kd.models.derived.observe import Call, observe
from nas_kd.user_code import describe_error, unchanged_settings

TOLERANCE = 1e-3  # of a cut network's outputs, as a share of the largest
EXAMPLES = 2  # samples that cuts are tried on
UNEVEN, SHARES = 3, 5  # cuts of uneven widths that blocks are tried in, and how many widths there are


@dataclass(frozen=True)
class Derived:
    """What can be cut of a network.

    Attributes:
        cutter: cuts networks; its groups say why those that are frozen cannot be cut.
        calls: of the network's modules.
        changes: how much each block changes what passes through it.
        large_layers: linear layers whose rank can be chosen, or why not.
    """

    cutter: Cutter
    calls: Mapping[str, Call]
    changes: Mapping[str, float]
    large_layers: tuple[LargeLayer, ...]


def derive(network: nn.Module, example: Tensor) -> Derived:
    """Find what can be cut of a network, and try it.

    A cut network must give what the whole one gives without the channels that were left out; a group of channels for
    which this does not hold is frozen, with its reason.

    Args:
        network: any; not changed.
        example: (B, ...) samples as it takes them; more of them rank its blocks better.

    Raises:
        InputError: the network cannot be run, traced, or cut anywhere.
    """
    try:
        with unchanged_settings():
            model = split_attention(deepcopy(network)).cpu().eval().requires_grad_(True)
            tried = example[:EXAMPLES]
            calls = observe(model, tried)
            with torch.no_grad():
                whole = model(tried)
    except Exception as error:
        raise InputError(f"the network cannot be copied and run on the example: {describe_error(error)}") from error
    if not isinstance(whole, Tensor):
        raise InputError("the network must return a tensor")
    if not torch.isfinite(whole).all():
        raise InputError("the network's outputs on the example are not finite")
    try:
        with unchanged_settings():
            cutter = _cutter(model, calls, tried, whole)
            changes = block_changes(model, list(cutter.blocks), example)
            large = tuple(find_large_layers(model, calls, _tied(model), tried, whole))
    except InputError:
        raise
    except Exception as error:  # of a network that does what no other was seen to do
        raise InputError(f"what can be cut of the network could not be found: {describe_error(error)}") from error
    if not cutter.blocks and all(x.frozen for x in cutter.groups) and all(x.fixed for x in large):
        reasons = "; ".join(dict.fromkeys(f"{group.root}: {group.frozen}" for group in cutter.groups)) or "no layers"
        raise InputError(f"nothing of the network can be cut ({reasons[:200]})")
    return Derived(cutter, calls, changes, large)


def _cutter(model: nn.Module, calls: Mapping[str, Call], x: Tensor, whole: Tensor) -> Cutter:
    groups = _without_shared(find_groups(model, x), model, calls)
    tensors = model.state_dict()
    ranks = [rank_channels(group, tensors) for group in groups]
    cutter = Cutter(model, groups, ranks, _find_blocks(model, calls, x, whole))
    return _with_sound_blocks(_tried(cutter, x, whole), x, whole)


def _without_shared(groups: Sequence[ChannelGroup], model: nn.Module, calls: Mapping[str, Call]) -> list[ChannelGroup]:
    """Freeze groups of layers that are called several times, share a tensor, or make the network's outputs."""
    tied = _tied(model)
    repeated = {path for path, call in calls.items() if call.calls > 1}
    layers = [path for path in calls if isinstance(model.get_submodule(path), ROOTS)]
    last = max(layers, key=lambda path: calls[path].order, default="")

    def reason(group: ChannelGroup) -> str:
        names = {member.tensor for member in group.members}
        if last in group.producers:
            return "it gives the network's outputs"
        if shared := sorted(names & tied):
            return f"{shared[0]} is used in several places"
        if used := sorted(name for name in names if name.rpartition(".")[0] in repeated):
            return f"{used[0].rpartition('.')[0]} is called several times"
        return ""

    return [group if group.frozen else replace(group, frozen=reason(group)) for group in groups]


def _tied(model: nn.Module) -> set[str]:
    """Names of tensors that are used in several places."""
    tensors = model.state_dict(keep_vars=True)
    places = Counter(tensor.data_ptr() for tensor in tensors.values() if tensor.numel())
    return {name for name, tensor in tensors.items() if places[tensor.data_ptr()] > 1}


def _find_blocks(model: nn.Module, calls: Mapping[str, Call], x: Tensor, whole: Tensor) -> list[Block]:
    """Blocks in a row of their kind that return what they take, changed, and without which the network runs."""
    found = []
    for path, container in model.named_modules():
        if not isinstance(container, nn.Sequential | nn.ModuleList):
            continue
        kinds = Counter(type(child) for child in container)
        for name, child in container.named_children():
            inner = f"{path}.{name}" if path else name
            call = calls.get(inner)
            if call is None or call.calls > 1 or call.taken is None or call.taken != call.returned:
                continue
            if kinds[type(child)] > 1 and any(True for _ in child.children()) and any(True for _ in child.parameters()):
                found.append(Block(inner, call.as_tuple))
    rows = {b.path for b in found if type(model.get_submodule(b.path)) is nn.Sequential and _inside(found, b.path)}
    blocks = [block for block in found if block.path not in rows]
    nested = {within.path for block in blocks for within in _inside(blocks, block.path)}
    return [b for b in blocks if b.path not in nested and _runs(Cutter(model, [], [], [b]), {}, [b.path], x, whole)]


def _inside(blocks: Sequence[Block], path: str) -> list[Block]:
    return [block for block in blocks if block.path.startswith(f"{path}.")]


def _runs(cutter: Cutter, kept: Mapping[int, int], left_out: Sequence[str], x: Tensor, whole: Tensor) -> bool:
    try:
        with torch.no_grad():
            result = cutter.cut(kept, left_out)(x)
    except Exception:
        return False
    return isinstance(result, Tensor) and result.shape == whole.shape and bool(torch.isfinite(result).all())


def _tried(cutter: Cutter, x: Tensor, whole: Tensor) -> Cutter:
    """The cutter with the groups frozen that cannot be cut rightly: all at once if all is well, else one by one."""
    halves = {n: _half(group) for n, group in enumerate(cutter.groups) if not group.frozen}
    groups = [
        replace(group, frozen="it cannot be smaller") if halves.get(n) == group.size else group
        for n, group in enumerate(cutter.groups)
    ]
    halves = {n: half for n, half in halves.items() if half < cutter.groups[n].size}
    if halves and _fault(cutter, halves, x, whole):
        for number in halves:
            if fault := _fault(cutter, {number: halves[number]}, x, whole):
                groups[number] = replace(groups[number], frozen=fault)
    return Cutter(cutter.model, groups, cutter.ranks, list(cutter.blocks.values()))


def _with_sound_blocks(cutter: Cutter, x: Tensor, whole: Tensor) -> Cutter:
    """The cutter without blocks that give other channels than they take, as is seen where groups differ in width."""

    def sound(paths: Sequence[str]) -> bool:
        return all(_runs(cutter, _uneven(cutter, turn), paths, x, whole) for turn in range(UNEVEN))

    paths = list(cutter.blocks)
    if not paths or sound(paths):
        return cutter
    kept: list[str] = []
    for path in paths:
        if sound([*kept, path]):
            kept.append(path)
    return Cutter(cutter.model, cutter.groups, cutter.ranks, [cutter.blocks[path] for path in kept])


def _uneven(cutter: Cutter, turn: int) -> dict[int, int]:
    """A cut of all groups by shares that differ."""
    found = {}
    for number, group in enumerate(cutter.groups):
        units = group.size // group.unit
        if not group.frozen and units > 1:
            found[number] = max(1, units * (1 + (number * (turn + 2) + turn) % SHARES) // (SHARES + 1)) * group.unit
    return found


def _half(group: ChannelGroup) -> int:
    return max(1, group.size // group.unit // 2) * group.unit


def _fault(cutter: Cutter, kept: Mapping[int, int], x: Tensor, whole: Tensor) -> str:
    """What is wrong with a cut, in a few words; empty: nothing."""
    try:
        with torch.no_grad():
            result = cutter.cut(kept)(x)
    except Exception as error:
        return f"without some of it the network fails ({describe_error(error)})"
    if not isinstance(result, Tensor) or result.shape != whole.shape:
        return "it changes the shape of the network's outputs"
    expected = _masked(cutter, kept)
    if expected is None:
        return "" if torch.isfinite(result).all() else "without some of it the outputs are not finite"
    with torch.no_grad():
        right = expected(x)
    if not float((result - right).abs().max()) <= TOLERANCE * max(1e-6, float(right.abs().max())):
        return "its channels are mixed in a way that cannot be followed"
    return ""


def _masked(cutter: Cutter, kept: Mapping[int, int]) -> nn.Module | None:
    """The whole network with layers that do not read what a cut leaves out; None: its norms cannot be told to."""
    model = deepcopy(cutter.model)
    tensors = dict(model.named_parameters())
    for number, channels in kept.items():
        for member in cutter.groups[number].members:
            keep = cutter.ranks[number][member.channels] < channels
            owner = member.tensor.rpartition(".")[0]
            module: Any = model.get_submodule(owner)
            if member.reads:
                with torch.no_grad():
                    tensors[member.tensor].index_fill_(member.axis, member.positions[~keep], 0.0)
            elif hasattr(module, "normalized_shape"):
                if type(module) is not nn.LayerNorm:
                    return None
                parent, _, name = owner.rpartition(".")
                setattr(model.get_submodule(parent), name, _NormOfSome(module, member.positions[keep].sort().values))
    return model


class _NormOfSome(nn.Module):
    """A layer norm of some of its channels; the others become 0."""

    def __init__(self, norm: nn.LayerNorm, places: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.places = norm.weight, norm.bias, norm.eps, places
        self.normalized_shape = norm.normalized_shape

    def forward(self, x: Tensor) -> Tensor:
        at = self.places
        weight, bias = (None if t is None else t[at] for t in (self.weight, self.bias))
        some = F.layer_norm(x[..., at], (len(at),), weight, bias, self.eps)
        return torch.zeros_like(x).index_copy(-1, at, some)
