"""Figures of searches compared among themselves in `search_cost.py`: one lever off at a time, and samplers."""

from collections.abc import Mapping, Sequence
from math import inf
from statistics import fmean, stdev
from typing import Any

from benchmarks.search_cost_cases import Case
from benchmarks.search_cost_figures import USEFUL, Event, Run, at, case_of, our_events, reached, spread, steps, volume

EARLY = 0.35  # of the time of a search: what slower ones have a chance to reach
MEASURES = ("volume", "useful", "best")  # hypervolume, that above `USEFUL`, the highest accuracy within the budget


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

    An elastic network is trained before all of them. Of a candidate only the end of its last rung is known, and of one
    that was stopped not even that; but it was started before later ones were proposed: what went before counts when one
    of these was first told of, rather too early than too late.
    """
    spent: list[tuple[float, int, float, list[Event]]] = []
    bound = inf
    for number, trial in reversed(list(enumerate(run["trials"]))):
        bound = min(bound, trial["elapsed_s"])
        if trial["status"] != "duplicate":
            last = _last_rung_s(trial)
            spent.append((bound, number, trial["training_s"] - last, []))
            spent.append((trial["elapsed_s"], number, last, our_events(case, {"trials": [trial]})))
    seconds, history = run["elastic_s"], []
    for _, _, more, events in sorted(spent, key=lambda part: part[:2]):
        seconds += more
        history += [(seconds, event) for event in events]
    return history


def _last_rung_s(trial: Mapping[str, Any]) -> float:
    """Training seconds of the last rung of a candidate that was trained in full, by its share of epochs."""
    if trial["status"] != "finished":
        return 0.0
    before, last = [0, *trial["rungs"]][-2:]
    return float(trial["training_s"] * (last - before) / last)


def trained_s(run: Run) -> float:
    """Seconds of training in all."""
    return float(run["elastic_s"] + sum(t["training_s"] for t in run["trials"]))


def at_equal_training(case: Case, ours: Run, other: Run) -> dict[str, Any]:
    """What both had once each had trained as long as the one that trained least: (ours, other's) of each measure."""
    limit = min(trained_s(ours), trained_s(other))
    found: dict[str, Any] = {"training_s": limit, **{measure: [] for measure in MEASURES}}
    for run in (ours, other):
        events = [e for spent, e in training_history(run, case) if spent <= limit + 1e-6]
        points = [(e.accuracy, e.size_bytes, e.latency_ms) for e in events]
        found["volume"].append(volume(points, ours["teacher"], "val"))
        found["useful"].append(volume(points, ours["teacher"], "val", USEFUL))
        found["best"].append(max((e.accuracy for e in events), default=0.0))
    return found


def samplers(sampled: Mapping[int, Mapping[str, Run]]) -> dict[str, Any]:
    """Each search beside `trials` after equal training seconds: of each seed, and over them."""
    each = {
        seed: {arm: at_equal_training(case_of(run), arms["trials"], run) for arm, run in arms.items()}
        for seed, arms in sampled.items()
    }
    names = dict.fromkeys(arm for arms in sampled.values() for arm in arms)
    summary = {}
    for arm in names:
        rows = [found[arm] for found in each.values() if arm in found]
        summary[arm] = {
            "training_s": [row["training_s"] for row in rows],
            **{measure: _compared([row[measure] for row in rows]) for measure in MEASURES},
        }
    return {"seeds": each, "summary": summary}


def _compared(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Of (ours, other's), a seed each: the other's mean, by how much ours is more, and on how many seeds."""
    more = [ours - other for ours, other in pairs]
    return {
        "mean": fmean(other for _, other in pairs),
        "ours_more": fmean(more),
        "ours_more_sd": stdev(more) if len(more) > 1 else None,
        "ours_ahead": sum(difference > 0 for difference in more),
        "seeds": len(pairs),
    }
