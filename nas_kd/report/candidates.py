"""candidates.csv: a row for every trial with everything in it; and the page's table of the search's candidates."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_kd.report import number_format as numbers
from nas_kd.report.gains import control_of
from nas_kd.report.report_context import ReportContext, assistant_descriptions, cost, method_words
from nas_kd.results.records import Costs, FinalistRecord, TrialRecord

MOST_ROWS = 200  # of the page's table; the file has them all
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class CandidateRow:
    """A candidate in the page's long table; `order` are the values its columns are sorted by."""

    id: str
    cells: tuple[str, ...]
    order: tuple[float | str, ...]


def candidate_rows(context: ReportContext) -> tuple[CandidateRow, ...]:
    """The search's best candidates by validation accuracy, at most `MOST_ROWS`, duplicates left out."""
    own = [t for t in context.run.trials if t.status != "duplicate"]
    own.sort(key=lambda t: (-(t.val_accuracy or -1.0), t.number))
    return tuple(_brief(context, t) for t in own[:MOST_ROWS])


def _brief(context: ReportContext, trial: TrialRecord) -> CandidateRow:
    size, speed = cost(trial.costs, "size"), cost(trial.costs, "latency")
    name = f"{trial.number}" + (f" ({context.letters[trial.id]})" if trial.id in context.letters else "")
    value = trial.val_accuracy
    chain = assistant_descriptions(trial) if trial.assistant_descriptions else "none"
    status = trial.status + (f": {trial.reason}" if trial.reason else "")
    cells = (
        name,
        trial.description,
        chain,
        method_words(trial.candidate),
        str(trial.candidate["precision"]),
        numbers.percent(value) if value is not None else numbers.NONE,
        numbers.size(size),
        numbers.latency(speed),
        status,
    )
    order = (
        trial.number,
        trial.description,
        len(trial.assistant_descriptions),
        cells[3],
        cells[4],
        value or -1.0,
        size or 0.0,
        speed or 0.0,
        status,
    )
    return CandidateRow(trial.id, cells, order)


def candidates_csv(context: ReportContext) -> str:
    """One row a trial, in order; empty where there is nothing; nested values as JSON."""
    finalists = {f.id: f for f in context.run.finalists}
    rows = [_row(context, trial, finalists.get(trial.id)) for trial in context.run.trials]
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["trial", "id", "status"]
    file = io.StringIO()
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    return file.getvalue()


def _row(context: ReportContext, trial: TrialRecord, finalist: FinalistRecord | None) -> dict[str, Any]:
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
        "assistant_descriptions": " > ".join(trial.assistant_descriptions),
        **{f"student.{k}": v for k, v in candidate["student"].items()},
        "assistants": candidate["assistants"],
        "policy": candidate.get("policy", "sequential"),
        "method": candidate["method"],
        **{f"params.{k}": v for k, v in candidate["params"].items()},
        "precision": candidate["precision"],
        "notes": "; ".join(trial.notes),
        **_costs(trial.costs),
        **({f"forecast.{k}": v for k, v in dict(trial.forecast).items()} if trial.forecast else {}),
        "val_accuracy": trial.val_accuracy,
        "inherited_accuracy": trial.inherited_accuracy,
        "rungs": [r.model_dump() for r in trial.rungs],
        **{f"seconds.{k}": v for k, v in trial.seconds.items()},
        "elapsed_s": trial.elapsed_s,
        "attempts": trial.attempts,
        **(_finalist(context, finalist) if finalist else {}),
    }


def _costs(costs: Costs | None, prefix: str = "") -> dict[str, Any]:
    if costs is None:
        return {}
    plain = {k: v for k, v in dict(costs).items() if k != "latency_ms"}
    measured = costs.latency_ms.figures() if costs.latency_ms else {}
    timing = {f"latency_{k}" + ("" if k == "unstable" else "_ms"): v for k, v in measured.items()}
    return {f"{prefix}{k}": v for k, v in {**plain, **timing}.items()}


def _finalist(context: ReportContext, finalist: FinalistRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"final.winner": context.winner is not None and context.winner.id == finalist.id}
    for name, value in (("val", finalist.val), ("test", finalist.test)):
        row |= {f"final.{name}.{k}": v for k, v in dict(value).items()}
    row |= {f"final.on_front.{k}": v for k, v in context.fronts.get(finalist.id, {}).items()}
    row |= _costs(finalist.costs, "final.")
    row |= {"final.deployed_seed": finalist.deployed_seed, "final.training_s": finalist.training_s}
    row["final.seeds"] = [s.model_dump() for s in finalist.seeds]
    for kind in ("no_distillation", "no_assistants"):
        control = control_of(finalist, "no_distillation" if kind == "no_distillation" else "no_assistants")
        if control is not None:
            row[f"final.{kind}.accuracy"] = control.accuracy.mean
            row |= {f"final.{kind}.gain.{k}": v for k, v in dict(control.gain).items() if k in ("mean", "low", "high")}
            row[f"final.{kind}.cost_ratio"] = control.cost_ratio
    return row


def _cell(value: Any) -> str | int | float | bool:
    """Text that a spreadsheet would take for a formula is given an apostrophe, as spreadsheets do themselves."""
    if value is None:
        return ""
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return value if isinstance(value, bool | int | float) else str(value)
