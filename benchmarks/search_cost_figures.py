"""Figures of the race in `search_cost.py`: hypervolume over time, how long each took to it, the spread over seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, log10
from statistics import fmean
from typing import Any

from benchmarks.search_cost_cases import CLASSES, Case
from nas_kd.results.pareto import hypervolume, non_dominated
from nas_kd.serialization import fingerprint

USEFUL = 0.9  # of the teacher's accuracy over chance
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """A candidate trained in full: when, its accuracy as its own search saw it, its costs. `key`: its architecture."""

    at_s: float
    accuracy: float
    size_bytes: float
    latency_ms: float
    key: str


@dataclass(frozen=True)
class Step:
    """What was known from this moment on."""

    at_s: float
    volume: float
    front: tuple[Event, ...]


def key_of(architecture: Mapping[str, Any]) -> str:
    """A short name of an architecture."""
    return fingerprint(architecture)[:12]


Point = tuple[float, float, float]  # accuracy 0..1, bytes, ms


def losses(point: Point, teacher: Run, accuracy: str, floor: float = 0.0) -> Point:
    """What is gained over the teacher as `nas_kd.results.hypervolume` counts it, negated; arguments as `volume`'s."""
    chance = 1 / CLASSES
    retention = (point[0] - chance) / (teacher[accuracy] - chance)
    return floor - retention, log10(point[1] / teacher["size_bytes"]), log10(point[2] / teacher["latency_ms"])


def volume(points: Iterable[Point], teacher: Run, accuracy: str, floor: float = 0.0) -> float:
    """`normalised_hypervolume` of nas_kd over the teacher's `val` or `test` accuracy, above a retention of `floor`.

    Args:
        points: (accuracy 0..1, bytes, ms).
        teacher: the reference: accuracies, `size_bytes` and `latency_ms`.
        accuracy: which of its accuracies the points have.
        floor: retention, 0: guessing, 1: the teacher; what is below counts nothing.
    """
    return hypervolume([losses(point, teacher, accuracy, floor) for point in points], [0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Judged:
    """The judge's findings on one seed. `costs`: of the script's candidates; `tests`: accuracies, one a seed."""

    teacher: Run
    costs: Mapping[str, Mapping[str, float]]
    tests: dict[str, list[float]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)

    def seen(self, front: Sequence[Event], floor: float = 0.0) -> float:
        """Volume by the accuracy on validation that the search itself saw."""
        points = [(e.accuracy, e.size_bytes, e.latency_ms) for e in front]
        return volume(points, self.teacher, "val", floor)

    def useful(self, front: Sequence[Event]) -> float:
        """The same, of candidates that keep most of the teacher's accuracy."""
        return self.seen(front, USEFUL)

    def knows(self, front: Sequence[Event]) -> bool:
        """Whether all of them were trained again."""
        return all(e.key in self.tests for e in front)

    def volume(self, front: Sequence[Event]) -> float:
        """Volume by mean test accuracy, trained again by one protocol."""
        return volume([(fmean(self.tests[e.key]), e.size_bytes, e.latency_ms) for e in front], self.teacher, "test")


def script_events(case: Case, plain: Run, judged: Judged, *, own_costs: bool = False) -> list[Event]:
    """Its trials within the budget; costs by the gate, as for ours, or as the script measured them itself."""
    found = []
    for trial in plain["trials"]:
        key = key_of(trial["architecture"])
        costs = trial if own_costs else judged.costs[key]
        if case.allows(costs["size_bytes"], costs["latency_ms"]):
            at = trial["elapsed_s"]
            found.append(Event(at, trial["val_accuracy"], costs["size_bytes"], costs["latency_ms"], key))
    return found


def our_events(case: Case, run: Run) -> list[Event]:
    """Its candidates that were trained in full, within the budget."""
    return [
        Event(t["elapsed_s"], t["val_accuracy"], t["size_bytes"], t["latency_ms"], key_of(t["architecture"]))
        for t in sorted(run["trials"], key=lambda t: t["elapsed_s"])
        if t["status"] == "finished" and case.allows(t["size_bytes"], t["latency_ms"])
    ]


def steps(events: Sequence[Event], measure: Callable[[Sequence[Event]], float]) -> list[Step]:
    """The front and its volume after each event."""
    found: list[Step] = []
    front: list[Event] = []
    for event in events:
        front.append(event)
        keep = non_dominated([(-e.accuracy, e.size_bytes, e.latency_ms) for e in front])
        front = [e for e, k in zip(front, keep, strict=True) if k]
        found.append(Step(event.at_s, measure(front), tuple(front)))
    return found


def reached(history: Sequence[Step], target: float) -> float | None:
    """Seconds until the volume was at least `target`."""
    return next((s.at_s for s in history if s.volume >= target), None)


def at(history: Sequence[Step], seconds: float) -> Step | None:
    """What was known at a moment."""
    return next((s for s in reversed(history) if s.at_s <= seconds), None)


def compare(case: Case, plain: Run, ours: Run, judged: Judged) -> dict[str, Any]:
    """All figures of one seed."""
    script_s = plain["trials"][-1]["elapsed_s"]
    common, own = (script_events(case, plain, judged, own_costs=own) for own in (False, True))
    mine = our_events(case, ours)
    return {
        "script_s": script_s,
        "script_in_budget": len(common),
        "script_in_budget_by_itself": len(own),
        "ours_proposed": len(ours["trials"]),
        "ours_finished": len(mine),
        "seen": race(steps(common, judged.seen), steps(mine, judged.seen), script_s),
        "useful": race(steps(common, judged.useful), steps(mine, judged.useful), script_s),
        "own_costs": race(steps(own, judged.seen), steps(mine, judged.seen), script_s),
        "judged": judged_race(steps(common, judged.seen), steps(mine, judged.seen), judged, script_s),
        "teacher": dict(judged.teacher),
    }


def race(theirs: Sequence[Step], mine: Sequence[Step], script_s: float) -> dict[str, Any]:
    """How long ours took to the volume that the script has at its end, and what ours has by then."""
    target = theirs[-1].volume if theirs else 0.0
    now = at(mine, script_s)
    # A script without a single useful candidate sets no mark; who passes 0 has passed nothing.
    ours_s = reached(mine, target) if target > 0 else None
    first_s = reached(theirs, target) if target > 0 else None
    return {
        "script_volume": target,
        "script_first_s": first_s,
        "ours_s": ours_s,
        "ratio": script_s / ours_s if ours_s else None,
        "ratio_to_first": first_s / ours_s if ours_s and first_s else None,
        "ours_volume_in_equal_time": now.volume if now else 0.0,
    }


def judged_race(theirs: Sequence[Step], mine: Sequence[Step], judged: Judged, script_s: float) -> dict[str, Any]:
    """The same with fronts as each saw them, but their members' accuracy by one judge."""
    target = judged.volume(theirs[-1].front) if theirs else 0.0
    known = [s for s in mine if judged.knows(s.front)]
    ours_s = next((s.at_s for s in known if target > 0 and judged.volume(s.front) >= target), None)
    passed = next((s for s in known if theirs and s.volume >= theirs[-1].volume), None)
    now = at(mine, script_s)
    return {
        "script_volume": target,
        "ours_s": ours_s,
        "ratio": script_s / ours_s if ours_s else None,
        "ours_volume_when_it_passed": judged.volume(passed.front) if passed else None,
        "ours_volume_in_equal_time": judged.volume(now.front) if now and judged.knows(now.front) else None,
    }


def spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Geometric mean, smallest, largest, of those that are there; `of`: how many there should be."""
    wanted = list(values)
    there = [v for v in wanted if v]
    if not there:
        return None
    mean = exp(fmean(map(log, there)))
    return {"mean": mean, "low": min(there), "high": max(there), "seeds": len(there), "of": len(wanted)}


def case_of(run: Run) -> Case:
    """The case that a result was made with."""
    return Case(**run["settings"])


def read_judged(run: Run) -> Judged:
    """Read the judged students from a result file."""
    return Judged(run["teacher"], run["costs"], run["tests"], run["seeds"])


def by_seed(runs: Mapping[str, Run], case: str) -> dict[int, dict[str, Run]]:
    """Good results of a case: seed -> arm -> result."""
    found: dict[int, dict[str, Run]] = {}
    for name, run in runs.items():
        of, seed, arm = name.split(".")
        if of == case and "error" not in run:
            found.setdefault(int(seed), {})[arm] = run
    return dict(sorted(found.items()))
