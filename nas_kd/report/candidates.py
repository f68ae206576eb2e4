"""candidates.csv: a row for every trial with everything in it; and the page's table of the search's candidates."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_kd.results.records import Costs, Counted, FinalistRecord, TrialRecord
from nas_kd.report import number_format as numbers
from nas_kd.report.gains import control_of
from nas_kd.report.report_context import Subject, chain_words, cost, method_words

MOST_ROWS = 200  # of the page's table; the file has them all
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Brief:
    """A candidate in the page's long table; `order` are the values its columns are sorted by."""

    id: str
    cells: tuple[str, ...]
    order: tuple[float | str, ...]


def briefs(subject: Subject) -> tuple[Brief, ...]:
    """The search's best candidates by validation accuracy, at most `MOST_ROWS`, duplicates left out."""
    own = [t for t in subject.run.trials if t.fate != "duplicate"]
    own.sort(key=lambda t: (-(t.val_accuracy or -1.0), t.number))
    return tuple(_brief(subject, t) for t in own[:MOST_ROWS])


def _brief(subject: Subject, trial: TrialRecord) -> Brief:
    size, speed = cost(trial.costs, "size"), cost(trial.costs, "latency")
    name = f"{trial.number}" + (f" ({subject.letters[trial.id]})" if trial.id in subject.letters else "")
    value = trial.val_accuracy
    chain = chain_words(trial) if trial.chain_words else "none"
    fate = trial.fate + (f": {trial.reason}" if trial.reason else "")
    cells = (
        name,
        trial.words,
        chain,
        method_words(trial.candidate),
        str(trial.candidate["precision"]),
        numbers.percent(value) if value is not None else numbers.NONE,
        numbers.size(size),
        numbers.latency(speed),
        fate,
    )
    order = (
        trial.number,
        trial.words,
        len(trial.chain_words),
        cells[3],
        cells[4],
        value or -1.0,
        size or 0.0,
        speed or 0.0,
        fate,
    )
    return Brief(trial.id, cells, order)


def candidates_csv(subject: Subject) -> str:
    """One row a trial, in order; empty where there is nothing; nested values as JSON."""
    finalists = {f.id: f for f in subject.run.finalists}
    rows = [_row(subject, trial, finalists.get(trial.id)) for trial in subject.run.trials]
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["trial", "id", "fate"]
    file = io.StringIO()
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    return file.getvalue()


def _row(subject: Subject, trial: TrialRecord, finalist: FinalistRecord | None) -> dict[str, Any]:
    candidate = trial.candidate
    return {
        "trial": trial.number,
        "id": trial.id,
        "letter": subject.letters.get(trial.id),
        "fate": trial.fate,
        "reason": trial.reason,
        "duplicate_of": trial.duplicate_of,
        "within_budget": trial.within_budget,
        "words": trial.words,
        "chain_words": " > ".join(trial.chain_words),
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
        **(_finalist(subject, finalist) if finalist else {}),
    }


def _costs(costs: Counted | None, prefix: str = "") -> dict[str, Any]:
    if costs is None:
        return {}
    plain = {k: v for k, v in dict(costs).items() if k != "latency_ms"}
    measured = dict((costs.latency_ms if isinstance(costs, Costs) else None) or ())
    timing = {f"latency_{k}" + ("" if k == "unstable" else "_ms"): v for k, v in measured.items()}
    return {f"{prefix}{k}": v for k, v in {**plain, **timing}.items()}


def _finalist(subject: Subject, finalist: FinalistRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"final.winner": subject.winner is not None and subject.winner.id == finalist.id}
    for name, value in (("val", finalist.val), ("test", finalist.test)):
        row |= {f"final.{name}.{k}": v for k, v in dict(value).items()}
    row |= {f"final.on_front.{k}": v for k, v in subject.fronts.get(finalist.id, {}).items()}
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
