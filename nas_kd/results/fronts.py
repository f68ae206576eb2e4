"""Chooses a run's Pareto fronts and its winner, on the validation score, and writes them as the content of front.json.

The score is accuracy unless the config chooses another (`data.score`). Test figures are reported beside it and never
used to choose.
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


def reaches_min_score(val_score: Accuracy, budget: Budget) -> bool:
    """Return whether a mean score on validation reaches the budget's `min_score`; true if there is none."""
    return budget.least_score is None or val_score.mean >= budget.least_score


def describe_uncertain_minimum(val_score: Accuracy, budget: Budget) -> str:
    """Say that the validation samples cannot tell whether the `min_score` is reached; empty where they can.

    Args:
        val_score: the score on validation.
        budget: with or without a `min_score`.
    """
    least = budget.least_score
    if least is None or not val_score.low < least <= val_score.high:
        return ""
    return (
        f"its 95 % interval, {val_score.low * 100:.1f} to {val_score.high * 100:.1f} % on {val_score.samples:,} "
        f"validation samples, has the minimum of {least * 100:.6g} % inside: more samples or seeds could decide "
        "otherwise"
    )


def winner(finalists: Iterable[FinalistRecord], budget: Budget) -> FinalistRecord | None:
    """Choose the finalist to deploy, on the validation score.

    Without a `min_score`, the best finalist within the budget wins; ties go to the smaller, then the faster, then the
    lower id. With a `min_score`, the fastest of those that reach it wins; ties go to the better, then the smaller, then
    the lower id.

    Args:
        finalists: the fully trained candidates, in any order.
        budget: limits on costs, and the least score.

    Returns:
        The winner, or None if no finalist meets the budget.
    """
    allowed = (f for f in finalists if within_budget(f.costs, budget) and reaches_min_score(f.val_score, budget))
    order = best_score_first if budget.least_score is None else _latency_first
    return min(allowed, key=order, default=None)


def front_members(finalists: Sequence[FinalistRecord]) -> dict[str, frozenset[str]]:
    """Find the members of the score-size, score-latency and joint Pareto fronts, whatever the budget.

    Args:
        finalists: compared by mean score on validation; one without a measured latency is on the size front at most.

    Returns:
        Candidate ids of each front, by its name: "size", "latency", "joint".
    """
    return {name: _non_dominated_ids(finalists, axes) for name, axes in FRONT_AXES.items()}


def overlapping_finalists(finalists: Sequence[FinalistRecord]) -> dict[str, tuple[str, ...]]:
    """For each finalist, list the members of the same front whose 95 % validation intervals overlap its own.

    Returns:
        Sorted ids of the others, by candidate id; they cannot be distinguished from it in their score.
    """
    fronts = front_members(finalists).values()

    def overlap(a: FinalistRecord, b: FinalistRecord) -> bool:
        same_front = any(a.id in front and b.id in front for front in fronts)
        return (
            a.id != b.id and same_front and a.val_score.low <= b.val_score.high and b.val_score.low <= a.val_score.high
        )

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
    """Describe the finalists that come closest to the budget, with their score if a `min_score` is set.

    Args:
        finalists: the fully trained candidates.
        budget: the limits that they miss.
        most: how many to describe.
    """
    known = {f.id: _MeasuredCandidate(f"trial {f.trial}", f.description, f.costs, f.val_score) for f in finalists}
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
        "teacher": _teacher_json(run),
        "winner": best.id if best else None,
        "hypervolume": _rounded(_finalists_hypervolume(run)),
        "candidates": _candidates_json(run, budget),
        "units": UNITS,
        **_metric_json(run),
    }


def _metric_json(run: RunRecord) -> dict[str, Any]:
    """The score that decides, where it is not accuracy."""
    if run.metric is None or run.decides_on_accuracy:
        return {}
    facts = run.metric.model_dump(include={"name", "unit", "higher_is_better"})
    units = {
        **UNITS,
        "score": run.metric.unit,
        "hypervolume": UNITS["hypervolume"].replace("accuracy", run.metric.title),
    }
    return {"metric": {**facts, "chance": _rounded(run.metric.chance)}, "units": units}


def _budget_json(budget: Budget) -> dict[str, float | None]:
    """Latency and size always, other limits only if they are set."""
    accuracy = budget.model_dump(include={"min_accuracy", "min_score"}, exclude_none=True)
    limits = {limit.key: most for limit, most in active_limits(budget)}
    return {"max_latency_ms": None, "max_size_bytes": None, **limits, **accuracy}


def _candidates_json(run: RunRecord, budget: Budget) -> list[dict[str, Any]]:
    finalists = run.finalists
    reaches = "reaches_score" if budget.min_accuracy is None else "reaches_accuracy"
    fronts, overlapping = front_members(finalists), overlapping_finalists(finalists)
    ordered = sorted(finalists, key=best_score_first)
    return [
        {
            "id": f.id,
            "trial": f.trial,
            **f.candidate.to_json(),
            "description": f.description,
            "seeds": [s.seed for s in f.seeds],
            "deployed_seed": f.deployed_seed,
            "accuracy": _accuracies_json(f.val, f.test),
            **_scores_json(run, f),
            "size_bytes": f.costs.size_bytes,
            "parameters": f.costs.parameters,
            "macs": f.costs.macs,
            "memory_bytes": f.costs.memory_bytes,
            "latency_ms": _latency_json(f.costs.latency_ms),
            "on_front": {name: f.id in front for name, front in fronts.items()},
            "ties": list(overlapping[f.id]),
            "within_budget": within_budget(f.costs, budget),
            **({} if budget.least_score is None else {reaches: reaches_min_score(f.val_score, budget)}),
            "controls": {c.kind: _control_json(c, run) for c in f.controls},
        }
        for f in ordered
    ]


def _teacher_json(run: RunRecord) -> dict[str, Any] | None:
    teacher = run.teacher
    if teacher is None:
        return None
    return {
        "description": teacher.description,
        "accuracy": _accuracies_json(teacher.val, teacher.test),
        **_scores_json(run, teacher),
        "size_bytes": teacher.costs.size_bytes,
        "latency_ms": _latency_json(teacher.costs.latency_ms),
    }


def _scores_json(run: RunRecord, network: FinalistRecord | TeacherRecord) -> dict[str, Any]:
    """The score that decides, where it is not accuracy, and balanced accuracy on test, where it is known."""
    scores = {} if run.decides_on_accuracy else {"score": _accuracies_json(network.val_score, network.test_score)}
    balanced = {} if network.balanced is None else {"balanced_accuracy": _interval_json(network.balanced, "test")}
    return {**scores, **balanced}


def _accuracies_json(val: Accuracy, test: Accuracy | None) -> dict[str, Any]:
    reported = _interval_json(test, "test") if test else {"test": None, "test_low": None, "test_high": None}
    return {**_interval_json(val, "val"), **reported}


def _interval_json(value: Accuracy, name: str) -> dict[str, float | None]:
    return {name: _rounded(value.mean), f"{name}_low": _rounded(value.low), f"{name}_high": _rounded(value.high)}


def _control_json(control: ControlRecord, run: RunRecord) -> dict[str, Any]:
    score = {} if run.decides_on_accuracy else _interval_json(control.score, "score")
    return {
        **_interval_json(control.accuracy, "accuracy"),
        "gain": _gain_json(control.gain),
        **score,
        **({"score_gain": _gain_json(control.score_gain)} if score else {}),
        "cost_ratio": _rounded(control.cost_ratio),
    }


def _gain_json(gain: Accuracy) -> dict[str, float | None]:
    return {"mean": _rounded(gain.mean), "low": _rounded(gain.low), "high": _rounded(gain.high)}


def _latency_json(latency: Latency | None) -> dict[str, Any] | None:
    if latency is None:
        return None
    numbers = {k: _rounded(getattr(latency, k)) for k in ("p50", "p90", "low", "high")}
    return {**numbers, "unstable": latency.unstable}


def _rounded(value: float | None) -> float | None:
    """Six decimals (a millionth of a share, a nanosecond); None for NaN, which JSON does not have."""
    return round(value, 6) if value is not None and isfinite(value) else None


def _finalists_hypervolume(run: RunRecord) -> float | None:
    teacher = run.teacher
    if teacher is None or run.dataset is None or not is_valid_reference(teacher, run.chance):
        return None
    points = measured_objectives((f.val_score.mean, f.costs) for f in run.finalists)
    return normalized_hypervolume(points, teacher, run.chance)


def _non_dominated_ids(finalists: Sequence[FinalistRecord], axes: Sequence[Axis]) -> frozenset[str]:
    ids, rows = [], []
    for f in finalists:
        costs = cost_values(f.costs)
        row = [-f.val_score.mean, *(c for axis in axes if (c := costs[axis]) is not None)]
        if len(row) == 1 + len(axes) and all(map(isfinite, row)):
            ids.append(f.id)
            rows.append(row)
    return frozenset(name for name, is_member in zip(ids, non_dominated(rows), strict=True) if is_member)


def best_score_first(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    """Sort key: the best score on validation first; of equals the smaller, then the faster, then the lower id."""
    return -finalist.val_score.mean, finalist.costs.require_size(), _median_ms(finalist), finalist.id


def _latency_first(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    return _median_ms(finalist), -finalist.val_score.mean, finalist.costs.require_size(), finalist.id


def _median_ms(finalist: FinalistRecord) -> float:
    """Infinity if it was not measured: it loses every comparison."""
    return finalist.costs.latency_ms.p50 if finalist.costs.latency_ms else inf


class _MeasuredCandidate(NamedTuple):
    """A trial or finalist with known costs. `val_score`: on validation, None for trials."""

    name: str
    description: str
    costs: Costs
    val_score: Accuracy | None = None


def _describe_closest(known: Iterable[_MeasuredCandidate], budget: Budget, most: int) -> str:
    ranked = sorted(known, key=lambda n: (_worst_ratio(n, budget), cost_values(n.costs)["size"] or inf))
    if not ranked:
        return "none, as no candidate was measured"
    return "; ".join(f"{c.name} ({c.description}): {_costs_and_score(c, budget)}" for c in ranked[:most])


def _worst_ratio(candidate: _MeasuredCandidate, budget: Budget) -> float:
    """Largest factor by which a limit is missed; infinite if no known limit is missed but some cost is unknown."""
    found = [*ratios(cost_values(candidate.costs), budget).values()]
    if candidate.val_score is not None and budget.least_score is not None:
        found.append(budget.least_score / candidate.val_score.mean if candidate.val_score.mean > 0 else inf)
    worst = max(found, default=0.0)
    return inf if worst <= 1 and unmeasured_limits(candidate.costs, budget) else worst


def _costs_and_score(candidate: _MeasuredCandidate, budget: Budget) -> str:
    text, val = describe_costs(candidate.costs, budget), candidate.val_score
    if val is None or budget.least_score is None:
        return text
    missing = budget.least_score - val.mean
    inside = f", within its 95 % interval of {val.low:.1%} to {val.high:.1%}" if val.high >= budget.least_score else ""
    below = f" ({missing * 100:.3g} points below the minimum{inside})" if missing > 0 else ""
    return f"{text}, {val.mean:.2%} on validation{below}"
