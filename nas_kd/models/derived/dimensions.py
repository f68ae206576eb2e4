"""Merges groups of channels and blocks into a few dimensions: by stage and by what they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_kd.models.derived.channel_groups import ChannelGroup
from nas_kd.models.derived.cutting import Cutter
from nas_kd.models.derived.derive import Derived
from nas_kd.models.derived.large_layers import LargeLayer
from nas_kd.models.derived.observe import resolution
from nas_kd.models.derived.shares import width_of
from nas_kd.models.derived.stages import Stages, find_stages

MIN_DIMENSIONS, MAX_DIMENSIONS = 6, 14
ROLES = {
    "stream": "width of the residual stream",
    "inner": "width inside blocks",
    "width": "width",
    "heads": "attention heads",
    "depth": "number of blocks",
    "rank": "rank of linear layers",
}
COSTLY = 0.05  # share of weights or multiply-adds from which the rank of a stage's linear layers is a choice


@dataclass(frozen=True)
class CutDimension:
    """One choice of a derived space.

    Attributes:
        name: such as `inner_2`.
        groups: numbers of the channel groups that it narrows, all by the same share.
        blocks: paths of the blocks that it leaves out, the first one first.
        fewest: of these blocks that are kept; 1 where its stage has no others.
        layers: paths of the linear layers that it makes two of, all at the same share of their rank.
        description: what it is, for people.
    """

    name: str
    description: str
    groups: tuple[int, ...] = ()
    blocks: tuple[str, ...] = ()
    fewest: int = 0
    layers: tuple[str, ...] = ()


def dimensions_of(derived: Derived, *, ranks: bool = True) -> list[CutDimension]:
    """Find the dimensions of a network, in the order of its stages.

    Args:
        derived: what can be cut of it.
        ranks: whether the rank of its large linear layers is one of them.
    """
    free = [number for number, group in enumerate(derived.cutter.groups) if not group.frozen]
    layers = [layer for layer in derived.large_layers if ranks and not layer.fixed]
    stages = find_stages(derived.cutter, derived.calls, free)
    count, found = stages.count, _in_stages(derived, free, layers, stages)
    while len(found) > MAX_DIMENSIONS and count > 1:
        count = (count + 1) // 2
        found = _in_stages(derived, free, layers, stages.merged(count))
    if len(found) < MIN_DIMENSIONS:
        found = max(found, _in_stages(derived, free, layers, stages.in_thirds()), key=len)
    return found


def _in_stages(
    derived: Derived, free: Sequence[int], layers: Sequence[LargeLayer], stages: Stages
) -> list[CutDimension]:
    cutter, found = derived.cutter, list[CutDimension]()
    roles = _roles(derived, free)
    for stage in range(stages.count):
        here = [n for n in free if stages.number[cutter.groups[n].root] == stage]
        for role in ("stream", "inner", "width", "heads"):
            members = tuple(n for n in here if roles[n] == role)
            if members and any(width_of(cutter.groups[n], 1) < cutter.groups[n].size for n in members):
                found.append(_width_dimension(role, stage, members, cutter))
        blocks = [path for path in cutter.blocks if stages.number[path] == stage]
        if blocks:
            found.append(_depth_dimension(stage, blocks, [cutter.groups[n] for n in here], derived.changes))
        large = [layer for layer in layers if stages.at(derived.calls[layer.path].order) == stage]
        if max(sum(layer.weights_share for layer in large), sum(layer.macs_share for layer in large)) >= COSTLY:
            found.append(_rank_dimension(stage, large))
    return [cut for cut in found if cut.groups or cut.layers or cut.fewest < len(cut.blocks)]


def _roles(derived: Derived, free: Iterable[int]) -> dict[int, str]:
    """What each group is. A stream is what several layers of one resolution add to."""
    groups = {number: derived.cutter.groups[number] for number in free}
    streams = {number for number, group in groups.items() if _is_stream(derived, group)}
    inner = "inner" if streams else "width"
    return {n: "heads" if group.attention else "stream" if n in streams else inner for n, group in groups.items()}


def _is_stream(derived: Derived, group: ChannelGroup) -> bool:
    model, calls = derived.cutter.model, derived.calls
    sizes = [resolution(model.get_submodule(path), calls[path]) for path in group.producers]
    return sizes.count(max(sizes, default=0)) > 1  # others come from pooling, and only weigh channels


def _width_dimension(role: str, stage: int, groups: tuple[int, ...], cutter: Cutter) -> CutDimension:
    kind = "heads" if role == "heads" else "channels"
    sizes = sorted({(cutter.groups[n].size, cutter.groups[n].unit) for n in groups}, reverse=True)
    shown = [str(size // unit) + (f"x{unit}" if unit > 1 and role != "heads" else "") for size, unit in sizes[:4]]
    wide = "-".join(shown) + ("-..." if len(sizes) > 4 else "")
    detail = f"{wide} {kind}: {_some([cutter.groups[n].root for n in groups])}"
    return CutDimension(f"{role}_{stage + 1}", f"{ROLES[role]}, stage {stage + 1}; {detail}", groups)


def _depth_dimension(
    stage: int, blocks: Sequence[str], groups: Sequence[ChannelGroup], changes: Mapping[str, float]
) -> CutDimension:
    least_first = tuple(sorted(blocks, key=lambda path: changes[path]))
    inside = tuple(f"{path}." for path in blocks)
    others = any(not g.root.startswith(inside) and len(g.producers) == 1 for g in groups)
    detail = f"{len(blocks)} can be left out: {_some(blocks)}"
    what = f"{ROLES['depth']}, stage {stage + 1}"
    return CutDimension(f"depth_{stage + 1}", f"{what}; {detail}", blocks=least_first, fewest=0 if others else 1)


def _rank_dimension(stage: int, large: Sequence[LargeLayer]) -> CutDimension:
    paths = tuple(layer.path for layer in large)
    detail = f"{len(paths)} {'becomes two' if len(paths) == 1 else 'become two each'}: {_some(paths)}"
    return CutDimension(f"rank_{stage + 1}", f"{ROLES['rank']}, stage {stage + 1}; {detail}", layers=paths)


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
