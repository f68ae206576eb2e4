"""The rules of a run's result: fronts and winner are chosen on validation accuracy, test accuracy is only reported."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal

from nas_kd.config import Budget
from nas_kd.hypervolume import (
    hypervolume_2d,
    hypervolume_history,
    is_reference,
    normalised_hypervolume,
    progress_points,
)
from nas_kd.pareto import non_dominated
from nas_kd.record import Accuracy, ControlRecord, Costs, FinalistRecord, Latency, RunRecord, TeacherRecord, TrialRecord

__all__ = [
    "closest",
    "closest_finalists",
    "front_document",
    "fronts",
    "hypervolume_2d",
    "hypervolume_history",
    "normalised_hypervolume",
    "ties",
    "winner",
    "within_budget",
]

Axis = Literal["size", "latency"]
# Which costs are set against accuracy on each front.
FRONTS: Mapping[str, tuple[Axis, ...]] = {"size": ("size",), "latency": ("latency",), "joint": ("size", "latency")}
UNITS = {
    "accuracy": "share of samples, 0..1; intervals are 95 %",
    "size_bytes": "bytes of the ONNX file",
    "latency_ms": "milliseconds a call; low and high: 95 % interval of the median",
    "hypervolume": "of the finalists: retention on validation x log10 of times smaller x log10 of times faster",
}
Misses = tuple[tuple[Axis, float], ...]


def within_budget(costs: Costs, budget: Budget) -> bool:
    """Whether nothing is above its limit; a latency that is limited but was not measured is not within the budget."""
    limits = {axis: _limit(budget, axis) for axis in FRONTS["joint"]}
    spent = {axis: _cost(costs, axis) for axis in limits}
    return all(limit is None or ((cost := spent[axis]) is not None and cost <= limit) for axis, limit in limits.items())


def winner(finalists: Iterable[FinalistRecord], budget: Budget) -> FinalistRecord | None:
    """The finalist of the highest mean validation accuracy within the budget; equal ones: smaller, faster, first id."""
    allowed = (f for f in finalists if within_budget(f.costs, budget))
    return min(allowed, key=_preference, default=None)


def fronts(finalists: Sequence[FinalistRecord]) -> dict[str, frozenset[str]]:
    """Ids of the members of each front ("size", "latency", "joint"), by mean validation accuracy, whatever the budget.

    A finalist without a latency is on no front that has one.
    """
    return {name: _front(finalists, axes) for name, axes in FRONTS.items()}


def ties(finalists: Sequence[FinalistRecord]) -> dict[str, tuple[str, ...]]:
    """Of each finalist, the others on a front of its whose validation intervals overlap with its own."""
    members = fronts(finalists).values()

    def tied(a: FinalistRecord, b: FinalistRecord) -> bool:
        together = any(a.id in front and b.id in front for front in members)
        return a.id != b.id and together and a.val.low <= b.val.high and b.val.low <= a.val.high

    return {f.id: tuple(sorted(o.id for o in finalists if tied(f, o))) for f in finalists}


def closest(trials: Iterable[TrialRecord], budget: Budget, most: int = 3) -> str:
    """The candidates nearest to the budget, and how often each limit would have to fit, in words."""
    return _closest({t.id: (f"trial {t.number}", t.words, t.costs) for t in trials}, budget, most)


def closest_finalists(finalists: Iterable[FinalistRecord], budget: Budget, most: int = 3) -> str:
    """As `closest`, of finalists."""
    return _closest({f.id: (f"trial {f.trial}", f.words, f.costs) for f in finalists}, budget, most)


def front_document(run: RunRecord) -> dict[str, Any]:
    """What `front.json` holds, at any stage of a run; `hypervolume` is null until a teacher was measured."""
    budget = Budget.model_validate(run.config.get("budget") or {})
    best = winner(run.finalists, budget)
    return {
        "schema": 1,
        "run": run.name,
        "state": run.state,
        "dataset": run.dataset.name if run.dataset else None,
        "device": run.device.name if run.device else None,
        "budget": {"max_latency_ms": budget.max_latency_ms, "max_size_bytes": budget.max_size_bytes},
        "teacher": _teacher(run.teacher),
        "winner": best.id if best else None,
        "hypervolume": _rounded(_hypervolume(run)),
        "candidates": _candidates(run.finalists, budget),
        "units": UNITS,
    }


def _candidates(finalists: Sequence[FinalistRecord], budget: Budget) -> list[dict[str, Any]]:
    members, tied = fronts(finalists), ties(finalists)
    ordered = sorted(finalists, key=_preference)
    return [
        {
            "id": f.id,
            "trial": f.trial,
            **f.candidate,
            "words": f.words,
            "seeds": [s.seed for s in f.seeds],
            "deployed_seed": f.deployed_seed,
            "accuracy": _accuracies(f.val, f.test),
            "size_bytes": f.costs.size_bytes,
            "parameters": f.costs.parameters,
            "macs": f.costs.macs,
            "latency_ms": _latency(f.costs.latency_ms),
            "on_front": {name: f.id in front for name, front in members.items()},
            "ties": list(tied[f.id]),
            "within_budget": within_budget(f.costs, budget),
            "controls": {c.kind: _control(c) for c in f.controls},
        }
        for f in ordered
    ]


def _teacher(teacher: TeacherRecord | None) -> dict[str, Any] | None:
    if teacher is None:
        return None
    return {
        "words": teacher.words,
        "accuracy": _accuracies(teacher.val, teacher.test),
        "size_bytes": teacher.costs.size_bytes,
        "latency_ms": _latency(teacher.costs.latency_ms),
    }


def _accuracies(val: Accuracy, test: Accuracy | None) -> dict[str, Any]:
    reported = _interval(test, "test") if test else {"test": None, "test_low": None, "test_high": None}
    return {**_interval(val, "val"), **reported}


def _interval(value: Accuracy, name: str) -> dict[str, float | None]:
    return {name: _rounded(value.mean), f"{name}_low": _rounded(value.low), f"{name}_high": _rounded(value.high)}


def _control(control: ControlRecord) -> dict[str, Any]:
    gain = control.gain
    return {
        **_interval(control.accuracy, "accuracy"),
        "gain": {"mean": _rounded(gain.mean), "low": _rounded(gain.low), "high": _rounded(gain.high)},
        "cost_ratio": _rounded(control.cost_ratio),
    }


def _latency(latency: Latency | None) -> dict[str, Any] | None:
    if latency is None:
        return None
    numbers = {k: _rounded(getattr(latency, k)) for k in ("p50", "p90", "low", "high")}
    return {**numbers, "unstable": latency.unstable}


def _rounded(value: float | None) -> float | None:
    """Six decimals: a millionth of a share, a nanosecond; JSON has no NaN."""
    return round(value, 6) if value is not None and isfinite(value) else None


def _hypervolume(run: RunRecord) -> float | None:
    teacher, data = run.teacher, run.dataset
    if teacher is None or data is None or not is_reference(teacher, len(data.classes)):
        return None
    points = progress_points((f.val.mean, f.costs) for f in run.finalists)
    return normalised_hypervolume(points, teacher, len(data.classes))


def _front(finalists: Sequence[FinalistRecord], axes: Sequence[Axis]) -> frozenset[str]:
    ids, rows = [], []
    for f in finalists:
        row = [-f.val.mean, *(c for axis in axes if (c := _cost(f.costs, axis)) is not None)]
        if len(row) == 1 + len(axes) and all(map(isfinite, row)):
            ids.append(f.id)
            rows.append(row)
    return frozenset(name for name, is_member in zip(ids, non_dominated(rows), strict=True) if is_member)


def _preference(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    latency = _cost(finalist.costs, "latency")
    return -finalist.val.mean, finalist.costs.size_bytes, float("inf") if latency is None else latency, finalist.id


def _cost(costs: Costs, axis: Axis) -> float | None:
    if axis == "size":
        return costs.size_bytes
    return costs.latency_ms.p50 if costs.latency_ms else None


def _limit(budget: Budget, axis: Axis) -> float | None:
    return budget.max_size_bytes if axis == "size" else budget.max_latency_ms


def _factors(costs: Costs, budget: Budget) -> Misses:
    """Cost over limit, of what is limited and known."""
    pairs = ((axis, _cost(costs, axis), _limit(budget, axis)) for axis in FRONTS["joint"])
    return tuple((axis, cost / limit) for axis, cost, limit in pairs if cost is not None and limit)


def _closest(candidates: Mapping[str, tuple[str, str, Costs | None]], budget: Budget, most: int) -> str:
    known = [(name, words, costs, _factors(costs, budget)) for name, words, costs in candidates.values() if costs]
    if not known:
        return "none, as no candidate was measured"
    known.sort(key=lambda k: (max((f for _, f in k[3]), default=0.0), k[2].size_bytes))
    return "; ".join(f"{name} ({words}): {_miss_words(costs, factors)}" for name, words, costs, factors in known[:most])


def _miss_words(costs: Costs, factors: Misses) -> str:
    """`98.0 kB (1.96 times the limit), 0.21 ms`."""
    times = {axis: f" ({factor:.3g} times the limit)" if factor > 1 else "" for axis, factor in factors}
    size = f"{costs.size_bytes / 1000:.1f} kB{times.get('size', '')}"
    latency = f"{costs.latency_ms.p50:.3g} ms{times.get('latency', '')}" if costs.latency_ms else "latency not measured"
    return f"{size}, {latency}"
