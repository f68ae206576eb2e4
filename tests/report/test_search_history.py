"""Section 5 of searches with rungs, workers, a store and a once-for-all network, and of plain searches."""

import html
from typing import Any

import pytest

from nas_kd.report import number_format as fmt
from nas_kd.report.choice_importance import choices_of
from nas_kd.report.content import build_content
from nas_kd.report.render import render_markdown, render_page
from nas_kd.report.report_context import build_context
from nas_kd.report.rung_correlation import build_rung_correlations, once_for_all_text
from nas_kd.report.search_history import build_search_history
from nas_kd.report.time_breakdown import cache_uses, time_bars, time_note
from nas_kd.report.trial_flow import build_trial_flow
from nas_kd.results.candidate import Architecture, Candidate
from nas_kd.results.markdown import escape_markdown
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import RungRecord, TrialRecord
from tests.records import CANDIDATE, run, trial

from .rung_runs import run_with_rungs
from .synthetic import synthetic_run


def trial_with_rungs(number: int, *accuracies: float, **other: Any) -> TrialRecord:
    rungs = tuple(RungRecord(epochs=3 ** (n + 1), val_accuracy=a, seconds=1) for n, a in enumerate(accuracies))
    return trial(number, accuracies[-1], 1000 + number, 0.1, rungs=rungs, **other)


@pytest.mark.parametrize("state", ["searching", "finished"])
def test_trial_flow_through_the_rungs_adds_up(state: Any) -> None:
    record = run_with_rungs(300, state=state)
    steps = build_trial_flow(record)
    left = 0
    for step in steps[:-1] if record.finalists else steps:
        left = left - step.count if step.is_loss else step.count if step.name == "Proposed" else left
        assert step.count == left or step.is_loss
    named = {s.name: s.count for s in steps}
    loss = "Paused" if state == "searching" else "Pruned"
    for level in (1, 2):
        own = [t for t in record.trials if t.status != "duplicate" and len(t.rungs) >= level]
        assert next(n for s, n in named.items() if s.startswith(f"Reached rung {level} (")) == len(own)
        assert named[f"{loss} at rung {level}"] == sum(len(t.rungs) == level for t in own)
    assert named["Finished"] == sum(t.status == "finished" for t in record.trials)


def test_plain_run_has_no_rungs() -> None:
    trials = tuple(trial_with_rungs(n, 0.5 + n / 100) for n in range(20))
    record = run(trials=trials, config={"search": {"workers": 1, "rungs": 1}})
    history = build_search_history(build_context(record))
    assert [s.name for s in history.trial_flow] == ["Proposed", "Finished", "Finalists"]
    assert (history.rung_correlations, history.rungs_warning, history.once_for_all, history.cache) == ((), "", (), ())
    assert "worker" not in history.time_note
    assert "workers" not in history.curves_note


def test_failure_at_a_later_rung_is_counted_there() -> None:
    trials = (
        trial_with_rungs(1, 0.5, status="pruned"),
        trial_with_rungs(2, 0.6, status="failed", reason="NaN"),
        trial_with_rungs(3, 0.6, 0.7),
    )
    lost = [(s.name, s.count, s.note) for s in build_trial_flow(run(trials=trials)) if s.is_loss]
    assert lost == [("Failed after rung 1", 1, "NaN (1)"), ("Pruned at rung 1", 1, "others did better")]


def test_what_the_time_left_untrained_did_not_lose_to_others() -> None:
    trials = (trial_with_rungs(1, 0.5, 0.6), trial(2, None, 1000, 0.1, status="pruned", reason="the time was over"))
    lost = [(s.name, s.count, s.note) for s in build_trial_flow(run(trials=trials)) if s.is_loss]
    assert lost == [("Not trained", 1, "the time was over")]


def test_trial_found_too_slow_after_a_rung_is_not_counted_at_the_gate() -> None:
    at_the_gate = trial(0, None, 1000, 0.1, status="infeasible", reason="0.2 ms > 0.1 ms")
    trials = (
        at_the_gate,
        trial_with_rungs(1, 0.5, status="infeasible", reason="0.2 ms > 0.1 ms"),
        trial_with_rungs(2, 0.6, 0.7),
    )
    lost = [(s.name, s.count) for s in build_trial_flow(run(trials=trials)) if s.is_loss]
    assert lost == [("Infeasible at the gate", 1), ("Infeasible at rung 1", 1)]


def test_predictive_rungs_give_no_warning() -> None:
    rows, warning = build_rung_correlations(run_with_rungs(1500).trials)
    assert [(r.predictor, r.target) for r in rows] == [
        ("accuracy at rung 1 (4 epochs)", "rung 2 (12 epochs)"),
        ("accuracy at rung 2 (12 epochs)", "rung 3 (36 epochs)"),
        ("accuracy at rung 1 (4 epochs)", "rung 3 (36 epochs)"),
    ]
    assert {r.verdict for r in rows} <= {"predicts", "predicts weakly"}
    assert warning == ""


def test_unpredictive_rungs_give_a_warning_on_the_page_and_in_markdown() -> None:
    content = build_content(run_with_rungs(400, predicts=False))
    assert (
        "The first rung does not predict the last rung: its order of the candidates is"
        in content.search_history.rungs_warning
    )
    assert "search.reduction" in content.search_history.rungs_warning
    assert html.escape(content.search_history.rungs_warning, quote=False) in render_page(content)
    assert escape_markdown(content.search_history.rungs_warning) in render_markdown(content)


def test_few_candidates_are_no_evidence_against_a_rung() -> None:
    order = (0, 1, 2, 3, 7, 6, 5, 4)  # tau (28 - 12) / 28
    rows, warning = build_rung_correlations(
        [trial_with_rungs(n, 0.5 + n / 100, 0.6 + o / 100) for n, o in enumerate(order)]
    )
    assert rows[0].tau.startswith("0.57 (")
    assert rows[0].verdict == "not shown to predict: may be chance"
    assert warning.startswith("The first rung is not shown to predict the last rung: over 8 candidates")
    assert "search.rungs" not in warning


def test_duplicates_and_few_pairs_give_no_correlation() -> None:
    few = [trial_with_rungs(n, 0.5 + n / 100, 0.6 + n / 100) for n in range(7)]
    duplicates = [t.model_copy(update={"status": "duplicate"}) for t in few]
    (row,), warning = build_rung_correlations([*few, *duplicates])
    assert (row.candidates, row.tau, warning) == (7, fmt.MISSING, "")
    assert "too few" in row.verdict
    assert build_rung_correlations(few[:1]) == ((), "")


def test_accuracy_of_zero_counts() -> None:
    (row,), _ = build_rung_correlations([trial_with_rungs(n, 0.0 if n < 4 else 0.1, n / 100) for n in range(9)])
    assert row.candidates == 9


def run_with_inherited_accuracies(own: list[float], inherited: list[float], weights: list[int]) -> RunRecord:
    rows = enumerate(zip(own, inherited, weights, strict=True))
    trials = tuple(
        trial_with_rungs(n, 0.5, a, inherited_accuracy=i).model_copy(update={"costs": trial(n, None, w * 4, 0.1).costs})
        for n, (a, i, w) in rows
    )
    return run(trials=trials)


RISING = [0.5 + n / 100 for n in range(30)]
MIXED = [RISING[(7 * n) % 30] for n in range(30)]


@pytest.mark.parametrize(
    ("inherited", "weights", "statement"),
    [
        (
            RISING,
            [100 + (7 * n) % 30 for n in range(30)],
            "Inherited accuracy predicts better than the number of weights.",
        ),
        (MIXED, list(range(100, 130)), "Inherited accuracy does not predict better than the number of weights."),
        (RISING, list(range(100, 130)), "Inherited accuracy does not predict better than the number of weights."),
        (RISING, [100, 102, 101, *range(103, 130)], "does not predict measurably better than the number of weights"),
        (MIXED, [100] * 30, "The number of weights cannot be compared"),
        ([0.5] * 30, list(range(100, 130)), "Inherited accuracy cannot be assessed"),
    ],
)
def test_inherited_accuracy_is_compared_with_the_number_of_weights(
    inherited: list[float], weights: list[int], statement: str
) -> None:
    (sentence,) = once_for_all_text(run_with_inherited_accuracies(RISING, inherited, weights))
    assert statement in sentence
    assert "at rung 2 (9 epochs), over 30 candidates" in sentence
    assert ("Inherited accuracy does not predict the accuracy after training." in sentence) == (inherited is MIXED)


def test_inherited_accuracy_is_compared_at_the_highest_rung_with_enough_trials() -> None:
    record = run_with_inherited_accuracies(RISING, RISING, list(range(100, 130)))
    cut = tuple(t.model_copy(update={"rungs": t.rungs[:1]}) if t.number >= 7 else t for t in record.trials)
    (sentence,) = once_for_all_text(record.model_copy(update={"trials": cut}))
    assert "at rung 1 (3 epochs), over 30 candidates" in sentence
    (sentence,) = once_for_all_text(record.model_copy(update={"trials": cut[:7]}))
    assert sentence.startswith("Too few to tell")
    assert sentence.endswith("7 candidates.")


def test_once_for_all_network_is_described() -> None:
    record = run_with_rungs(100, once_for_all=True)
    content = build_content(record)
    first = content.search_history.once_for_all[0].replace(fmt.NBSP, " ")
    for part in ("60 epochs", "4 sub-networks per step", "4 min 40 s", "4,000 sub-networks", "120 measured", "3.1 %"):
        assert part in first
    for sentence in content.search_history.once_for_all:
        assert html.escape(sentence).replace("&#x27;", "&#39;") in render_page(content)
        assert escape_markdown(sentence) in render_markdown(content)
    assert "the once-for-all network" in content.captions["hypervolume"]
    early = record.model_copy(update={"once_for_all": None, "trials": ()})
    assert once_for_all_text(early) == ("The once-for-all network is not trained yet.",)
    assert record.once_for_all is not None
    unknown = record.once_for_all.model_copy(update={"latency_error": float("nan")})
    assert "fitted to: unknown" in once_for_all_text(record.model_copy(update={"once_for_all": unknown}))[0]


def test_time_is_named_and_summed_over_workers() -> None:
    bars = time_bars({"distill": 30.0, "idle": 60.0, "once_for_all": 10.0, "gate": 0.0, "new_part": 1e-3})
    assert [b.name for b in bars] == [
        "idle workers",
        "distilling candidates",
        "once-for-all network: training, search",
        "new part",
    ]
    assert sum(b.percent for b in bars) == pytest.approx(100)
    assert "summed over 3 workers" in time_note(run(config={"search": {"workers": 3}}))
    assert time_note(run()) == ""
    elapsed = time_note(run(state="searching", trials=(trial(9, 0.5, 10, 0.1),)))
    assert elapsed.replace(fmt.NBSP, " ").startswith("The search itself took 9.0 s so far")


def test_cache_hits_are_listed_by_kind() -> None:
    record = run_with_rungs(60)
    rows = {r.name: r for r in cache_uses(record.cache)}
    assert "priors" not in rows  # never looked up
    assert (rows["trained weights"].hits, rows["trained weights"].misses) == (31, 118)
    assert rows["latency measurements"].hit_rate == f"99{fmt.NBSP}%"  # 1,000 of 1,001 is not all
    content = build_content(record)
    for name in rows:
        assert html.escape(name).replace("&#x27;", "&#39;") in render_page(content)
        assert escape_markdown(name) in render_markdown(content)


CHAIN = Candidate(CANDIDATE.student, (Architecture("resnet", {"width": 32}),), CANDIDATE.recipe)
SENTENCE = "Up to the first rung, candidates with assistants are trained without them"


def with_chain(number: int, *without_assistants: bool, **other: Any) -> TrialRecord:
    """Reached one rung for each, with its assistant or without."""
    reached = trial_with_rungs(
        number, *(0.5 + n / 10 for n in range(len(without_assistants))), candidate=CHAIN, **other
    )
    rungs = (
        r.model_copy(update={"without_assistants": w}) for r, w in zip(reached.rungs, without_assistants, strict=True)
    )
    return reached.model_copy(update={"rungs": tuple(rungs)})


def test_the_report_says_which_rungs_were_reached_without_assistants() -> None:
    promoted = run(trials=(with_chain(0, True, False), with_chain(1, True, status="pruned")))
    from_the_start = run(trials=(with_chain(0, False, False), with_chain(1, False, status="pruned")))
    for record, said in ((promoted, True), (from_the_start, False)):
        content = build_content(record)
        texts = [
            content.search_history.rungs_note,
            " ".join(fact.text for fact in content.methodology.facts),
        ]
        assert [SENTENCE in text for text in texts] == [said, said]
        assert ("started again behind assistants" in content.search_history.time_note) == said
        (first, second) = sorted(content.trial_table.rows, key=lambda row: row.cells[0].sort_key)
        assert (first.cells[1].note, second.cells[1].note) == ("", "without assistants" if said else "")
        assert any(line.endswith(", without its assistants") for p in content.plot_points for line in p.lines) == said
    pruned = run(trials=(with_chain(1, True, status="pruned"),))
    assert "started again behind assistants" not in build_content(pruned).search_history.time_note


def test_assistants_count_as_used_once_they_were_trained() -> None:
    def remarks(*trials: TrialRecord) -> tuple[str, ...]:
        return build_search_history(build_context(run(trials=trials))).remarks

    unpromoted = [with_chain(n, True, status="pruned") for n in range(2, 9)]
    assert remarks(with_chain(0, False), *unpromoted) == ()
    (remark,) = remarks(with_chain(0, False), with_chain(1, True, False), *unpromoted)
    assert remark.startswith("Assistants were used 2 times, from 1 trainings")


def test_a_choice_of_assistants_explains_nothing_at_a_rung_reached_without() -> None:
    early, late = (choices_of(with_chain(0, True, False), epochs)["chain: assistants"] for epochs in (3, 9))
    assert (early, late) == (0, 1)


def test_importances_use_the_most_common_rung() -> None:
    record = run_with_rungs(300)
    own = sum(bool(t.rungs) for t in record.trials if t.status != "duplicate")
    assert (
        build_search_history(build_context(record)).choices_note
        == f"validation accuracy after 4 epochs of {own} candidates"
    )


def test_run_without_cache_and_elastic_network_has_neither_part() -> None:
    content = build_content(synthetic_run())
    assert content.search_history.cache == ()
    assert content.search_history.once_for_all == ()
    assert "Pruned at rung 1" in [s.name for s in content.search_history.trial_flow]
