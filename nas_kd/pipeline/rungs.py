"""Asynchronous successive halving for several objectives: who is trained on, and who waits.

Li et al. 2020 (arXiv:1810.05934) promote the best 1 / `reduction` of those that reached a rung, whenever there is room,
without waiting for the others. With several objectives "the best" are those of the first non-dominated fronts, and of
one front those with the most room around them (Deb et al. 2002, NSGA-II, section III). Size and latency are known from
the start; only accuracy differs from rung to rung.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_kd.pareto import non_dominated
from nas_kd.record import TrialRecord

Points = NDArray[np.float64]


def best_first(points: ArrayLike, most: int) -> list[int]:
    """Numbers of the `most` best points of (n, d), all coordinates minimised: by front, crowding distance, number."""
    table = np.asarray(points, dtype=np.float64)
    order: list[int] = []
    left = np.arange(len(table))
    while len(left) and len(order) < most:
        members = left[non_dominated(table[left])]
        distances = crowding(table[members])
        order += [int(members[i]) for i in np.lexsort((members, -distances))]
        left = np.setdiff1d(left, members)
    return order[:most]


def crowding(front: Points) -> Points:
    """(n, d) -> (n,): the sum over coordinates of the gap between the two neighbours; infinite at the ends."""
    distances = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        distances[order[[0, -1]]] = np.inf
        extent = column[order[-1]] - column[order[0]]
        if extent > 0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distances


def next_to_promote(
    records: Sequence[TrialRecord], rungs: int, reduction: int, *, last: bool = False
) -> TrialRecord | None:
    """The waiting trial to train on, from the highest rung downwards; None: nobody has earned it yet.

    Args:
        records: all trials so far; a waiting one has fate "waiting".
        rungs: how many there are.
        reduction: of so many at a rung, one goes on.
        last: nothing more will be proposed: one at least goes on from every rung.
    """
    for level in reversed(range(rungs - 1)):
        reached = [r for r in records if len(r.rungs) > level and r.fate != "duplicate"]
        allowed = max(len(reached) // reduction, 1 if last and reached else 0)
        points = [_point(r, level) for r in reached]
        for i in best_first(points, allowed):
            if reached[i].fate == "waiting" and len(reached[i].rungs) == level + 1:
                return reached[i]
    return None


def _point(record: TrialRecord, level: int) -> tuple[float, float, float]:
    """Error at the rung, log size, log latency."""
    costs = record.costs
    if costs is None or costs.latency_ms is None:
        raise ValueError(f"trial {record.number} was trained without having been measured")
    return 1 - record.rungs[level].val_accuracy, float(np.log(costs.size_bytes)), float(np.log(costs.latency_ms.p50))
