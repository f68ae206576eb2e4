"""Writes candidates.csv, a row for each trial with all that was recorded of it, and baselines.csv likewise."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from nas_kd.report.distillation_gains import CONTROL_TITLES, control_of
from nas_kd.report.report_context import ReportContext
from nas_kd.results.compression_record import BaselineRecord
from nas_kd.results.finalist_record import Accuracy, FinalistRecord, SeedRecord
from nas_kd.results.trial_record import Costs, RungRecord, TrialRecord

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would take such text for a formula


def candidates_csv(context: ReportContext) -> str:
    """Write one row per trial in order of number, nested values as JSON; unknown values are empty."""
    finalists = {f.id: f for f in context.run.finalists}
    rows = [_trial_columns(context, trial, finalists.get(trial.id)) for trial in context.run.trials]
    return _csv(rows, ["trial", "id", "status"])


def baselines_csv(context: ReportContext) -> str:
    """Write one row per baseline, nested values as JSON; empty without baselines."""
    rows = [_baseline_columns(context, baseline) for baseline in context.run.baselines]
    return _csv(rows, []) if rows else ""


def _csv(rows: Sequence[Mapping[str, Any]], least: list[str]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row)) or least
    file = io.StringIO()
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    return file.getvalue()


def _trial_columns(context: ReportContext, trial: TrialRecord, finalist: FinalistRecord | None) -> dict[str, Any]:
    candidate = trial.candidate
    return {
        "trial": trial.number,
        "id": trial.id,
        "letter": context.letters.get(trial.id),
        "status": trial.status,
        "reason": trial.reason,
        "duplicate_of": trial.duplicate_of,
        "within_budget": trial.within_budget,
        "description": trial.description,
        "chain": trial.chain_description,
        **{f"student.{k}": v for k, v in candidate.student.to_json().items()},
        "assistants": [assistant.to_json() for assistant in candidate.assistants],
        "policy": candidate.policy,
        "method": candidate.recipe.method,
        **{f"params.{k}": v for k, v in candidate.recipe.params.items()},
        **{f"training.{k}": v for k, v in candidate.recipe.training.items()},
        **{f"teaching.{k}": v for k, v in candidate.recipe.teaching.to_json().items()},
        "precision": candidate.precision,
        "notes": "; ".join(trial.notes),
        **_cost_columns(trial.costs),
        **({f"forecast.{k}": v for k, v in dict(trial.forecast).items()} if trial.forecast else {}),
        f"val_{context.run.headline}": trial.val_accuracy,
        **_score_column(context, "val_", trial.val_score),
        f"inherited_{context.score_name}": trial.inherited_accuracy,
        "rungs": [_without_copies(context, r) for r in trial.rungs],
        **{f"seconds.{k}": v for k, v in trial.seconds.items()},
        "elapsed_s": trial.elapsed_s,
        "attempts": trial.attempts,
        **(_finalist_columns(context, finalist) if finalist else {}),
    }


def _cost_columns(costs: Costs | None, prefix: str = "") -> dict[str, Any]:
    if costs is None:
        return {}
    plain = {k: v for k, v in dict(costs).items() if k != "latency_ms"}
    measured = costs.latency_ms.figures() if costs.latency_ms else {}
    timing = {f"latency_{k}" + ("" if k == "unstable" else "_ms"): v for k, v in measured.items()}
    return {f"{prefix}{k}": v for k, v in {**plain, **timing}.items()}


def _finalist_columns(context: ReportContext, finalist: FinalistRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"final.winner": context.is_winner(finalist)} | _judged_columns(context, finalist, "final.")
    row |= {f"final.on_front.{k}": v for k, v in context.front_membership.get(finalist.id, {}).items()}
    row |= _cost_columns(finalist.costs, "final.")
    row |= {"final.deployed_seed": finalist.deployed_seed, "final.training_s": finalist.training_s}
    row["final.seeds"] = [_without_copies(context, s) for s in finalist.seeds]
    for kind in CONTROL_TITLES:
        control = control_of(finalist, kind)
        if control is not None:
            row[f"final.{kind}.{context.run.headline}"] = control.accuracy.mean
            row |= {f"final.{kind}.gain.{k}": v for k, v in dict(control.gain).items() if k in ("mean", "low", "high")}
            row |= _score_column(context, f"final.{kind}.", control.score.mean)
            for k, v in _interval(control.score_gain).items():
                row |= _score_column(context, f"final.{kind}.gain.", v, f".{k}")
            row[f"final.{kind}.cost_ratio"] = control.cost_ratio
    return row | _compression_columns(context, finalist.id, "final.")


def _baseline_columns(context: ReportContext, baseline: BaselineRecord) -> dict[str, Any]:
    return {
        "id": baseline.id,
        "within_budget": baseline.within_budget,
        "description": baseline.description,
        "precision": baseline.precision,
        "notes": "; ".join(baseline.notes),
        "techniques": list(baseline.techniques),
        **_judged_columns(context, baseline),
        **_cost_columns(baseline.costs),
        **_compression_columns(context, baseline.id),
        "seeds": [_without_copies(context, s) for s in baseline.seeds],
    }


def _judged_columns(
    context: ReportContext, network: FinalistRecord | BaselineRecord, prefix: str = ""
) -> dict[str, Any]:
    """Scores on validation and test."""
    row: dict[str, Any] = {}
    for name, value in (("val", network.val), ("test", network.test)):
        row |= {f"{prefix}{name}.{k}": v for k, v in dict(value).items()}
    if network.balanced is not None:
        row |= {f"{prefix}test.balanced_accuracy.{k}": v for k, v in _interval(network.balanced).items()}
    for split, score in (("val", network.val_score), ("test", network.test_score)):
        for k, v in _interval(score).items():
            row |= _score_column(context, f"{prefix}{split}.", v, f".{k}")
    return row


def _compression_columns(context: ReportContext, name: str, prefix: str = "") -> dict[str, Any]:
    scored = context.run.compression.score_of(name) if context.run.compression else None
    if scored is None:
        return {}
    figures = {"retention": scored.retention, "compression_score": scored.score}
    return {f"{prefix}{figure_name}.{k}": v for figure_name, figure in figures.items() for k, v in dict(figure).items()}


def _score_column(context: ReportContext, before: str, value: float | None, after: str = "") -> dict[str, Any]:
    """A column of the score that decides, named after it; none where that is the task's own, which has one."""
    return {} if context.run.decides_on_headline else {f"{before}{context.score_name}{after}": value}


def _without_copies(context: ReportContext, record: RungRecord | SeedRecord) -> dict[str, Any]:
    """All of a record; its scores where they are not the task's own, which it has."""
    return record.model_dump(exclude=set(record.scored) if context.run.decides_on_headline else None)


def _interval(value: Accuracy) -> dict[str, float]:
    return {"mean": value.mean, "low": value.low, "high": value.high}


def text_cell(text: str) -> str:
    """Text for a CSV file: what looks like a formula gets an apostrophe, as in spreadsheets."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _cell(value: Any) -> str | int | float | bool:
    """Convert a value for the CSV writer; text that looks like a formula gets an apostrophe, as in spreadsheets."""
    if value is None:
        return ""
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str):
        return text_cell(value)
    return value if isinstance(value, bool | int | float) else str(value)
