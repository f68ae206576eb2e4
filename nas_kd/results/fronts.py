"""The rules of a run's result: fronts and winner are chosen on validation accuracy, test accuracy is only reported."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import Any, Literal, NamedTuple

from nas_kd.config.options import Budget
from nas_kd.results.hypervolume import (
    hypervolume_2d,
    hypervolume_history,
    is_reference,
    normalized_hypervolume,
    progress_points,
)
from nas_kd.results.latency import Latency
from nas_kd.results.limits import (
    active_limits,
    cost_values,
    describe_costs,
    ratios,
    unmeasured_limits,
    within_budget,
)
from nas_kd.results.pareto import non_dominated
from nas_kd.results.records import (
    Accuracy,
    ControlRecord,
    Costs,
    FinalistRecord,
    RunRecord,
    TeacherRecord,
    TrialRecord,
)

__all__ = [
    "closest",
    "closest_finalists",
    "front_document",
    "fronts",
    "hypervolume_2d",
    "hypervolume_history",
    "normalized_hypervolume",
    "reaches",
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


def reaches(val: Accuracy, budget: Budget) -> bool:
    """Whether a mean validation accuracy is as high as the budget asks for."""
    return budget.min_accuracy is None or val.mean >= budget.min_accuracy


def winner(finalists: Iterable[FinalistRecord], budget: Budget) -> FinalistRecord | None:
    """The finalist of the highest mean validation accuracy within the budget; equal ones: smaller, faster, first id.

    With a `min_accuracy`: of those that reach it the fastest; equal ones: more accurate, smaller, first id.
    """
    allowed = (f for f in finalists if within_budget(f.costs, budget) and reaches(f.val, budget))
    return min(allowed, key=_preference if budget.min_accuracy is None else _speed, default=None)


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
    known = {t.id: _Near(f"trial {t.number}", t.description, t.costs) for t in trials if t.costs}
    return _closest(known.values(), budget, most)


def closest_finalists(finalists: Iterable[FinalistRecord], budget: Budget, most: int = 3) -> str:
    """As `closest`, of finalists; where an accuracy is asked for, with theirs."""
    known = {f.id: _Near(f"trial {f.trial}", f.description, f.costs, f.val.mean) for f in finalists}
    return _closest(known.values(), budget, most)


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
        "budget": _budget(budget),
        "teacher": _teacher(run.teacher),
        "winner": best.id if best else None,
        "hypervolume": _rounded(_hypervolume(run)),
        "candidates": _candidates(run.finalists, budget),
        "units": UNITS,
    }


def _budget(budget: Budget) -> dict[str, float | None]:
    """Latency and size always, the others where they are limited."""
    least = {} if budget.min_accuracy is None else {"min_accuracy": budget.min_accuracy}
    given = {limit.key: most for limit, most in active_limits(budget)}
    return {"max_latency_ms": None, "max_size_bytes": None, **given, **least}


def _candidates(finalists: Sequence[FinalistRecord], budget: Budget) -> list[dict[str, Any]]:
    members, tied = fronts(finalists), ties(finalists)
    ordered = sorted(finalists, key=_preference)
    return [
        {
            "id": f.id,
            "trial": f.trial,
            **f.candidate.to_json(),
            "description": f.description,
            "seeds": [s.seed for s in f.seeds],
            "deployed_seed": f.deployed_seed,
            "accuracy": _accuracies(f.val, f.test),
            "size_bytes": f.costs.size_bytes,
            "parameters": f.costs.parameters,
            "macs": f.costs.macs,
            "memory_bytes": f.costs.memory_bytes,
            "latency_ms": _latency(f.costs.latency_ms),
            "on_front": {name: f.id in front for name, front in members.items()},
            "ties": list(tied[f.id]),
            "within_budget": within_budget(f.costs, budget),
            **({} if budget.min_accuracy is None else {"reaches_accuracy": reaches(f.val, budget)}),
            "controls": {c.kind: _control(c) for c in f.controls},
        }
        for f in ordered
    ]


def _teacher(teacher: TeacherRecord | None) -> dict[str, Any] | None:
    if teacher is None:
        return None
    return {
        "description": teacher.description,
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
    return normalized_hypervolume(points, teacher, len(data.classes))


def _front(finalists: Sequence[FinalistRecord], axes: Sequence[Axis]) -> frozenset[str]:
    ids, rows = [], []
    for f in finalists:
        costs = cost_values(f.costs)
        row = [-f.val.mean, *(c for axis in axes if (c := costs[axis]) is not None)]
        if len(row) == 1 + len(axes) and all(map(isfinite, row)):
            ids.append(f.id)
            rows.append(row)
    return frozenset(name for name, is_member in zip(ids, non_dominated(rows), strict=True) if is_member)


def _preference(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    return -finalist.val.mean, finalist.costs.require_size(), _latency_ms(finalist), finalist.id


def _speed(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    return _latency_ms(finalist), -finalist.val.mean, finalist.costs.require_size(), finalist.id


def _latency_ms(finalist: FinalistRecord) -> float:
    """The slowest of all, where it was not measured."""
    return finalist.costs.latency_ms.p50 if finalist.costs.latency_ms else inf


class _Near(NamedTuple):
    """Somebody who may be near to the budget. `val`: mean validation accuracy, where it counts."""

    name: str
    description: str
    costs: Costs
    val: float | None = None


def _closest(known: Iterable[_Near], budget: Budget, most: int) -> str:
    ranked = sorted(known, key=lambda n: (_miss(n, budget), cost_values(n.costs)["size"] or inf))
    if not ranked:
        return "none, as no candidate was measured"
    return "; ".join(f"{near.name} ({near.description}): {_miss_words(near, budget)}" for near in ranked[:most])


def _miss(near: _Near, budget: Budget) -> float:
    """The worst factor by which a limit is missed; who misses none that is known, but not all are, comes last."""
    found = [*ratios(cost_values(near.costs), budget).values()]
    if near.val is not None and budget.min_accuracy is not None:
        found.append(budget.min_accuracy / near.val if near.val > 0 else inf)
    worst = max(found, default=0.0)
    return inf if worst <= 1 and unmeasured_limits(near.costs, budget) else worst


def _miss_words(near: _Near, budget: Budget) -> str:
    said = describe_costs(near.costs, budget)
    if near.val is None or budget.min_accuracy is None:
        return said
    short = budget.min_accuracy - near.val
    below = f" ({short * 100:.3g} points below the least)" if short > 0 else ""
    return f"{said}, {near.val:.2%} on validation{below}"
