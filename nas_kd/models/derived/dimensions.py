"""Merges groups of channels and blocks into a few dimensions: by stage and by what they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_kd.models.derived.channel_groups import ChannelGroup
from nas_kd.models.derived.cutting import Cutter
from nas_kd.models.derived.derive import Derived
from nas_kd.models.derived.observe import Call, resolution

FULL = 8  # widths are counted in eighths
MIN_DIMENSIONS, MAX_DIMENSIONS = 6, 14
ROLES = {
    "stream": "width of the residual stream",
    "inner": "width inside blocks",
    "width": "width",
    "heads": "attention heads",
    "depth": "number of blocks",
}
QUANTA = ((64, 8), (16, 4), (8, 2), (0, 1))  # from this width on, widths are multiples of that


@dataclass(frozen=True)
class CutDimension:
    """One choice of a derived space.

    Attributes:
        name: such as `inner_2`.
        groups: numbers of the channel groups that it narrows, all by the same share.
        blocks: paths of the blocks that it leaves out, the first one first.
        fewest: of these blocks that are kept; 1 where its stage has no others.
        description: what it is, for people.
    """

    name: str
    groups: tuple[int, ...]
    blocks: tuple[str, ...]
    fewest: int
    description: str


def width_of(group: ChannelGroup, eighths: int) -> int:
    """Channels that a group keeps at a share in eighths: whole units, or a multiple of 8, less where it is narrow."""
    if eighths == FULL:
        return group.size
    if group.unit > 1:
        units = group.size // group.unit
        return max(1, int(units * eighths / FULL + 0.5)) * group.unit
    quantum = next(quantum for width, quantum in QUANTA if group.size >= width)
    return min(group.size, max(1, int(group.size * eighths / FULL / quantum + 0.5)) * quantum)


def dimensions_of(derived: Derived) -> list[CutDimension]:
    """The dimensions of a network, in the order of its stages."""
    cutter, calls = derived.cutter, derived.calls
    free = [number for number, group in enumerate(cutter.groups) if not group.frozen]
    stages = _Stages(cutter, calls, free)
    n_stages = max(stages.number.values(), default=0) + 1
    found = _merged(derived, free, stages.number, n_stages)
    while len(found) > MAX_DIMENSIONS and n_stages > 1:
        n_stages = (n_stages + 1) // 2
        merged = {
            place: stage * n_stages // (max(stages.number.values()) + 1) for place, stage in stages.number.items()
        }
        found = _merged(derived, free, merged, n_stages)
    if len(found) < MIN_DIMENSIONS:
        thirds = stages.in_thirds()
        found = max(found, _merged(derived, free, thirds, max(thirds.values(), default=0) + 1), key=len)
    return found


class _Stages:
    """The stage of each group (by its root) and block (by its path)."""

    def __init__(self, cutter: Cutter, calls: Mapping[str, Call], free: Iterable[int]) -> None:
        groups = [cutter.groups[number] for number in free]
        first = {g.root: min(g.producers or (g.root,), key=lambda path: calls[path].order) for g in groups}
        self._order = {root: calls[path].order for root, path in first.items()}
        places = {root: resolution(cutter.model.get_submodule(path), calls[path]) for root, path in first.items()}
        for path in cutter.blocks:
            self._order[path] = calls[path].order
            places[path] = max((n for root, n in places.items() if root.startswith(f"{path}.")), default=1)
        for path, size in places.items():  # squeezed by pooling: they belong to the block around them
            if size == 1 and (around := _around(path, places)) is not None:
                places[path] = places[around]
        values = sorted(set(places.values()), reverse=True)
        self.number = {path: values.index(size) for path, size in places.items()}

    def in_thirds(self) -> dict[str, int]:
        """Thirds of the depth in place of stages, for networks that keep their resolution."""
        ordered = sorted(self._order, key=self._order.__getitem__)
        return {path: 3 * place // len(ordered) for place, path in enumerate(ordered)}


def _around(path: str, places: dict[str, int]) -> str | None:
    prefix = path
    while "." in prefix:
        prefix = prefix.rpartition(".")[0]
        for other, size in places.items():
            if size > 1 and other.startswith(f"{prefix}."):
                return other
    return None


def _merged(derived: Derived, free: Sequence[int], stages: dict[str, int], n_stages: int) -> list[CutDimension]:
    cutter, found = derived.cutter, []
    roles = _roles(derived, free)
    for stage in range(n_stages):
        here = [n for n in free if stages[cutter.groups[n].root] == stage]
        for role in ("stream", "inner", "width", "heads"):
            members = tuple(n for n in here if roles[n] == role)
            if members and any(width_of(cutter.groups[n], 1) < cutter.groups[n].size for n in members):
                found.append(_width_dimension(role, stage, members, cutter))
        blocks = [path for path in cutter.blocks if stages[path] == stage]
        if blocks:
            found.append(_depth_dimension(stage, blocks, [cutter.groups[n] for n in here], derived.changes))
    return [cut for cut in found if cut.groups or cut.fewest < len(cut.blocks)]


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
    return CutDimension(f"{role}_{stage + 1}", groups, (), 0, f"{ROLES[role]}, stage {stage + 1}; {detail}")


def _depth_dimension(
    stage: int, blocks: Sequence[str], groups: Sequence[ChannelGroup], changes: Mapping[str, float]
) -> CutDimension:
    least_first = tuple(sorted(blocks, key=lambda path: changes[path]))
    inside = tuple(f"{path}." for path in blocks)
    others = any(not g.root.startswith(inside) and len(g.producers) == 1 for g in groups)
    detail = f"{len(blocks)} can be left out: {_some(blocks)}"
    what = f"{ROLES['depth']}, stage {stage + 1}"
    return CutDimension(f"depth_{stage + 1}", (), least_first, 0 if others else 1, f"{what}; {detail}")


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
