"""The stages of a network: places of equal resolution, or thirds of its depth."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from nas_kd.models.derived.cutting import Cutter
from nas_kd.models.derived.observe import Call, resolution


@dataclass(frozen=True)
class Stages:
    """The stage of each group of channels (by its root) and block (by its path).

    Attributes:
        order: of their first calls.
        number: of their stages, from 0 on.
    """

    order: Mapping[str, int]
    number: Mapping[str, int]

    @property
    def count(self) -> int:
        """The number of stages."""
        return max(self.number.values(), default=0) + 1

    def at(self, order: int) -> int:
        """Find the stage of a layer by the order of its first call: that of what was called last before."""
        before = [path for path, place in self.order.items() if place <= order]
        return self.number[max(before, key=self.order.__getitem__)] if before else 0

    def merged(self, count: int) -> "Stages":
        """Merge neighbours, so that there are `count` stages."""
        return replace(self, number={path: stage * count // self.count for path, stage in self.number.items()})

    def in_thirds(self) -> "Stages":
        """Thirds of the depth in place of stages, for networks that keep their resolution."""
        ordered = sorted(self.order, key=self.order.__getitem__)
        return replace(self, number={path: 3 * place // len(ordered) for place, path in enumerate(ordered)})


def find_stages(cutter: Cutter, calls: Mapping[str, Call], free: Iterable[int]) -> Stages:
    """Find the stages of a network.

    Args:
        cutter: of the network.
        calls: of its modules.
        free: numbers of the groups that can be cut.
    """
    groups = [cutter.groups[number] for number in free]
    first = {g.root: min(g.producers or (g.root,), key=lambda path: calls[path].order) for g in groups}
    order = {root: calls[path].order for root, path in first.items()}
    places = {root: resolution(cutter.model.get_submodule(path), calls[path]) for root, path in first.items()}
    for path in cutter.blocks:
        order[path] = calls[path].order
        places[path] = max((n for root, n in places.items() if root.startswith(f"{path}.")), default=1)
    for path, size in places.items():  # squeezed by pooling: they belong to the block around them
        if size == 1 and (around := _around(path, places)) is not None:
            places[path] = places[around]
    values = sorted(set(places.values()), reverse=True)
    return Stages(order, {path: values.index(size) for path, size in places.items()})


def _around(path: str, places: Mapping[str, int]) -> str | None:
    prefix = path
    while "." in prefix:
        prefix = prefix.rpartition(".")[0]
        for other, size in places.items():
            if size > 1 and other.startswith(f"{prefix}."):
                return other
    return None
