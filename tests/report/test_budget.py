"""Whatever the budget limits, the report says so: sentence, cards, table, pictures, misses and the next command."""

from typing import Any

from nas_kd.report.content import ReportContent, content
from nas_kd.report.markdown import markdown
from nas_kd.report.number_format import NBSP
from nas_kd.report.page import page
from nas_kd.results.records import Costs, RunRecord
from tests.records import costs, finalist, run, trial


def measured(name: str, val: float, size: int, ms: float, **more: int) -> Any:
    return finalist(name, val, size, ms, costs=costs(size, ms).model_copy(update=more))


def report(**budget: float) -> ReportContent:
    members = (
        measured("fast", 0.85, 50_000, 0.1, memory_bytes=1_500_000, macs=400_000),
        measured("good", 0.90, 90_000, 0.4, memory_bytes=1_900_000, macs=900_000),
    )
    limits = {"max_latency_ms": 0.5, "max_size_kb": 100, **budget}
    return content(run(finalists=members, config={"budget": limits}))


def both(told: ReportContent) -> tuple[str, str]:
    return page(told), markdown(told).replace("\\", "")


ALL = {"max_memory_kb": 2000, "max_macs": 1_000_000, "min_accuracy": 0.85}


def test_the_sentence_names_all_that_is_asked_for() -> None:
    told = report(**ALL)
    asked = f"at most 500{NBSP}µs, 100{NBSP}kB, 2{NBSP}MB of memory and 1,000,000{NBSP}multiply-adds"
    assert f"For {asked}, with at least 85{NBSP}% on validation, deploy A (fast)" in told.summary.sentence
    only = content(run(config={"budget": {"min_accuracy": 0.5}}, state="unreachable", teacher=None))
    assert f"any size and latency, with at least 50{NBSP}% on validation" in only.summary.sentence


def test_cards_and_table_have_the_other_costs_where_they_are_limited() -> None:
    told = report(**ALL)
    cards = {card.title: card for card in told.summary.cards}
    assert cards["Peak memory of a session"].figure == f"1.50{NBSP}MB of memory"
    assert cards["Multiply-adds of a sample"].used_description == f"40{NBSP}% of the budget"
    assert "on validation, asked: at least" in cards["Test accuracy"].beside
    for text in both(told):
        assert f"900,000{NBSP}multiply-adds" in text
        assert f"1.90{NBSP}MB of memory" in text
    plain = report()
    assert "Peak memory of a session" not in {card.title for card in plain.summary.cards}
    assert all("multiply-adds" not in cell.small for row in plain.rows for cell in row.cells)


def test_the_next_command_has_the_same_limits() -> None:
    command = report(**ALL).summary.retarget
    assert command is not None
    for flag in ("--max-memory-kb 2000", "--max-macs 1000000", "--min-accuracy 0.85", "--max-latency-ms 0.5"):
        assert flag in command


def test_the_least_accuracy_is_a_line_in_both_pictures() -> None:
    told = report(min_accuracy=0.85)
    assert {picture.least for picture in told.pictures} == {0.85}
    assert "at least 85" in page(told)
    assert {picture.least for picture in report().pictures} == {None}


def test_misses_name_accuracy_and_every_limit() -> None:
    fast = measured("fast", 0.85, 50_000, 0.1, macs=400_000)
    good = measured("good", 0.90, 90_000, 0.4, macs=900_000).model_copy(update={"within_budget": False})
    told = content(run(finalists=(fast, good), config={"budget": {"max_macs": 600_000, "min_accuracy": 0.95}}))
    assert told.summary.sentence.startswith("Nothing met the budget")
    first, second = told.summary.closest
    assert (first.id, first.by) == ("fast", "accuracy 10 points too low")
    assert (second.id, second.by) == ("good", f"multiply-adds 50{NBSP}% over and accuracy 5 points too low")
    (cell,) = [c for c in told.rows[-1].cells if c.text == "✗ no"]
    assert cell.small == "over the budget"
    (cell,) = [c for c in told.rows[-2].cells if c.text == "✗ no"]
    assert cell.small == "within the limits, but not accurate enough"


def test_a_candidate_that_was_only_counted_is_told_without_size_and_latency() -> None:
    counted = trial(3, None, 1, 1, status="infeasible", costs=Costs(parameters=10, macs=7_000_000), reason="too many")
    record: RunRecord = run(trials=(counted,), config={"budget": {"max_macs": 1e6}}, state="unreachable")
    told = content(record)
    assert [miss.by for miss in told.summary.closest] == ["multiply-adds 7.0\u00d7 the limit"]
    assert told.candidate_rows[0].cells[6:8] == ("—", "—")
    for text in both(told):
        assert "7.0\u00d7 the limit" in text
