"""Label smoothing in a report: a column, a table with a plain verdict, and a point of its own, where it was trained."""

from pathlib import Path

import pytest

from nas_kd.report import write_report
from nas_kd.report.content import build_content
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord
from nas_kd.results.run_record import RunRecord

from .synthetic import synthetic_run

TITLE = "Distilled, against the same student with label smoothing"


def smoothed(finalist: FinalistRecord, low: float, high: float) -> FinalistRecord:
    """The finalist with one more control, over which it gains this much."""
    first, *others = finalist.controls
    gain = Accuracy(mean=(low + high) / 2, low=low, high=high, samples=360, seeds=3)
    control = ControlRecord.model_validate({**first.model_dump(), "kind": "label_smoothing"} | dict.fromkeys(
        ("gain", "score_gain"), gain
    ))  # fmt: skip
    return finalist.model_copy(update={"controls": (first, control, *others)})


def run_of(*gains: tuple[float, float]) -> RunRecord:
    run = synthetic_run(30, finalists=len(gains))
    members = tuple(smoothed(f, *gain) for f, gain in zip(run.finalists, gains, strict=True))
    return run.model_copy(update={"finalists": members})


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([(0.01, 0.03)], "Distillation beat label smoothing, which needs no teacher (+2.0 (+1.0 to +3.0) points). "),
        ([(-0.01, 0.03)], "Distillation is not shown to beat label smoothing, which needs no teacher ("),
        ([(-0.03, -0.01)], "Label smoothing, which needs no teacher, beat distillation ("),
        ([(0.01, 0.02), (0.02, 0.03)], "Distillation beat label smoothing, which needs no teacher. "),
        ([(0.01, 0.02), (-0.02, 0.03)], "Distillation beat label smoothing, which needs no teacher, for 1 of 2 fin"),
        ([(-0.01, 0.02), (-0.02, 0.03)], "Distillation is not shown to beat label smoothing, which needs no teacher. "),
    ],
)
def test_the_verdict_is_plain(gains: list[tuple[float, float]], verdict: str) -> None:
    content = build_content(run_of(*gains))
    (table,) = (t for t in content.gain_tables if t.title == TITLE)
    assert table.summary.replace("\u2212", "-").startswith(verdict.rstrip("(")), table.summary


def test_it_is_shown_where_it_was_trained_and_nowhere_else(tmp_path: Path) -> None:
    for run, there in ((run_of((0.01, 0.02), (-0.01, 0.02)), True), (synthetic_run(30, finalists=2), False)):
        content = build_content(run)
        columns = [column.title for column in content.finalist_table.columns]
        assert ("Gain over label smoothing" in columns) == there
        assert all(len(row.cells) == len(columns) for row in content.finalist_table.rows)
        assert (TITLE in [t.title for t in content.gain_tables]) == there
        assert ("label_smoothing" in dict(content.legend)) == there
        assert any("label smoothing instead of distillation" in p.title for p in content.plot_points) == there
        folder = tmp_path / str(there)
        write_report(run, folder)
        assert ("final.label_smoothing.gain.low" in (folder / "candidates.csv").read_text()) == there
        assert ("Gain over label smoothing" in (folder / "report.md").read_text()) == there
