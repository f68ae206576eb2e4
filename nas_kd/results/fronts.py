"""Chooses a run's Pareto fronts and its winner, on validation accuracy, and writes them as the content of front.json.

Test accuracy is reported beside them and never used to choose.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import Any, Literal, NamedTuple

from nas_kd.config.options import Budget
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord
from nas_kd.results.hypervolume import is_valid_reference, measured_objectives, normalized_hypervolume
from nas_kd.results.latency import Latency
from nas_kd.results.limits import active_limits, cost_values, describe_costs, ratios, unmeasured_limits, within_budget
from nas_kd.results.pareto import non_dominated
from nas_kd.results.run_record import RunRecord, TeacherRecord
from nas_kd.results.trial_record import Costs, TrialRecord

Axis = Literal["size", "latency"]
# The costs that each front trades against accuracy.
FRONT_AXES: Mapping[str, tuple[Axis, ...]] = {"size": ("size",), "latency": ("latency",), "joint": ("size", "latency")}
UNITS = {
    "accuracy": "share of samples, 0..1; intervals are 95 %",
    "size_bytes": "bytes of the ONNX file",
    "latency_ms": "milliseconds per call; low and high: 95 % interval of the median",
    "hypervolume": "of the finalists: retained validation accuracy x log10 of times smaller x log10 of times faster",
}


def meets_min_accuracy(val: Accuracy, budget: Budget) -> bool:
    """Return whether a mean validation accuracy reaches the budget's `min_accuracy`; true if there is none."""
    return budget.min_accuracy is None or val.mean >= budget.min_accuracy


def winner(finalists: Iterable[FinalistRecord], budget: Budget) -> FinalistRecord | None:
    """Choose the finalist to deploy, on validation accuracy.

    Without a `min_accuracy`, the most accurate finalist within the budget wins; ties go to the smaller, then the
    faster, then the lower id. With a `min_accuracy`, the fastest of those that reach it wins; ties go to the more
    accurate, then the smaller, then the lower id.

    Args:
        finalists: the fully trained candidates, in any order.
        budget: limits on costs and accuracy.

    Returns:
        The winner, or None if no finalist meets the budget.
    """
    allowed = (f for f in finalists if within_budget(f.costs, budget) and meets_min_accuracy(f.val, budget))
    order = accuracy_first if budget.min_accuracy is None else _latency_first
    return min(allowed, key=order, default=None)


def front_members(finalists: Sequence[FinalistRecord]) -> dict[str, frozenset[str]]:
    """Find the members of the accuracy-size, accuracy-latency and joint Pareto fronts, whatever the budget.

    Args:
        finalists: compared by mean validation accuracy; one without a measured latency is on the size front at most.

    Returns:
        Candidate ids of each front, by its name: "size", "latency", "joint".
    """
    return {name: _non_dominated_ids(finalists, axes) for name, axes in FRONT_AXES.items()}


def overlapping_finalists(finalists: Sequence[FinalistRecord]) -> dict[str, tuple[str, ...]]:
    """For each finalist, list the members of the same front whose 95 % validation intervals overlap its own.

    Returns:
        Sorted ids of the others, by candidate id; they cannot be distinguished from it in accuracy.
    """
    fronts = front_members(finalists).values()

    def overlap(a: FinalistRecord, b: FinalistRecord) -> bool:
        same_front = any(a.id in front and b.id in front for front in fronts)
        return a.id != b.id and same_front and a.val.low <= b.val.high and b.val.low <= a.val.high

    return {f.id: tuple(sorted(other.id for other in finalists if overlap(f, other))) for f in finalists}


def describe_closest_trials(trials: Iterable[TrialRecord], budget: Budget, most: int = 3) -> str:
    """Describe the trials that come closest to the budget, and the factor by which they exceed each limit.

    Args:
        trials: those without costs are left out.
        budget: the limits that they miss.
        most: how many to describe.
    """
    known = {t.id: _MeasuredCandidate(f"trial {t.number}", t.description, t.costs) for t in trials if t.costs}
    return _describe_closest(known.values(), budget, most)


def describe_closest_finalists(finalists: Iterable[FinalistRecord], budget: Budget, most: int = 3) -> str:
    """Describe the finalists that come closest to the budget, with their accuracy if a `min_accuracy` is set.

    Args:
        finalists: the fully trained candidates.
        budget: the limits that they miss.
        most: how many to describe.
    """
    known = {f.id: _MeasuredCandidate(f"trial {f.trial}", f.description, f.costs, f.val.mean) for f in finalists}
    return _describe_closest(known.values(), budget, most)


def front_document(run: RunRecord) -> dict[str, Any]:
    """Build the content of `front.json`, at any stage of a run.

    Args:
        run: finished or not; without a measured teacher, `hypervolume` is null.

    Returns:
        A JSON-able object, schema 1: fronts, winner, candidates, teacher and units.
    """
    budget = Budget.model_validate(run.config.get("budget") or {})
    best = winner(run.finalists, budget)
    return {
        "schema": 1,
        "run": run.name,
        "state": run.state,
        "dataset": run.dataset.name if run.dataset else None,
        "device": run.device.name if run.device else None,
        "budget": _budget_json(budget),
        "teacher": _teacher_json(run.teacher),
        "winner": best.id if best else None,
        "hypervolume": _rounded(_finalists_hypervolume(run)),
        "candidates": _candidates_json(run.finalists, budget),
        "units": UNITS,
    }


def _budget_json(budget: Budget) -> dict[str, float | None]:
    """Latency and size always, other limits only if they are set."""
    accuracy = {} if budget.min_accuracy is None else {"min_accuracy": budget.min_accuracy}
    limits = {limit.key: most for limit, most in active_limits(budget)}
    return {"max_latency_ms": None, "max_size_bytes": None, **limits, **accuracy}


def _candidates_json(finalists: Sequence[FinalistRecord], budget: Budget) -> list[dict[str, Any]]:
    fronts, overlapping = front_members(finalists), overlapping_finalists(finalists)
    ordered = sorted(finalists, key=accuracy_first)
    return [
        {
            "id": f.id,
            "trial": f.trial,
            **f.candidate.to_json(),
            "description": f.description,
            "seeds": [s.seed for s in f.seeds],
            "deployed_seed": f.deployed_seed,
            "accuracy": _accuracies_json(f.val, f.test),
            "size_bytes": f.costs.size_bytes,
            "parameters": f.costs.parameters,
            "macs": f.costs.macs,
            "memory_bytes": f.costs.memory_bytes,
            "latency_ms": _latency_json(f.costs.latency_ms),
            "on_front": {name: f.id in front for name, front in fronts.items()},
            "ties": list(overlapping[f.id]),
            "within_budget": within_budget(f.costs, budget),
            **({} if budget.min_accuracy is None else {"reaches_accuracy": meets_min_accuracy(f.val, budget)}),
            "controls": {c.kind: _control_json(c) for c in f.controls},
        }
        for f in ordered
    ]


def _teacher_json(teacher: TeacherRecord | None) -> dict[str, Any] | None:
    if teacher is None:
        return None
    return {
        "description": teacher.description,
        "accuracy": _accuracies_json(teacher.val, teacher.test),
        "size_bytes": teacher.costs.size_bytes,
        "latency_ms": _latency_json(teacher.costs.latency_ms),
    }


def _accuracies_json(val: Accuracy, test: Accuracy | None) -> dict[str, Any]:
    reported = _interval_json(test, "test") if test else {"test": None, "test_low": None, "test_high": None}
    return {**_interval_json(val, "val"), **reported}


def _interval_json(value: Accuracy, name: str) -> dict[str, float | None]:
    return {name: _rounded(value.mean), f"{name}_low": _rounded(value.low), f"{name}_high": _rounded(value.high)}


def _control_json(control: ControlRecord) -> dict[str, Any]:
    gain = control.gain
    return {
        **_interval_json(control.accuracy, "accuracy"),
        "gain": {"mean": _rounded(gain.mean), "low": _rounded(gain.low), "high": _rounded(gain.high)},
        "cost_ratio": _rounded(control.cost_ratio),
    }


def _latency_json(latency: Latency | None) -> dict[str, Any] | None:
    if latency is None:
        return None
    numbers = {k: _rounded(getattr(latency, k)) for k in ("p50", "p90", "low", "high")}
    return {**numbers, "unstable": latency.unstable}


def _rounded(value: float | None) -> float | None:
    """Six decimals (a millionth of a share, a nanosecond); None for NaN, which JSON does not have."""
    return round(value, 6) if value is not None and isfinite(value) else None


def _finalists_hypervolume(run: RunRecord) -> float | None:
    teacher, data = run.teacher, run.dataset
    if teacher is None or data is None or not is_valid_reference(teacher, len(data.classes)):
        return None
    points = measured_objectives((f.val.mean, f.costs) for f in run.finalists)
    return normalized_hypervolume(points, teacher, len(data.classes))


def _non_dominated_ids(finalists: Sequence[FinalistRecord], axes: Sequence[Axis]) -> frozenset[str]:
    ids, rows = [], []
    for f in finalists:
        costs = cost_values(f.costs)
        row = [-f.val.mean, *(c for axis in axes if (c := costs[axis]) is not None)]
        if len(row) == 1 + len(axes) and all(map(isfinite, row)):
            ids.append(f.id)
            rows.append(row)
    return frozenset(name for name, is_member in zip(ids, non_dominated(rows), strict=True) if is_member)


def accuracy_first(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    """Sort key: the most accurate on validation first; of equals the smaller, then the faster, then the lower id."""
    return -finalist.val.mean, finalist.costs.require_size(), _median_ms(finalist), finalist.id


def _latency_first(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    return _median_ms(finalist), -finalist.val.mean, finalist.costs.require_size(), finalist.id


def _median_ms(finalist: FinalistRecord) -> float:
    """Infinity if it was not measured: it loses every comparison."""
    return finalist.costs.latency_ms.p50 if finalist.costs.latency_ms else inf


class _MeasuredCandidate(NamedTuple):
    """A trial or finalist with known costs. `val`: mean validation accuracy, None for trials."""

    name: str
    description: str
    costs: Costs
    val: float | None = None


def _describe_closest(known: Iterable[_MeasuredCandidate], budget: Budget, most: int) -> str:
    ranked = sorted(known, key=lambda n: (_worst_ratio(n, budget), cost_values(n.costs)["size"] or inf))
    if not ranked:
        return "none, as no candidate was measured"
    return "; ".join(f"{c.name} ({c.description}): {_costs_and_accuracy(c, budget)}" for c in ranked[:most])


def _worst_ratio(candidate: _MeasuredCandidate, budget: Budget) -> float:
    """Largest factor by which a limit is missed; infinite if no known limit is missed but some cost is unknown."""
    found = [*ratios(cost_values(candidate.costs), budget).values()]
    if candidate.val is not None and budget.min_accuracy is not None:
        found.append(budget.min_accuracy / candidate.val if candidate.val > 0 else inf)
    worst = max(found, default=0.0)
    return inf if worst <= 1 and unmeasured_limits(candidate.costs, budget) else worst


def _costs_and_accuracy(candidate: _MeasuredCandidate, budget: Budget) -> str:
    text = describe_costs(candidate.costs, budget)
    if candidate.val is None or budget.min_accuracy is None:
        return text
    missing = budget.min_accuracy - candidate.val
    below = f" ({missing * 100:.3g} points below the minimum)" if missing > 0 else ""
    return f"{text}, {candidate.val:.2%} on validation{below}"
