"""Every limit of the budget is shown: in headline, cards, table, plots, misses and the export command."""

from typing import Any

from nas_kd.report.content import ReportContent, build_content
from nas_kd.report.number_format import MISSING, NBSP
from nas_kd.report.render import render_markdown, render_page
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import Costs
from tests.records import costs, finalist, run, trial


def measured(name: str, val: float, size: int, ms: float, **more: int) -> Any:
    return finalist(name, val, size, ms, costs=costs(size, ms).model_copy(update=more))


def report(**budget: float) -> ReportContent:
    members = (
        measured("fast", 0.85, 50_000, 0.1, memory_bytes=1_500_000, macs=400_000),
        measured("good", 0.90, 90_000, 0.4, memory_bytes=1_900_000, macs=900_000),
    )
    limits = {"max_latency_ms": 0.5, "max_size_kb": 100, **budget}
    return build_content(run(finalists=members, config={"budget": limits}))


def both_texts(content: ReportContent) -> tuple[str, str]:
    return render_page(content), render_markdown(content).replace("\\", "")


ALL = {"max_memory_kb": 2000, "max_macs": 1_000_000, "min_accuracy": 0.85}


def test_headline_names_every_limit() -> None:
    content = report(**ALL)
    limits = f"at most 500{NBSP}µs, 100{NBSP}kB, 2{NBSP}MB of memory and 1,000,000{NBSP}multiply-adds"
    assert f"For {limits}, with at least 85{NBSP}% on validation, deploy A (fast)" in content.summary.headline
    only = build_content(run(config={"budget": {"min_accuracy": 0.5}}, state="unreachable", teacher=None))
    assert f"any size and latency, with at least 50{NBSP}% on validation" in only.summary.headline


def test_cards_and_table_show_other_costs_if_they_are_limited() -> None:
    content = report(**ALL)
    cards = {card.title: card for card in content.summary.cards}
    assert cards["Peak memory of a session"].value == f"1.50{NBSP}MB of memory"
    assert cards["Multiply-adds per sample"].budget_share_text == f"40{NBSP}% of the budget"
    assert f"budget: at least 85{NBSP}% on validation" in cards["Test accuracy"].comparison
    for text in both_texts(content):
        assert f"900,000{NBSP}multiply-adds" in text
        assert f"1.90{NBSP}MB of memory" in text
    plain = report()
    assert "Peak memory of a session" not in {card.title for card in plain.summary.cards}
    assert all("multiply-adds" not in cell.note for row in plain.finalist_table.rows for cell in row.cells)


def test_export_command_asks_for_another_size_within_the_other_limits() -> None:
    command = report(max_memory_kb=2000, max_macs=1_000_000).summary.export_command
    assert command is not None
    for flag in ("--max-memory-kb 2000", "--max-macs 1000000", "--max-latency-ms 0.5"):
        assert flag in command
    assert "--max-size-kb 50" in command


def test_no_export_command_where_no_smaller_finalist_meets_the_other_limits() -> None:
    content = report(**ALL | {"min_accuracy": 0.88})
    assert content.summary.export_command is None
    assert all("nas-kd export" not in text for text in both_texts(content))


def test_export_command_names_a_size_that_a_smaller_finalist_keeps() -> None:
    def flags(small: int, large: int, **budget: float) -> str | None:
        members = (measured("small", 0.85, small, 0.1), measured("large", 0.90, large, 0.4))
        command = build_content(run(finalists=members, config={"budget": budget})).summary.export_command
        return None if command is None else command.rpartition("student.onnx ")[2]

    assert flags(40_123, 90_000) == "--max-size-kb 41"
    assert flags(40_123, 40_500, max_size_kb=42) == "--max-size-kb 40.123"  # 41 would not leave the winner out
    assert flags(95_000, 90_000) is None
    assert flags(950, 3_000) == "--max-size-kb 0.95"


def test_minimum_accuracy_is_a_line_in_both_plots() -> None:
    content = report(min_accuracy=0.85)
    assert {plot.min_score for plot in content.front_plots} == {0.85}
    assert "at least 85" in render_page(content)
    assert {plot.min_score for plot in report().front_plots} == {None}


def test_misses_name_accuracy_and_every_exceeded_limit() -> None:
    fast = measured("fast", 0.85, 50_000, 0.1, macs=400_000)
    good = measured("good", 0.90, 90_000, 0.4, macs=900_000).model_copy(update={"within_budget": False})
    content = build_content(run(finalists=(fast, good), config={"budget": {"max_macs": 600_000, "min_accuracy": 0.95}}))
    assert content.summary.headline.startswith("Nothing met the budget")
    first, second = content.summary.closest
    assert (first.id, first.excess) == ("fast", "accuracy 10 points too low")
    assert (second.id, second.excess) == ("good", f"multiply-adds 50{NBSP}% over and accuracy 5 points too low")
    (cell,) = [c for c in content.finalist_table.rows[-1].cells if c.text == "✗ no"]
    assert cell.note == "over the budget"
    (cell,) = [c for c in content.finalist_table.rows[-2].cells if c.text == "✗ no"]
    assert cell.note == "within the limits, but not accurate enough"


def test_candidate_that_was_not_exported_has_no_size_and_latency() -> None:
    counted = trial(3, None, 1, 1, status="infeasible", costs=Costs(parameters=10, macs=7_000_000), reason="too many")
    record: RunRecord = run(trials=(counted,), config={"budget": {"max_macs": 1e6}}, state="unreachable")
    content = build_content(record)
    assert [miss.excess for miss in content.summary.closest] == ["multiply-adds 7.0\u00d7 the limit"]
    assert [cell.text for cell in content.trial_table.rows[0].cells[2:4]] == [MISSING, MISSING]
    for text in both_texts(content):
        assert "7.0\u00d7 the limit" in text
