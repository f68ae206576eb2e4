"""Rungs: which trials are trained on, from where, and what the sampler and the record learn of it."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from nas_kd.commands.search import search
from nas_kd.config.options import SearchSection
from nas_kd.nas.sampler_view import common_rung, outcome
from nas_kd.nas.samplers.base import STARTUP_TRIALS
from nas_kd.nas.search_plan import rung_epochs
from nas_kd.nas.successive_halving import Rung, SuccessiveHalving, best_first, crowding
from nas_kd.results.latency import Latency
from nas_kd.results.pareto import non_dominated
from nas_kd.results.trial_record import Costs, RungRecord, TrialRecord
from tests import records
from tests.small_runs import (
    Seed,
    TrainingLog,
    distiller_of,
    open_context,
    plain_candidate,
    small_config,
    untrained_teacher,
)


def record(
    number: int, accuracies: list[float], status: str = "paused", size: int = 1000, ms: float = 1.0
) -> TrialRecord:
    costs = Costs(size_bytes=size, latency_ms=Latency(p50=ms, p90=ms, low=ms, high=ms), parameters=1, macs=1)
    rungs = tuple(RungRecord(epochs=3**i, val_accuracy=a, seconds=0.0) for i, a in enumerate(accuracies))
    return TrialRecord.model_validate(
        {
            "number": number,
            "id": str(number),
            "candidate": records.CANDIDATE,
            "description": "",
            "status": status,
            "costs": costs,
            "rungs": rungs,
        }
    )


@pytest.mark.parametrize(
    ("epochs", "steps", "rungs", "reduction", "expected"),
    [
        (30, 90, 3, 3, (3, 10, 30)),
        (30, 18, 3, 3, (10, 30)),
        (30, 90, 1, 3, (30,)),
        (4, 90, 3, 3, (1, 4)),
        (4, 10, 3, 3, (4,)),
        (1, 90, 8, 2, (1,)),
        (16, 45, 4, 2, (2, 4, 8, 16)),
    ],
)
def test_epochs_of_the_rungs(epochs: int, steps: int, rungs: int, reduction: int, expected: tuple[int, ...]) -> None:
    assert rung_epochs(epochs, steps, SearchSection(rungs=rungs, reduction=reduction)) == expected


def test_fronts_come_first_and_on_a_front_those_with_room() -> None:
    points = [[1.0, 1.0], [5.0, 5.0], [0.0, 3.0], [3.0, 0.0], [0.9, 1.2], [1.2, 0.9]]
    order = best_first(points, 6)
    assert set(order[:2]) == {2, 3}  # the ends
    assert order[-1] == 1  # the only one that is dominated
    assert crowding(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])).tolist() == [math.inf, 1.0 + 1.0, math.inf]


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=25), st.integers(1, 25))
def test_whoever_is_dominated_comes_after_a_dominator(points: list[tuple[int, ...]], most: int) -> None:
    order = best_first(points, most)
    table = np.array(points)
    assert len(order) == len(set(order)) == min(most, len(points))
    for place, i in enumerate(order):
        dominators = [j for j, p in enumerate(table) if (p <= table[i]).all() and (p < table[i]).any()]
        assert set(dominators) <= set(order[:place])
    front = set(np.flatnonzero(non_dominated(table)).tolist())
    assert set(order[: len(front)]) <= front or set(order) >= front


@given(
    st.lists(st.tuples(st.tuples(*[st.integers(0, 4)] * 3), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 40),
    st.randoms(use_true_random=False),
)
def test_a_rung_that_grows_is_ranked_like_one_that_is_sorted_anew(
    trials: list[tuple[tuple[int, ...], bool]], most: int, random: Any
) -> None:
    rung = Rung(1)
    for number in random.sample(range(len(trials)), len(trials)):
        rung.add(number, trials[number][0])
        assert number in rung
    assert len(trials) not in rung
    rung.paused = {number for number, (_, waits) in enumerate(trials) if waits}
    order = best_first([point for point, _ in trials], most)
    earned = (number for number in order if trials[number][1] and len(trials) - len(rung.paused) < most)
    assert rung.next_to_promote(most) == next(earned, None)


def next_to_promote(records: list[TrialRecord], rungs: int, reduction: int, last: bool = False) -> TrialRecord | None:
    number = SuccessiveHalving(records).next_to_promote(rungs, reduction, last=last)
    return next((r for r in records if r.number == number), None)


def test_one_in_three_goes_on_and_higher_rungs_first() -> None:
    two = [record(i, [a]) for i, a in enumerate([0.5, 0.7])]
    assert next_to_promote(two, 3, 3) is None
    three = [*two, record(2, [0.6])]
    chosen = next_to_promote(three, 3, 3)
    assert chosen is not None
    assert chosen.number == 1
    promoted = [three[0], record(1, [0.7, 0.8]), three[2]]
    assert next_to_promote(promoted, 3, 3) is None  # one of three has gone on
    six = [*promoted, record(3, [0.9]), record(4, [0.1]), record(5, [0.2])]
    chosen = next_to_promote(six, 3, 3)
    assert chosen is not None
    assert chosen.number == 3
    ninth = [record(i, [0.9, 0.1 * i]) for i in range(3)] + [record(i, [0.5]) for i in range(3, 12)]
    chosen = next_to_promote(ninth, 3, 3)
    assert chosen is not None
    assert chosen.number == 2  # at the second rung, before a third one is let up from the first


def test_at_the_end_one_goes_on_from_every_rung_and_costs_count() -> None:
    few = [record(0, [0.5], size=10_000), record(1, [0.5])]
    chosen = next_to_promote(few, 2, 3, last=True)
    assert chosen is not None
    assert chosen.number == 1
    assert next_to_promote([record(0, [0.5], "failed"), record(1, [0.4, 0.6], "finished")], 2, 3, last=True) is None


def test_when_only_one_can_go_on_it_is_the_most_accurate_of_the_highest_rung() -> None:
    small_ones = [record(0, [0.8], size=10_000), record(1, [0.5]), record(2, [0.8], size=20_000)]
    assert SuccessiveHalving(small_ones).most_accurate(2) == 0
    higher = [*small_ones, record(3, [0.9, 0.6]), record(4, [0.1, 0.7], "failed")]
    assert SuccessiveHalving(higher).most_accurate(3) == 3
    assert SuccessiveHalving(higher).most_accurate(2) == 0  # a trial at the second rung of two has finished
    assert SuccessiveHalving().most_accurate(2) is None


def test_no_more_than_the_share_goes_on_and_whoever_failed_leaves_its_place() -> None:
    waiting = [record(i, [0.5 + 0.01 * i]) for i in range(2, 6)]
    gone_on = [record(0, [0.4, 0.6]), record(1, [0.4, 0.6])]  # the best of their time, beaten by every later one
    assert next_to_promote([*gone_on, *waiting], 2, 3) is None
    one_failed = [gone_on[0], record(1, [0.9], "failed"), *waiting]
    chosen = next_to_promote(one_failed, 2, 3)
    assert chosen is not None
    assert chosen.number == 5
    chosen = next_to_promote([record(0, [0.9], "failed"), record(1, [0.5])], 2, 3, last=True)
    assert chosen is not None
    assert chosen.number == 1


def test_pioneers_go_on_first_and_take_nobodys_place() -> None:
    def chosen(records: list[TrialRecord], rungs: int) -> int | None:
        return SuccessiveHalving(records).next_to_promote(rungs, 3, n_initial=2)

    reached = [record(0, [0.1]), record(1, [0.1, 0.1]), record(2, [0.9, 0.9])]
    assert chosen(reached, 3) == 0  # the first of them, before anyone at a higher rung
    ended = [record(0, [0.1, 0.2, 0.3], "finished"), record(1, [0.1], "failed"), record(2, [0.9]), record(3, [0.8])]
    assert chosen(ended, 3) is None
    assert chosen([*ended, record(4, [0.7])], 3) == 2  # one of the three others
    better = [record(0, [0.99], "finished"), *(record(number, [0.5 + 0.01 * number]) for number in (2, 3, 4))]
    assert chosen(better, 2) == 4


def test_whoever_turned_out_too_slow_takes_nobodys_place() -> None:
    slow = record(0, [0.9], "infeasible")
    assert SuccessiveHalving([slow, record(1, [0.5]), record(2, [0.4])]).next_to_promote(2, 3) == 1


def test_rungs_compare_latencies_as_they_were_known_by_then() -> None:
    def known_as(first: float, second: float) -> TrialRecord:
        judged = record(0, [0.5, 0.6], ms=second)
        rungs = (r.model_copy(update={"latency_ms": ms}) for r, ms in zip(judged.rungs, (first, second), strict=True))
        return judged.model_copy(update={"rungs": tuple(rungs)})

    assert known_as(2.0, 1.0).objectives(0) == (0.5, 1000, 2.0)
    assert outcome(known_as(2.0, 1.0), 1) == {"values": (0.5, 1000.0, 2.0)}
    assert outcome(known_as(2.0, 1.0), 3) == {"values": (0.6, 1000.0, 1.0)}
    one, rival = known_as(2.0, 1.0), record(1, [0.5, 0.6], ms=1.5)
    assert SuccessiveHalving([one, rival]).best(1, 1) == [1]
    assert SuccessiveHalving([one, rival]).best(3, 1) == [0]


def test_the_sampler_is_shown_one_fidelity() -> None:
    low = [record(i, [0.5]) for i in range(STARTUP_TRIALS - 1)]
    assert common_rung(SuccessiveHalving().reached) == 0
    assert common_rung(SuccessiveHalving(low).reached) == 1
    both = [record(len(low) + i, [0.5, 0.6]) for i in range(STARTUP_TRIALS)]
    assert common_rung(SuccessiveHalving([*low, *both, record(99, [0.5, 0.6], "duplicate")]).reached) == 3
    assert outcome(both[0], 1) == {"values": (0.5, 1000.0, 1.0)}
    assert outcome(both[0], 3) == {"values": (0.6, 1000.0, 1.0)}
    assert outcome(low[0], 3) is None  # it may still get there
    assert outcome(record(0, [0.5], "pruned"), 3) == {"state": TrialState.PRUNED}
    assert outcome(record(0, [], "failed"), 3) == {"state": TrialState.FAIL}


def test_training_on_equals_training_through(tmp_path: Path) -> None:
    config = small_config(distill={"methods": ["soft_targets"], "epochs": 4})
    weights: list[dict[str, torch.Tensor]] = []
    epochs: list[int] = []
    for name, stops in (("on", [1, 2, 4]), ("through", [4])):
        context = open_context(config, tmp_path / name)
        candidate = plain_candidate(context.space.size_ladder(6)[1], "soft_targets")
        for until in stops:
            distiller = distiller_of(context, [untrained_teacher(context, 7)])
            log = TrainingLog(distiller)
            trained = distiller.distill(candidate, 0, 4, until=until)
            epochs += log.epochs
        weights.append(trained.model.state_dict())
    assert epochs == [1, 1, 2, 4]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.usefixtures("brief_measurements")
def test_only_full_trainings_are_complete_in_the_study(with_latencies: Seed, tmp_path: Path) -> None:
    config = small_config(
        search={"trials": 12, "rungs": 3, "reduction": 2}, finalists={"max": 1, "seeds": 1, "controls": False}
    )
    run = search(config, with_latencies(tmp_path / "run"))
    reached = Counter(t.rungs[-1].epochs for t in run.trials if t.rungs and t.status != "duplicate")
    assert set(reached) == {1, 2, 4}
    assert all(
        (t.status == "finished") == (t.rungs[-1].epochs == 4) for t in run.trials if t.status in {"finished", "pruned"}
    )
    assert {t.status for t in run.trials} <= {"finished", "pruned", "infeasible", "duplicate"}
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'run/study.db'}")
    records = {t.number: t for t in run.trials}
    for trial in study.trials:
        complete = trial.state == TrialState.COMPLETE
        last = records[trial.number].rungs[-1:] if trial.number in records else ()
        assert complete == bool(last and last[0].epochs == 4)
        if complete:
            assert trial.values[0] == last[0].val_accuracy
    assert not any(s == TrialState.RUNNING for s in (t.state for t in study.trials))
