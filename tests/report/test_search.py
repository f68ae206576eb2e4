"""Section 5 of searches with rungs, workers, a store and a once-for-all network; and of plain ones."""

import html
from typing import Any

import pytest

from nas_kd.report import number_format as numbers
from nas_kd.report.content import content
from nas_kd.report.markdown import escape, markdown
from nas_kd.report.page import page
from nas_kd.report.report_context import context
from nas_kd.report.rung_correlation import once_for_all_words, rungs_foresight
from nas_kd.report.search_history import search_history
from nas_kd.report.time_breakdown import stored, time_note, time_spent
from nas_kd.report.trial_flow import flow
from nas_kd.results.records import RungRecord, RunRecord, TrialRecord
from tests.records import run, trial

from .staged import staged_run
from .synthetic import synthetic_run


def climbed(number: int, *accuracies: float, **other: Any) -> TrialRecord:
    rungs = tuple(RungRecord(epochs=3 ** (n + 1), val_accuracy=a, seconds=1) for n, a in enumerate(accuracies))
    return trial(number, accuracies[-1], 1000 + number, 0.1, rungs=rungs, **other)


@pytest.mark.parametrize("state", ["searching", "finished"])
def test_the_flow_through_the_rungs_adds_up(state: Any) -> None:
    record = staged_run(300, state=state)
    steps = flow(record)
    left = 0
    for step in steps[:-1] if record.finalists else steps:
        left = left - step.number if not step.stays else step.number if step.name == "Proposed" else left
        assert step.number == left or not step.stays
    named = {s.name: s.number for s in steps}
    word = "Waiting" if state == "searching" else "Stopped"
    for level in (1, 2):
        own = [t for t in record.trials if t.status != "duplicate" and len(t.rungs) >= level]
        assert next(n for s, n in named.items() if s.startswith(f"Reached rung {level} (")) == len(own)
        assert named[f"{word} at rung {level}"] == sum(len(t.rungs) == level for t in own)
    assert named["Trained to the end of the search"] == sum(t.status == "finished" for t in record.trials)


def test_a_plain_run_has_no_rungs_to_tell_of() -> None:
    trials = tuple(climbed(n, 0.5 + n / 100) for n in range(20))
    record = run(trials=trials, config={"search": {"workers": 1, "rungs": 1}})
    went = search_history(context(record))
    assert [s.name for s in went.flow] == ["Proposed", "Trained to the end of the search", "Finalists"]
    assert (went.rungs, went.rungs_warning, went.once_for_all, went.stored) == ((), "", (), ())
    assert "worker" not in went.time_note
    assert "workers" not in went.curves_note


def test_a_failure_at_a_later_rung_falls_off_there() -> None:
    trials = (climbed(1, 0.5, status="pruned"), climbed(2, 0.6, status="failed", reason="NaN"), climbed(3, 0.6, 0.7))
    lost = [(s.name, s.number, s.note) for s in flow(run(trials=trials)) if not s.stays]
    assert lost == [("Failed after rung 1", 1, "NaN (1)"), ("Stopped at rung 1", 1, "others did better")]


def test_whoever_turned_out_too_slow_before_the_last_rung_was_not_rejected_at_the_gate() -> None:
    at_the_gate = trial(0, None, 1000, 0.1, status="infeasible", reason="0.2 ms > 0.1 ms")
    trials = (at_the_gate, climbed(1, 0.5, status="infeasible", reason="0.2 ms > 0.1 ms"), climbed(2, 0.6, 0.7))
    lost = [(s.name, s.number) for s in flow(run(trials=trials)) if not s.stays]
    assert lost == [("Rejected at the gate", 1), ("Rejected at rung 1", 1)]


def test_rungs_that_predict_are_said_to() -> None:
    rows, warning = rungs_foresight(staged_run(1500).trials)
    assert [(r.sign, r.ranked) for r in rows] == [
        ("accuracy at rung 1 (4 epochs)", "rung 2 (12 epochs)"),
        ("accuracy at rung 2 (12 epochs)", "rung 3 (36 epochs)"),
        ("accuracy at rung 1 (4 epochs)", "rung 3 (36 epochs)"),
    ]
    assert {r.verdict for r in rows} <= {"predicts", "predicts weakly"}
    assert warning == ""


def test_rungs_that_do_not_predict_are_said_not_to_on_page_and_in_markdown() -> None:
    said = content(staged_run(400, predicts=False))
    assert (
        "The first rung does not predict the last: its order of the candidates is" in said.search_history.rungs_warning
    )
    assert "search.reduction" in said.search_history.rungs_warning
    assert html.escape(said.search_history.rungs_warning, quote=False) in page(said)
    assert escape(said.search_history.rungs_warning) in markdown(said)


def test_few_candidates_are_not_held_against_a_rung() -> None:
    order = (0, 1, 2, 3, 7, 6, 5, 4)  # tau (28 - 12) / 28
    rows, warning = rungs_foresight([climbed(n, 0.5 + n / 100, 0.6 + o / 100) for n, o in enumerate(order)])
    assert rows[0].tau.startswith("0.57 (")
    assert rows[0].verdict == "not shown to predict: may be chance"
    assert warning.startswith("It is not shown that the first rung predicts the last: over 8 candidates")
    assert "search.rungs" not in warning


def test_duplicates_and_pairs_that_are_too_few_say_nothing() -> None:
    few = [climbed(n, 0.5 + n / 100, 0.6 + n / 100) for n in range(7)]
    twins = [t.model_copy(update={"status": "duplicate"}) for t in few]
    (row,), warning = rungs_foresight([*few, *twins])
    assert (row.candidates, row.tau, warning) == (7, numbers.NONE, "")
    assert "too few" in row.verdict
    assert rungs_foresight(few[:1]) == ((), "")


def test_an_accuracy_of_zero_is_an_accuracy() -> None:
    (row,), _ = rungs_foresight([climbed(n, 0.0 if n < 4 else 0.1, n / 100) for n in range(9)])
    assert row.candidates == 9


def inheriting(own: list[float], inherited: list[float], weights: list[int]) -> RunRecord:
    rows = enumerate(zip(own, inherited, weights, strict=True))
    trials = tuple(
        climbed(n, 0.5, a, inherited_accuracy=i).model_copy(update={"costs": trial(n, None, w * 4, 0.1).costs})
        for n, (a, i, w) in rows
    )
    return run(trials=trials)


RISING = [0.5 + n / 100 for n in range(30)]
MIXED = [RISING[(7 * n) % 30] for n in range(30)]


@pytest.mark.parametrize(
    ("inherited", "weights", "said"),
    [
        (RISING, [100 + (7 * n) % 30 for n in range(30)], "Inherited accuracy beats the plain number of weights."),
        (MIXED, list(range(100, 130)), "Inherited accuracy does not beat the plain number of weights."),
        (RISING, list(range(100, 130)), "Inherited accuracy does not beat the plain number of weights."),
        (RISING, [100, 102, 101, *range(103, 130)], "does not measurably beat the plain number of weights"),
        (MIXED, [100] * 30, "The number of weights cannot be compared"),
        ([0.5] * 30, list(range(100, 130)), "Inherited accuracy cannot be judged"),
    ],
)
def test_inherited_accuracy_is_held_against_a_count_of_weights(
    inherited: list[float], weights: list[int], said: str
) -> None:
    (sentence,) = once_for_all_words(inheriting(RISING, inherited, weights))
    assert said in sentence
    assert "at rung 2 (9 epochs), over 30 candidates" in sentence
    assert ("Inherited accuracy does not predict an own training." in sentence) == (inherited is MIXED)


def test_the_highest_rung_that_enough_have_reached_is_the_common_one() -> None:
    record = inheriting(RISING, RISING, list(range(100, 130)))
    cut = tuple(t.model_copy(update={"rungs": t.rungs[:1]}) if t.number >= 7 else t for t in record.trials)
    (sentence,) = once_for_all_words(record.model_copy(update={"trials": cut}))
    assert "at rung 1 (3 epochs), over 30 candidates" in sentence
    (sentence,) = once_for_all_words(record.model_copy(update={"trials": cut[:7]}))
    assert "cannot be told from 7 candidates" in sentence


def test_the_once_for_all_network_is_told_of_in_words() -> None:
    record = staged_run(100, once_for_all=True)
    said = content(record)
    first = said.search_history.once_for_all[0].replace(numbers.NBSP, " ")
    for part in ("60 epochs", "4 sub-networks a step", "4 min 40 s", "4,000 sub-networks", "120 measured", "3.1 %"):
        assert part in first
    for sentence in said.search_history.once_for_all:
        assert html.escape(sentence).replace("&#x27;", "&#39;") in page(said)
        assert escape(sentence) in markdown(said)
    assert "the once-for-all network" in said.caption["hypervolume"]
    early = record.model_copy(update={"once_for_all": None, "trials": ()})
    assert once_for_all_words(early) == ("The once-for-all network is not trained yet.",)
    assert record.once_for_all is not None
    unknown = record.once_for_all.model_copy(update={"latency_error": float("nan")})
    assert "an unknown share" in once_for_all_words(record.model_copy(update={"once_for_all": unknown}))[0]


def test_time_is_told_in_words_and_added_up_over_workers() -> None:
    bars = time_spent({"distill": 30.0, "idle": 60.0, "once_for_all": 10.0, "gate": 0.0, "new_part": 1e-3})
    assert [b.name for b in bars] == [
        "workers waiting for work",
        "distilling candidates",
        "once-for-all network: training, search",
        "new part",
    ]
    assert sum(b.share for b in bars) == pytest.approx(100)
    assert "what 3 workers did at the same time is added up" in time_note(run(config={"search": {"workers": 3}}))
    assert time_note(run()) == ""
    elapsed = time_note(run(state="searching", trials=(trial(9, 0.5, 10, 0.1),)))
    assert elapsed.replace(numbers.NBSP, " ").startswith("The search itself took 9.0 s so far")


def test_what_the_store_saved_is_told_by_kind() -> None:
    record = staged_run(60)
    rows = {r.name: r for r in stored(record.cache)}
    assert "priors" not in rows  # never looked for
    assert (rows["trainings (weights)"].found, rows["trainings (weights)"].made) == (31, 118)
    assert rows["latency measurements"].share == f"99{numbers.NBSP}%"  # 1,000 of 1,001 is not all
    said = content(record)
    for name in rows:
        assert html.escape(name).replace("&#x27;", "&#39;") in page(said)
        assert escape(name) in markdown(said)


def test_importances_are_those_of_the_rung_that_all_have_reached() -> None:
    record = staged_run(300)
    own = sum(bool(t.rungs) for t in record.trials if t.status != "duplicate")
    assert search_history(context(record)).choices_note == f"validation accuracy after 4 epochs of {own} candidates"


def test_plain_runs_of_before_keep_their_report() -> None:
    said = content(synthetic_run())
    assert said.search_history.stored == ()
    assert said.search_history.once_for_all == ()
    assert "Stopped at rung 1" in [s.name for s in said.search_history.flow]
