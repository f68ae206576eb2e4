"""Asynchronous successive halving for several objectives: which trials are trained on, and which stay paused.

Li et al. 2020 (arXiv:1810.05934) promote the best 1 / `reduction` of the trials that reached a rung, whenever a worker
is free, without waiting for the others. Which trials are among the best changes with every new one, and with several
objectives so much that half of them were promoted; here no more than that share is promoted altogether. With several
objectives "the best" are those of the first non-dominated fronts, and within a front those with the largest crowding
distance (Deb et al. 2002, NSGA-II, section III). Size and latency are known from the start; only the score differs from
rung to rung.

Up to the first rung candidates are compared without their assistants (`trial.candidate_up_to_next_rung`): what is
promoted from there is a student and its recipe.

The first few trials, from the largest network within the budget down to a thirtieth of its weights, are trained in full
whatever they reach: a student near the limit is there early, they span the useful part of the fronts, and as they were
not selected they show how well accuracy at a rung predicts final accuracy.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_kd.results.pareto import non_dominated
from nas_kd.results.trial_record import TrialRecord

Points = NDArray[np.float64]


def best_first(points: ArrayLike, most: int) -> list[int]:
    """Rank points by non-dominated front, then crowding distance, then number; return the numbers of the first `most`.

    Args:
        points: (n, d), all coordinates minimised.
        most: how many numbers to return.
    """
    table = np.asarray(points, dtype=np.float64)
    order: list[int] = []
    left = np.arange(len(table))
    while len(left) and len(order) < most:
        members = left[non_dominated(table[left])]
        order += by_crowding(table, members)
        left = np.setdiff1d(left, members)
    return order[:most]


def by_crowding(points: Points, members: NDArray[np.intp]) -> list[int]:
    """Sort `members`, rows of `points` (n, d), by decreasing crowding distance."""
    distances = crowding(points[members])
    return [int(members[i]) for i in np.lexsort((members, -distances))]


def crowding(front: Points) -> Points:
    """Compute crowding distances (Deb et al. 2002): the sum over coordinates of the gap between the two neighbours.

    Args:
        front: (n, d) points of one front.

    Returns:
        (n,) distances; infinite for the ends of each coordinate.
    """
    distances = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        distances[order[[0, -1]]] = np.inf
        extent = column[order[-1]] - column[order[0]]
        if extent > 0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distances


class Rung:
    """The trials that reached one rung, and on which front each is (0: the best).

    Fronts are updated point by point: sorting thousands of points anew for every decision takes longer than some
    trainings do.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.paused: set[int] = set()
        self.failed: set[int] = set()
        self._numbers = np.empty(0, dtype=np.intp)
        self._points = np.empty((0, 3))
        self._fronts = np.empty(0, dtype=np.intp)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers[np.searchsorted(self._numbers, number) :][:1]

    def add(self, number: int, point: ArrayLike) -> None:
        """Add trial `number` with its point (d,), all coordinates minimised."""
        row = np.asarray(point, dtype=np.float64)
        better = _dominates(self._points, row)
        front = int(self._fronts[better].max()) + 1 if better.any() else 0
        level, pushing = front, row[np.newaxis]
        while len(pushing):
            level, pushing = level + 1, self._push_down(pushing, level)
        place = int(np.searchsorted(self._numbers, number))
        self._numbers = np.insert(self._numbers, place, number)
        self._points = np.insert(self._points, place, row, axis=0)
        self._fronts = np.insert(self._fronts, place, front)

    def _push_down(self, pushing: Points, level: int) -> Points:
        """Move the points that these dominate from front `level` to the next; returns them, as they may push others."""
        there = np.flatnonzero(self._fronts == level)
        beaten = there[_dominates(pushing[:, np.newaxis], self._points[there]).any(axis=0)]
        self._fronts[beaten] = level + 1
        return self._points[beaten]

    def best_first(self) -> Iterator[int]:
        """Yield the numbers of all trials, by front, then crowding distance, then number."""
        for front in range(int(self._fronts.max(initial=-1)) + 1):
            members = by_crowding(self._points, np.flatnonzero(self._fronts == front))
            yield from self._numbers[members].tolist()

    def next_to_promote(self, most: int, n_initial: int = 0) -> int | None:
        """Find the best paused trial, if it is among the `most` best, and fewer than that were promoted.

        Failed trials do not count, nor do initial ones, none of which is paused any more.

        Args:
            most: how many trials may be promoted from here altogether.
            n_initial: trials with lower numbers are initial ones.
        """
        promoted = self.count_from(n_initial) - len(self.paused) - sum(number >= n_initial for number in self.failed)
        if not self.paused or promoted >= most:
            return None
        best = islice((n for n in self.best_first() if n >= n_initial and n not in self.failed), most)
        return next((number for number in best if number in self.paused), None)

    def most_accurate(self) -> int | None:
        """Find the most accurate paused trial; of several the one with the lowest number."""
        errors = dict(zip(self._numbers.tolist(), self._points[:, 0].tolist(), strict=True))
        return min(sorted(self.paused), key=errors.__getitem__, default=None)

    def count_from(self, number: int) -> int:
        """Count the trials that reached this rung and have at least this number."""
        return len(self) - int(np.searchsorted(self._numbers, number))


class SuccessiveHalving:
    """All rungs of a run; its decisions follow from the records alone, whatever their order."""

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self._rungs: list[Rung] = []
        for record in records:
            self.update(record)

    @property
    def reached(self) -> dict[int, int]:
        """Epochs of each rung -> how many trials reached it."""
        return {rung.epochs: len(rung) for rung in self._rungs}

    def update(self, record: TrialRecord) -> None:
        """Take in the present record of a trial."""
        if record.status == "duplicate":
            return
        for level, result in enumerate(record.rungs):
            if level == len(self._rungs):
                self._rungs.append(Rung(result.epochs))
            if record.number not in self._rungs[level]:
                self._rungs[level].add(record.number, _point(record, level))
            self._rungs[level].paused.discard(record.number)
        if record.rungs and record.status in ("paused", "failed", "infeasible"):
            rung = self._rungs[len(record.rungs) - 1]
            (rung.paused if record.status == "paused" else rung.failed).add(record.number)

    def best(self, epochs: int, most: int) -> list[int]:
        """List the numbers of the `most` best trials at the rung of this many epochs, best first."""
        return [n for rung in self._rungs if rung.epochs == epochs for n in islice(rung.best_first(), most)]

    def next_to_promote(self, rungs: int, reduction: int, *, n_initial: int = 0, last: bool = False) -> int | None:
        """Find the paused trial to train on, from the highest rung downwards; None: none has earned it yet.

        Args:
            rungs: how many there are.
            reduction: one trial in `reduction` is promoted from a rung.
            n_initial: trials with lower numbers are promoted before all others, and do not count among them.
            last: nothing more will be proposed: at least one trial is promoted from every rung.
        """
        below = self._rungs[: rungs - 1]
        for initial in range(n_initial):
            if any(initial in rung.paused for rung in below):
                return initial
        for rung in reversed(below):
            there = rung.count_from(n_initial)
            allowed = max(there // reduction, 1 if last and there else 0)
            if (number := rung.next_to_promote(allowed, n_initial)) is not None:
                return number
        return None

    def most_accurate(self, rungs: int) -> int | None:
        """Find the most accurate paused trial at the highest rung that has any; `rungs`: how many rungs there are."""
        return next((rung.most_accurate() for rung in reversed(self._rungs[: rungs - 1]) if rung.paused), None)


def _dominates(points: Points, point: Points) -> NDArray[np.bool_]:
    """Which of `points` (..., d) are nowhere worse than `point` (..., d) and somewhere better."""
    return np.asarray((points <= point).all(axis=-1) & (points < point).any(axis=-1))


def _point(record: TrialRecord, level: int) -> tuple[float, float, float]:
    """Error (1 - score) at the rung, log size, log latency."""
    score, size, ms = record.objectives(level)
    return 1 - score, log(size), log(ms)
