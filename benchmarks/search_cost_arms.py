"""Figures of searches compared among themselves in `search_cost.py`: one lever off at a time, and samplers."""

from collections.abc import Mapping, Sequence
from math import inf
from statistics import fmean, stdev
from typing import Any

from benchmarks.search_cost_cases import Case
from benchmarks.search_cost_figures import USEFUL, Event, Run, at, case_of, our_events, reached, spread, steps, volume

EARLY = 0.35  # of the time of a search: what slower ones have a chance to reach


def family(seeds: Mapping[int, Mapping[str, Run]], start: str, first: str) -> dict[int, dict[str, Run]]:
    """Runs whose arms start so, of seeds that have the one that the others are compared with, which comes first."""
    found = {}
    for seed, arms in seeds.items():
        own = {arm.removeprefix(start): run for arm, run in arms.items() if arm.startswith(start)}
        if first in own and len(own) > 1:
            found[seed] = {first: own.pop(first), **own}
    return found


def ablation(ablated: Mapping[int, Mapping[str, Run]]) -> dict[str, Any]:
    """What each arm has after equal time, and how long it took to what all levers brought early, paired by seed."""
    found: dict[str, Any] = {}
    for arm in dict.fromkeys(arm for arms in ablated.values() for arm in arms):
        pairs = [(arms["all_levers"], arms[arm]) for arms in ablated.values() if arm in arms]
        rows = [against_all_levers(*pair) for pair in pairs]
        found[arm] = {
            "overrides": pairs[0][1]["overrides"],
            "volumes": [row["volume"] for row in rows],
            "times_slower": spread(row["times_slower"] for row in rows),
            "proposed": [len(run["trials"]) for _, run in pairs],
            "trained": [row["trained"] for row in rows],
            "throughput": spread(throughput(run) / throughput(whole) for whole, run in pairs),
        }
    return found


def against_all_levers(whole: Run, run: Run) -> dict[str, Any]:
    """One seed's figures of an arm."""
    case, teacher = case_of(whole), whole["teacher"]

    def seen(front: Sequence[Event]) -> float:
        return volume([(e.accuracy, e.size_bytes, e.latency_ms) for e in front], teacher, "val")

    events = our_events(case, run)
    mine, theirs = steps(events, seen), steps(our_events(case, whole), seen)
    early = at(theirs, EARLY * whole["minutes"] * 60)
    ours_s, arm_s = (reached(history, early.volume) if early else None for history in (theirs, mine))
    return {
        "volume": mine[-1].volume if mine else 0.0,
        "times_slower": arm_s / ours_s if arm_s and ours_s else None,
        "trained": len(events),
    }


def throughput(run: Run) -> float:
    """Epochs that a search has trained, a second of the time in which it did."""
    trained = [t for t in run["trials"] if t["rungs"]]
    until = max((t["elapsed_s"] for t in trained), default=inf)
    return float(sum(max(t["rungs"]) for t in trained) / (until - run["searching_from_s"]))


def training_history(run: Run, case: Case) -> list[tuple[float, Event]]:
    """(training seconds spent by then, candidate) of those trained in full, in order of time.

    An elastic network is trained before all of them. What a candidate that waits for a promotion has cost is known, but
    not when: where there are rungs, training is taken to be spread evenly over the time of the search.
    """
    trials = sorted((t for t in run["trials"] if t["fate"] != "duplicate"), key=lambda t: t["elapsed_s"])
    total = sum(t["training_s"] for t in trials)
    rungs = any(t["fate"] == "stopped" for t in trials)
    first, last = run["searching_from_s"], trials[-1]["elapsed_s"] if trials else 1.0
    before, spent, history = run["elastic_s"], 0.0, []
    for trial in trials:
        spent += trial["training_s"]
        share = (trial["elapsed_s"] - first) / max(last - first, 1e-9)
        events = our_events(case, {"trials": [trial]})
        history += [(before + (total * share if rungs else spent), e) for e in events]
    return history


def at_equal_training(case: Case, runs: Mapping[str, Run], teacher: Run) -> dict[str, Any]:
    """Volume of each contestant once all have trained as long as the one that trained least."""
    totals = {arm: run["elastic_s"] + sum(t["training_s"] for t in run["trials"]) for arm, run in runs.items()}
    limit = min(totals.values())
    found: dict[str, Any] = {"training_s": limit, "totals_s": totals, "volume": {}, "useful": {}}
    for arm, run in runs.items():
        events = [e for spent, e in training_history(run, case) if spent <= limit + 1e-6]
        points = [(e.accuracy, e.size_bytes, e.latency_ms) for e in events]
        found["volume"][arm] = volume(points, teacher, "val")
        found["useful"][arm] = volume(points, teacher, "val", USEFUL)
    return found


def samplers(sampled: Mapping[int, Mapping[str, Run]]) -> dict[str, Any]:
    """Volumes after equal training seconds, of each seed and their means."""
    each = {}
    for seed, arms in sampled.items():
        ours = arms["trials"]
        each[seed] = at_equal_training(case_of(ours), arms, ours["teacher"])
    names = dict.fromkeys(arm for arms in sampled.values() for arm in arms)
    summary = {
        arm: {
            key: _mean([e[key][arm] for e in each.values() if arm in e[key]])
            | {"ours_ahead": sum(e[key]["trials"] > e[key][arm] for e in each.values() if arm in e[key])}
            for key in ("volume", "useful")
        }
        for arm in names
    }
    return {"seeds": each, "summary": summary}


def _mean(values: Sequence[float]) -> dict[str, Any]:
    deviation = stdev(values) if len(values) > 1 else None
    return {"mean": fmean(values), "sd": deviation, "low": min(values), "high": max(values), "seeds": len(values)}
