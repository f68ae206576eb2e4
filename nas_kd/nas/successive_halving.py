"""Asynchronous successive halving for several objectives: who is trained on, and who waits.

Li et al. 2020 (arXiv:1810.05934) promote the best 1 / `reduction` of those that reached a rung, whenever there is room,
without waiting for the others. Who is among the best changes with every newcomer, and with several objectives so much
that half of them went on; here no more than that share do altogether. With several objectives "the best" are those of
the first non-dominated fronts, and of one front those with the most room around them (Deb et al. 2002, NSGA-II, section
III). Size and latency are known from the start; only accuracy differs from rung to rung.

The first few, spread over the sizes that are allowed, are trained to the end whatever they reach: they span the fronts
when the search has hardly begun, and as nobody picked them they tell how far rungs can be believed.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_kd.config.options import SearchSection
from nas_kd.results.pareto import non_dominated
from nas_kd.results.records import TrialRecord

Points = NDArray[np.float64]


def rung_epochs(epochs: int, steps: int, options: SearchSection) -> tuple[int, ...]:
    """Epochs of the full schedule at each rung, rising up to all of it; `steps`: of an epoch.

    Rungs of fewer than `rung_steps` steps are left out, as they rank by chance: over 24 networks on the digits
    Kendall's tau with the accuracy after 540 steps was 0.2 after 54 steps, 0.7 after 180.
    """
    levels = {max(1, round(epochs / options.reduction**step)) for step in range(1, options.rungs)}
    return (*sorted(level for level in levels if level < epochs and level * steps >= options.rung_steps), epochs)


def best_first(points: ArrayLike, most: int) -> list[int]:
    """Numbers of the `most` best points of (n, d), all coordinates minimised: by front, crowding distance, number."""
    table = np.asarray(points, dtype=np.float64)
    order: list[int] = []
    left = np.arange(len(table))
    while len(left) and len(order) < most:
        members = left[non_dominated(table[left])]
        order += by_room(table, members)
        left = np.setdiff1d(left, members)
    return order[:most]


def by_room(points: Points, members: NDArray[np.intp]) -> list[int]:
    """`members` of `points` (n, d), those with the most room around them first."""
    distances = crowding(points[members])
    return [int(members[i]) for i in np.lexsort((members, -distances))]


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


class Rung:
    """Those who reached it: numbers of trials, rising, on which front each is, 0 the best; who waits, who failed.

    Fronts are kept up to date point by point: sorting thousands of points anew for every decision takes longer than
    some trainings do.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.waiting: set[int] = set()
        self.failed: set[int] = set()
        self._numbers = np.empty(0, dtype=np.intp)
        self._points = np.empty((0, 3))
        self._fronts = np.empty(0, dtype=np.intp)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers[np.searchsorted(self._numbers, number) :][:1]

    def add(self, number: int, point: ArrayLike) -> None:
        """One more trial; all coordinates are minimised."""
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
        """Move whom these points dominate from front `level` to the next; whoever was moved may push others in turn."""
        there = np.flatnonzero(self._fronts == level)
        beaten = there[_dominates(pushing[:, np.newaxis], self._points[there]).any(axis=0)]
        self._fronts[beaten] = level + 1
        return self._points[beaten]

    def best_first(self) -> Iterator[int]:
        """Numbers of all trials: by front, crowding distance, number."""
        for front in range(int(self._fronts.max(initial=-1)) + 1):
            members = by_room(self._points, np.flatnonzero(self._fronts == front))
            yield from self._numbers[members].tolist()

    def next_to_promote(self, most: int, n_initial: int = 0) -> int | None:
        """The best who waits, if it is among the `most` best, and fewer have gone on.

        The failed do not count, nor do trials with numbers below `pioneers`, none of whom waits any more.
        """
        gone_on = self.besides(n_initial) - len(self.waiting) - sum(number >= n_initial for number in self.failed)
        if not self.waiting or gone_on >= most:
            return None
        best = islice((n for n in self.best_first() if n >= n_initial and n not in self.failed), most)
        return next((number for number in best if number in self.waiting), None)

    def most_accurate(self) -> int | None:
        """The most accurate who waits; of several the lowest number."""
        errors = dict(zip(self._numbers.tolist(), self._points[:, 0].tolist(), strict=True))
        return min(sorted(self.waiting), key=errors.__getitem__, default=None)

    def besides(self, n_initial: int) -> int:
        """How many trials with numbers of at least `pioneers` reached it."""
        return len(self) - int(np.searchsorted(self._numbers, n_initial))


class SuccessiveHalving:
    """All rungs of a run; what it says follows from the records alone, whatever their order."""

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self._rungs: list[Rung] = []
        for record in records:
            self.note(record)

    @property
    def reached(self) -> dict[int, int]:
        """Epochs of each rung, and by how many it was reached."""
        return {rung.epochs: len(rung) for rung in self._rungs}

    def note(self, record: TrialRecord) -> None:
        """What is known of a trial now."""
        if record.status == "duplicate":
            return
        for level, result in enumerate(record.rungs):
            if level == len(self._rungs):
                self._rungs.append(Rung(result.epochs))
            if record.number not in self._rungs[level]:
                self._rungs[level].add(record.number, _point(record, level))
            self._rungs[level].waiting.discard(record.number)
        if record.rungs and record.status in ("paused", "failed", "infeasible"):
            rung = self._rungs[len(record.rungs) - 1]
            (rung.waiting if record.status == "paused" else rung.failed).add(record.number)

    def best(self, epochs: int, most: int) -> list[int]:
        """Numbers of the `most` best trials after so many epochs."""
        return [n for rung in self._rungs if rung.epochs == epochs for n in islice(rung.best_first(), most)]

    def next_to_promote(self, rungs: int, reduction: int, *, n_initial: int = 0, last: bool = False) -> int | None:
        """Number of the waiting trial to train on, from the highest rung downwards; None: nobody has earned it yet.

        Args:
            rungs: how many there are.
            reduction: of so many at a rung, one goes on.
            n_initial: trials with lower numbers go on before anyone else, and do not count among the others.
            last: nothing more will be proposed: one at least goes on from every rung.
        """
        below = self._rungs[: rungs - 1]
        for initial in range(n_initial):
            if any(initial in rung.waiting for rung in below):
                return initial
        for rung in reversed(below):
            there = rung.besides(n_initial)
            allowed = max(there // reduction, 1 if last and there else 0)
            if (number := rung.next_to_promote(allowed, n_initial)) is not None:
                return number
        return None

    def most_accurate(self, rungs: int) -> int | None:
        """Number of the most accurate who waits at the highest rung where anyone does; `rungs`: how many there are."""
        return next((rung.most_accurate() for rung in reversed(self._rungs[: rungs - 1]) if rung.waiting), None)


def _dominates(points: Points, point: Points) -> NDArray[np.bool_]:
    """Which of `points` (..., d) are nowhere worse than `point` (..., d) and somewhere better."""
    return np.asarray((points <= point).all(axis=-1) & (points < point).any(axis=-1))


def _point(record: TrialRecord, level: int) -> tuple[float, float, float]:
    """Error at the rung, log size, log latency."""
    accuracy, size, ms = record.objectives(level)
    return 1 - accuracy, log(size), log(ms)
