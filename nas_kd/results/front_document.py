"""Writes a run's fronts, winner, finalists and teacher as the content of front.json."""

from math import isfinite
from typing import Any

from nas_kd.config.options import Budget
from nas_kd.results.compression_document import compression_json, score_json, teacher_score_json
from nas_kd.results.compression_record import BaselineRecord
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord
from nas_kd.results.fronts import best_score_first, front_members, overlapping_finalists, reaches_min_score, winner
from nas_kd.results.hypervolume import is_valid_reference, measured_objectives, normalized_hypervolume
from nas_kd.results.latency import Latency
from nas_kd.results.limits import active_limits, within_budget
from nas_kd.results.run_record import RunRecord, TeacherRecord

FIRST = "accuracy"  # the score of classifiers
UNITS = {
    FIRST: "share of samples, 0..1; intervals are 95 %",
    "size_bytes": "bytes of the ONNX file",
    "latency_ms": "milliseconds per call; low and high: 95 % interval of the median",
    "compression_score": "doublings of the teacher's compression, times the retained score; see compression.formulas",
    "hypervolume": "of the finalists: retained validation accuracy x log10 of times smaller x log10 of times faster",
}


def front_document(run: RunRecord) -> dict[str, Any]:
    """Build the content of `front.json`, at any stage of a run.

    Args:
        run: finished or not; without a measured teacher, `hypervolume` is null.

    Returns:
        A JSON-able object: fronts, winner, candidates, teacher and units. Of classifiers it is schema 1, which has
        `accuracy` everywhere, and `score` beside it where another score decides. Of other tasks it is schema 2, which
        has `score`, and beside it the task's own under its name where another one decides.
    """
    budget = Budget.model_validate(run.config.get("budget") or {})
    best = winner(run.finalists, budget)
    return {
        "schema": 1 if run.headline == FIRST else 2,
        "run": run.name,
        "state": run.state,
        "dataset": run.dataset.name if run.dataset else None,
        "device": run.device.name if run.device else None,
        "budget": _budget_json(budget),
        "teacher": _teacher_json(run),
        "winner": best.id if best else None,
        "hypervolume": _rounded(_finalists_hypervolume(run)),
        "candidates": _candidates_json(run, budget),
        "baselines": [_baseline_json(run, baseline, budget) for baseline in run.baselines],
        "compression": compression_json(run),
        "units": UNITS,
        **_metric_json(run),
    }


def _metric_json(run: RunRecord) -> dict[str, Any]:
    """The score that decides, where it is not accuracy."""
    if run.metric is None or run.decides_on_accuracy:
        return {}
    facts = run.metric.model_dump(include={"name", "unit", "higher_is_better"})
    units = {
        **{name: unit for name, unit in UNITS.items() if name != FIRST or run.headline == FIRST},
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
            **_first_json(run, f),
            **_scores_json(run, f),
            "compression_score": score_json(run, f.id),
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


def _baseline_json(run: RunRecord, baseline: BaselineRecord, budget: Budget) -> dict[str, Any]:
    return {
        "id": baseline.id,
        "techniques": list(baseline.techniques),
        "description": baseline.description,
        "precision": baseline.precision,
        "seeds": [s.seed for s in baseline.seeds],
        "deployed_seed": baseline.deployed_seed,
        **_first_json(run, baseline),
        **_scores_json(run, baseline),
        "compression_score": score_json(run, baseline.id),
        "size_bytes": baseline.costs.size_bytes,
        "latency_ms": _latency_json(baseline.costs.latency_ms),
        "within_budget": within_budget(baseline.costs, budget),
        "notes": list(baseline.notes),
    }


def _teacher_json(run: RunRecord) -> dict[str, Any] | None:
    teacher = run.teacher
    if teacher is None:
        return None
    return {
        "description": teacher.description,
        **_first_json(run, teacher),
        **({"label_set": "other"} if teacher.knows_other_classes else {}),
        **_scores_json(run, teacher),
        "compression_score": teacher_score_json(run),
        "size_bytes": teacher.costs.size_bytes,
        "latency_ms": _latency_json(teacher.costs.latency_ms),
    }


def _first_key(run: RunRecord) -> str:
    """Where the task's own score stands: under its name, unless it decides and is not accuracy."""
    return run.headline if run.headline == FIRST or not run.decides_on_headline else "score"


def _first_json(run: RunRecord, network: FinalistRecord | TeacherRecord | BaselineRecord) -> dict[str, Any]:
    return {_first_key(run): _accuracies_json(network.val, network.test)}


def _scores_json(run: RunRecord, network: FinalistRecord | TeacherRecord | BaselineRecord) -> dict[str, Any]:
    """The score that decides, where it is not the task's own, and what else is known on test."""
    scores = {} if run.decides_on_headline else {"score": _accuracies_json(network.val_score, network.test_score)}
    balanced = {} if network.balanced is None else {"balanced_accuracy": _interval_json(network.balanced, "test")}
    further = {name: _interval_json(value, "test") for name, value in network.further.items()}
    return {**scores, **balanced, **further}


def _accuracies_json(val: Accuracy | None, test: Accuracy | None) -> dict[str, Any]:
    return {**_interval_json(val, "val"), **_interval_json(test, "test")}


def _interval_json(value: Accuracy | None, name: str) -> dict[str, float | None]:
    if value is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: _rounded(value.mean), f"{name}_low": _rounded(value.low), f"{name}_high": _rounded(value.high)}


def _control_json(control: ControlRecord, run: RunRecord) -> dict[str, Any]:
    score = {} if run.decides_on_headline else _interval_json(control.score, "score")
    return {
        **_interval_json(control.accuracy, _first_key(run)),
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
