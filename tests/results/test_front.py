"""Fronts and winner: chosen on validation accuracy, with test accuracy only reported."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.config.options import Budget
from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.front_document import front_document
from nas_kd.results.fronts import (
    describe_closest_finalists,
    describe_closest_trials,
    describe_uncertain_minimum,
    front_members,
    overlapping_finalists,
    winner,
)
from nas_kd.results.limits import within_budget
from nas_kd.results.run_record import MetricRecord
from nas_kd.results.trial_record import Costs
from tests.records import accuracy, control, costs, finalist, run, teacher, trial

SMALL = finalist("small", 0.80, 10_000, 0.4)
FAST = finalist("fast", 0.85, 50_000, 0.1)
GOOD = finalist("good", 0.90, 90_000, 0.4)
HUGE = finalist("huge", 0.95, 500_000, 2.0)
POOR = finalist("poor", 0.79, 60_000, 0.5)
ALL = [SMALL, FAST, GOOD, HUGE, POOR]
BUDGET = Budget(max_latency_ms=0.5, max_size_kb=100)


def test_fronts_by_hand() -> None:
    assert front_members(ALL) == {
        "size": {"small", "fast", "good", "huge"},
        "latency": {"fast", "good", "huge"},
        "joint": {"small", "fast", "good", "huge"},
    }


def test_test_accuracy_decides_nothing() -> None:
    flattered = POOR.model_copy(update={"test": accuracy(0.999)})
    finalists = [*ALL[:-1], flattered]
    assert front_members(finalists) == front_members(ALL)
    assert winner(finalists, Budget()) == HUGE


def test_winner_is_the_most_accurate_within_the_budget() -> None:
    assert winner(ALL, BUDGET) == GOOD
    assert winner(ALL, Budget(max_latency_ms=0.2)) == FAST
    assert winner(ALL, Budget(max_size_kb=10)) == SMALL
    assert winner(ALL, Budget()) == HUGE
    assert winner(ALL, Budget(max_size_kb=9.999)) is None
    assert winner([], BUDGET) is None


def test_equally_accurate_finalists_are_ordered_by_size_latency_and_id() -> None:
    one = finalist("b", 0.9, 100, 0.2)
    assert winner([one, finalist("a", 0.9, 200, 0.1)], Budget()) == one
    faster = finalist("c", 0.9, 100, 0.1)
    assert winner([one, faster], Budget()) == faster
    same = finalist("a", 0.9, 100, 0.2)
    assert winner([one, same], Budget()) == winner([same, one], Budget()) == same
    assert winner([finalist("a", 0.9, 100, None), one], Budget()) == one


def test_limits_are_inclusive_and_need_a_measurement() -> None:
    assert within_budget(costs(100_000, 0.5), BUDGET)
    assert not within_budget(costs(100_001, 0.5), BUDGET)
    assert not within_budget(costs(100_000, 0.5000001), BUDGET)
    assert not within_budget(costs(1, None), BUDGET)
    assert within_budget(costs(1, None), Budget(max_size_kb=1))
    assert within_budget(costs(10**12, None), Budget())


def test_finalist_without_latency_is_on_the_size_front_only() -> None:
    unknown = finalist("unknown", 0.99, 1000, None)
    members = front_members([unknown, FAST])
    assert members["size"] == {"unknown"}
    assert members["latency"] == members["joint"] == {"fast"}


def test_equal_finalists_are_all_members() -> None:
    twins = [finalist("a", 0.9, 100, 0.1), finalist("b", 0.9, 100, 0.1)]
    assert all(front == {"a", "b"} for front in front_members(twins).values())


def test_overlapping_finalists_share_a_front_and_their_intervals_overlap() -> None:
    near = finalist("near", 0.915, 95_000, 0.5)
    found = overlapping_finalists([SMALL, GOOD, near, POOR])
    assert found["good"] == ("near",)
    assert found["near"] == ("good",)
    assert found["small"] == ()
    assert found["poor"] == ()  # overlaps with small, but is on no front


FINALISTS = st.lists(
    st.builds(
        lambda n, val, size, latency: finalist(f"{n:03d}", val / 20, size * 1000, latency and latency / 10),
        st.integers(0, 999),
        st.integers(1, 20),
        st.integers(1, 5),
        st.none() | st.integers(1, 5),
    ),
    max_size=8,
    unique_by=lambda f: f.id,
)


@given(FINALISTS, st.none() | st.integers(1, 5), st.none() | st.integers(1, 5))
def test_no_allowed_finalist_beats_the_winner(
    finalists: list[FinalistRecord], latency: int | None, size: int | None
) -> None:
    budget = Budget(max_latency_ms=latency and latency / 10, max_size_kb=size)
    best = winner(finalists, budget)
    allowed = [f for f in finalists if within_budget(f.costs, budget)]
    assert (best is None) == (not allowed)
    if best is not None:
        assert best in allowed
        assert best.val.mean == max(f.val.mean for f in allowed)
        # Among those within the budget, the most accurate and smallest finalist is on the size front.
        assert best.id in front_members(allowed)["size"]


def test_front_document_keeps_the_contract() -> None:
    best = GOOD.model_copy(update={"controls": (control(0.87, 0.02),)})
    document = front_document(run(finalists=(SMALL, best, HUGE)))
    assert document["schema"] == 1
    assert document["budget"] == {"max_latency_ms": 0.5, "max_size_bytes": 100_000}
    assert document["teacher"]["accuracy"]["val"] == 0.9
    assert document["teacher"]["accuracy"]["test"] is None
    assert document["teacher"]["latency_ms"]["p50"] == 1.0
    assert document["winner"] == "good"
    assert [c["id"] for c in document["candidates"]] == ["huge", "good", "small"]
    one = document["candidates"][1]
    assert one["student"] == {"space": "resnet", "width": 8}
    assert one["assistants"] == []
    assert (one["method"], one["params"], one["precision"]) == ("soft_targets", {"temperature": 4.0}, "fp32")
    assert (one["trial"], one["seeds"], one["size_bytes"]) == (7, [0], 90_000)
    assert {k: one["accuracy"][k] for k in ("val", "test", "test_low", "test_high")} == {
        "val": 0.9,
        "test": 0.89,
        "test_low": 0.88,
        "test_high": 0.9,
    }
    assert one["latency_ms"] == {"p50": 0.4, "p90": 0.44, "low": 0.396, "high": 0.404, "unstable": False}
    assert one["on_front"] == {"size": True, "latency": True, "joint": True}
    assert one["within_budget"] is True
    assert one["controls"]["no_distillation"]["accuracy"] == 0.87
    assert one["controls"]["no_distillation"]["gain"] == {"mean": 0.02, "low": 0.01, "high": 0.03}
    assert document["candidates"][0]["within_budget"] is False


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"teacher": None},
        {"dataset": None, "teacher": None, "state": "searching", "config": {}},
        {"teacher": teacher(latency_ms=None), "finalists": (SMALL,)},
        {"teacher": teacher(val=0.05), "finalists": (SMALL,)},
        {"finalists": (finalist("nan", float("nan"), 10, float("inf")), SMALL)},
        {"state": "unreachable", "config": {"budget": None}},
    ],
)
def test_front_document_is_json_at_every_stage(fields: dict[str, Any]) -> None:
    record = run(**fields)
    document = front_document(record)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert len(document["candidates"]) == len(record.finalists)


def test_front_document_has_the_finalists_hypervolume() -> None:
    # Retention 1, ten times smaller, ten times faster.
    assert front_document(run(finalists=(finalist("a", 0.9, 100_000, 0.1),)))["hypervolume"] == 1.0
    assert front_document(run())["hypervolume"] == 0.0
    assert front_document(run(teacher=None))["hypervolume"] is None


def test_closest_trials_are_described_with_their_factors() -> None:
    trials = [
        trial(1, None, 300_000, 0.4, status="infeasible"),
        trial(2, None, 120_000, 0.6, status="infeasible"),
        trial(3, None, 110_000, 2.0, status="infeasible"),
        trial(4, None, 900_000, None, status="infeasible"),
        trial(5, None, 1, 0.1, status="failed", costs=None),
    ]
    description = describe_closest_trials(trials, BUDGET)
    assert description == (
        "trial 2 (student 2): 120.0 kB (1.2 times the limit), 0.6 ms (1.2 times the limit); "
        "trial 1 (student 1): 300.0 kB (3 times the limit), 0.4 ms; "
        "trial 3 (student 3): 110.0 kB (1.1 times the limit), 2 ms (4 times the limit)"
    )
    assert (
        describe_closest_trials(trials[3:4], BUDGET)
        == "trial 4 (student 4): 900.0 kB (9 times the limit), latency not measured"
    )
    assert describe_closest_trials([], BUDGET) == "none, as no candidate was measured"
    assert describe_closest_finalists([HUGE], BUDGET).startswith("trial 7 (the student huge): 500.0 kB (5 times")


def test_with_a_minimum_accuracy_the_fastest_that_reaches_it_wins() -> None:
    assert winner(ALL, Budget(min_accuracy=0.85)) == FAST
    assert winner(ALL, Budget(min_accuracy=0.8501)) == GOOD
    assert winner(ALL, Budget(min_accuracy=0.8501, max_size_kb=50)) is None
    assert winner(ALL, Budget(min_accuracy=0.96)) is None
    better = finalist("better", 0.86, 60_000, 0.1)
    assert winner([FAST, better], Budget(min_accuracy=0.8)) == better  # as fast, more accurate
    smaller = finalist("smaller", 0.86, 50_000, 0.1)
    assert winner([FAST, better, smaller], Budget(min_accuracy=0.8)) == smaller
    unknown = finalist("unknown", 0.99, 100, None)
    assert winner([unknown, HUGE], Budget(min_accuracy=0.8)) == HUGE


def test_front_document_has_other_limits_only_if_they_are_set() -> None:
    limits = {"max_macs": 999.0, "min_accuracy": 0.85, "max_memory_kb": 3}
    document = front_document(run(finalists=ALL, config={"budget": limits}))
    assert document["budget"] == {
        "max_latency_ms": None,
        "max_size_bytes": None,
        "max_memory_bytes": 3000,
        "max_macs": 999.0,
        "min_accuracy": 0.85,
    }
    assert document["winner"] is None
    assert [c["reaches_accuracy"] for c in document["candidates"]] == [True, True, True, False, False]
    assert not any(c["within_budget"] for c in document["candidates"])
    assert all("reaches_accuracy" not in c for c in front_document(run(finalists=ALL))["candidates"])


def test_closest_finalists_are_described_with_their_accuracy() -> None:
    description = describe_closest_finalists([SMALL, GOOD, HUGE], Budget(max_size_kb=100, min_accuracy=0.92))
    assert description == (
        "trial 7 (the student good): 90.0 kB, 0.4 ms, 90.00% on validation (2 points below the minimum); "
        "trial 7 (the student small): 10.0 kB, 0.4 ms, 80.00% on validation (12 points below the minimum); "
        "trial 7 (the student huge): 500.0 kB (5 times the limit), 2 ms, 95.00% on validation"
    )


def test_unmeasured_trial_is_not_the_closest() -> None:
    unmeasured = trial(1, None, 50_000, None, status="infeasible")
    counted = trial(2, None, 1, 1, status="infeasible", costs=Costs(parameters=1, macs=3000))
    budget = Budget(max_latency_ms=0.5, max_macs=1000)
    description = describe_closest_trials(
        [unmeasured, counted, trial(3, None, 10_000, 5.0, status="infeasible")], budget
    )
    assert [description.index(f"trial {n} ") for n in (2, 3, 1)] == sorted(
        description.index(f"trial {n} ") for n in (1, 2, 3)
    )
    assert "3,000 multiply-adds (3 times the limit), size not measured, latency not measured" in description


def test_the_score_decides_where_it_is_not_accuracy() -> None:
    """Accuracy stays beside it; fronts, ties, winner and the minimum go by the score."""
    common = finalist("common", 0.95, 20_000, 0.2, val_score=accuracy(0.50), test_score=accuracy(0.5))
    rare = finalist("rare", 0.90, 20_000, 0.1, val_score=accuracy(0.80), test_score=accuracy(0.79))
    slow = finalist("slow", 0.91, 20_000, 0.3, val_score=accuracy(0.85), test_score=accuracy(0.84))
    assert winner((common, rare, slow), Budget()) is slow
    assert winner((common, rare, slow), Budget(min_score=0.75)) is rare
    assert winner((common,), Budget(min_score=0.75)) is None
    assert front_members((common, rare, slow))["latency"] == {"rare", "slow"}
    metric = MetricRecord(name="macro_f1", title="macro-F1", unit="mean of F1", higher_is_better=True, chance=0.3)
    document = front_document(
        run(finalists=(common, rare, slow), metric=metric, config={"budget": {"min_score": 0.75}})
    )
    assert document["winner"] == "rare"
    assert document["metric"] == {"name": "macro_f1", "unit": "mean of F1", "higher_is_better": True, "chance": 0.3}
    assert [c["id"] for c in document["candidates"]] == ["slow", "rare", "common"]
    assert [c["reaches_score"] for c in document["candidates"]] == [True, True, False]
    assert [c["accuracy"]["val"] for c in document["candidates"]] == [0.91, 0.9, 0.95]
    assert [c["score"]["val"] for c in document["candidates"]] == [0.85, 0.8, 0.5]
    assert document["budget"]["min_score"] == 0.75
    assert "macro-F1" in document["units"]["hypervolume"]


def test_accuracy_is_the_score_unless_another_is_chosen() -> None:
    one = finalist("a", 0.9, 100_000, 0.1)
    assert (one.val_score, one.test_score) == (one.val, one.test)
    metric = MetricRecord(name="accuracy", title="accuracy", unit="share", higher_is_better=True, chance=0.1)
    document = front_document(run(finalists=(one,), metric=metric))
    assert document == front_document(run(finalists=(one,)))
    assert not {"metric", "score"} & document.keys()
    assert "score" not in document["candidates"][0]


def test_a_minimum_inside_the_interval_is_named_as_uncertain() -> None:
    budget = Budget(min_score=0.9)
    assert describe_uncertain_minimum(accuracy(0.95), budget) == ""
    assert describe_uncertain_minimum(accuracy(0.95), Budget()) == ""
    text = describe_uncertain_minimum(accuracy(0.905), budget)
    assert "89.5 to 91.5 % on 1,000 validation samples, has the minimum of 90 % inside" in text
    missed = describe_closest_finalists((finalist("a", 0.895, 1000, 0.1),), budget)
    assert "0.5 points below the minimum, within its 95 % interval of 88.5% to 90.5%" in missed
    far = describe_closest_finalists((finalist("a", 0.5, 1000, 0.1),), budget)
    assert "points below the minimum)" in far
