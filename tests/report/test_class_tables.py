"""Figures by class: recalls and matrices by hand, many classes, foreign names, and runs without test figures."""

import csv
import io

from nas_kd.report.class_tables import FEWER_CLASS_ROWS, MAX_CONFUSIONS, build_class_tables, classes_csv
from nas_kd.report.content import build_content
from nas_kd.report.number_format import NBSP
from nas_kd.report.render import render_markdown, render_page
from nas_kd.report.report_context import build_context
from nas_kd.results.confusion import Confusion
from nas_kd.results.run_record import MetricRecord, RunRecord
from tests.records import accuracy, finalist, run, teacher

EVIL = '<script>alert("x")</script>|`*'
MINE = Confusion.of([0] * 8 + [1] * 2, [0] * 6 + [1] * 2 + [1, 0], 2)
PERFECT = Confusion.of([0] * 8 + [1] * 2, [0] * 8 + [1] * 2, 2)


def judged_run(classes: tuple[str, ...] = ("healthy", "ill"), mine: Confusion = MINE, **other: object) -> RunRecord:
    perfect = Confusion.of(mine.labels, mine.labels, mine.n_classes) if mine is not MINE else PERFECT
    theirs = teacher().model_copy(update={"test": accuracy(0.97), "test_score": accuracy(0.97), "confusion": perfect})
    theirs = theirs.model_copy(update={"balanced": accuracy(0.96)})
    best = finalist("abc", 0.9, 1000, 0.1, confusion=mine, balanced=accuracy(0.625))
    counts = {"train": (90, 10), "val": (8, 2), "test": (8, 2)}
    data = run().dataset
    assert data is not None
    data = data.model_copy(update={"classes": classes, "class_counts": counts, "n_val": 10, "n_test": 10})
    return run(**{"finalists": (best,), "teacher": theirs, "dataset": data, "state": "finished", **other})


def test_recall_precision_and_matrix_by_hand() -> None:
    tables = build_class_tables(build_context(judged_run()))
    assert tables is not None
    assert tables.networks == ("A", "Teacher")
    healthy, ill = tables.rows
    assert (healthy.name, healthy.samples, ill.samples) == ("healthy", 8, 2)
    assert [f.counts for f in healthy.recalls] == ["6 of 8", "8 of 8"]
    assert (healthy.recalls[0].text, healthy.recalls[0].interval) == (f"75{NBSP}%", "41\u201393")  # Wilson, 8 samples
    assert (healthy.precision.counts, ill.precision.counts) == ("6 of 7", "1 of 3")
    mine, theirs = tables.matrices
    assert [[cell.count for cell in cells] for _, cells in mine.rows] == [[6, 2], [1, 1]]
    assert [[cell.percent for cell in cells] for _, cells in mine.rows] == [[75, 25], [50, 50]]
    assert [cell.right for cell in mine.rows[0][1]] == [True, False]
    assert "2 of healthy as ill; 1 of ill as healthy" in mine.alt_text
    assert "confusions: none" in theirs.alt_text
    text = " ".join(tables.sentences)
    assert f"A, mean over 3 seeds 62.5{NBSP}% (61.5\u201363.5); teacher 96.0{NBSP}%" in text
    assert f"always naming healthy would have a test accuracy of 80.0{NBSP}%" in text


def test_many_classes_are_listed_by_recall_and_confusion() -> None:
    n = 40
    labels = [c for c in range(n) for _ in range(10)]
    given = [(c + 1) % n if i < c // 10 else c for c in range(n) for i in range(10)]
    names = tuple(f"class {c}" for c in range(n))
    tables = build_class_tables(build_context(judged_run(names, Confusion.of(labels, given, n))))
    assert tables is not None
    assert tables.matrices == ()
    assert len(tables.rows) == FEWER_CLASS_ROWS
    assert [row.name for row in tables.rows[:2]] == ["class 30", "class 31"]
    assert "classes.csv has all" in tables.rows_title
    assert len(tables.pairs) == MAX_CONFUSIONS
    assert (tables.pairs[0].label, tables.pairs[0].prediction, tables.pairs[0].texts[0]) == (
        "class 30",
        "class 31",
        "3 of 10",
    )


def test_all_classes_are_in_the_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(classes_csv(build_context(judged_run(("=1+1", "ill")))))))
    assert [row["class"] for row in rows] == ["'=1+1", "ill"]
    assert (rows[0]["n_train"], rows[1]["n_test"]) == ("90", "2")
    assert float(rows[0]["winner.recall"]) == 0.75
    assert float(rows[1]["winner.precision"]) == 1 / 3
    assert float(rows[1]["winner.f1"]) == 2 * 1 / (2 + 3)
    assert float(rows[1]["teacher.recall"]) == 1


def test_names_of_classes_are_escaped() -> None:
    content = build_content(judged_run((EVIL, "ill")))
    page, text = render_page(content), render_markdown(content)
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "By class" in page
    assert "<script>" not in text
    assert "\\<script\\>" in text


def test_runs_without_test_figures_have_no_such_part() -> None:
    before = build_context(run(finalists=(finalist("abc", 0.9, 1000, 0.1),)))
    assert build_class_tables(before) is None
    assert classes_csv(before) == ""
    assert "By class" not in render_page(build_content(before.run))


def test_a_report_names_the_score_that_decides() -> None:
    metric = MetricRecord(name="macro_f1", title="macro-F1", unit="mean", higher_is_better=True, chance=0.4)
    content = build_content(judged_run(metric=metric))
    page, text = render_page(content), render_markdown(content)
    for shown in (page, text):
        assert "Test macro-F1" in shown
        assert "chosen on validation macro-F1" in shown
        assert "validation accuracy" not in shown
    assert {plot.y_title for plot in content.front_plots} <= {"macro-F1", "validation macro-F1"}
    assert [column.title for column in content.finalist_table.columns[1:3]] == ["Test macro-F1", "Test accuracy"]
    assert content.summary.cards[0].title == "Test macro-F1"


def test_unbalanced_classes_under_accuracy_and_small_splits_are_warned_of() -> None:
    warnings = build_content(judged_run()).summary.warnings
    assert any(w.startswith("Classes are unbalanced: 'healthy' has 90.0%") for w in warnings)
    assert any(w.startswith("The validation split has 10 samples only") for w in warnings)
    budget = {"min_score": 0.895}
    warned = build_content(judged_run(config={"budget": budget})).summary.warnings
    assert any("is not shown to reach the accuracy asked for" in w for w in warned)
