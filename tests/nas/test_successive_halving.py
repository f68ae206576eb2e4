"""Successive halving: which trials are promoted to the next rung, and in which order."""

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.nas.successive_halving import Rung, SuccessiveHalving, best_first, crowding
from nas_kd.results.pareto import non_dominated
from nas_kd.results.trial_record import TrialRecord
from tests.records import judged


def test_fronts_come_first_and_on_a_front_those_with_room() -> None:
    points = [[1.0, 1.0], [5.0, 5.0], [0.0, 3.0], [3.0, 0.0], [0.9, 1.2], [1.2, 0.9]]
    order = best_first(points, 6)
    assert set(order[:2]) == {2, 3}  # the ends
    assert order[-1] == 1  # the only one that is dominated
    assert crowding(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])).tolist() == [math.inf, 1.0 + 1.0, math.inf]


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=25), st.integers(1, 25))
def test_a_dominated_point_comes_after_those_that_dominate_it(points: list[tuple[int, ...]], most: int) -> None:
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
    two = [judged(i, [a]) for i, a in enumerate([0.5, 0.7])]
    assert next_to_promote(two, 3, 3) is None
    three = [*two, judged(2, [0.6])]
    chosen = next_to_promote(three, 3, 3)
    assert chosen is not None
    assert chosen.number == 1
    promoted = [three[0], judged(1, [0.7, 0.8]), three[2]]
    assert next_to_promote(promoted, 3, 3) is None  # one of three has gone on
    six = [*promoted, judged(3, [0.9]), judged(4, [0.1]), judged(5, [0.2])]
    chosen = next_to_promote(six, 3, 3)
    assert chosen is not None
    assert chosen.number == 3
    ninth = [judged(i, [0.9, 0.1 * i]) for i in range(3)] + [judged(i, [0.5]) for i in range(3, 12)]
    chosen = next_to_promote(ninth, 3, 3)
    assert chosen is not None
    assert chosen.number == 2  # at the second rung, before a third one is let up from the first


def test_at_the_end_one_goes_on_from_every_rung_and_costs_count() -> None:
    for dearer in ({"size": 10_000}, {"ms": 2.0}):
        chosen = next_to_promote([judged(0, [0.5], **dearer), judged(1, [0.5])], 2, 3, last=True)
        assert chosen is not None
        assert chosen.number == 1
    assert next_to_promote([judged(0, [0.5], "failed"), judged(1, [0.4, 0.6], "finished")], 2, 3, last=True) is None


def test_when_only_one_can_go_on_it_is_the_most_accurate_of_the_highest_rung() -> None:
    small_ones = [
        judged(0, [0.8], size=10_000),
        judged(1, [0.5]),
        judged(2, [0.8], size=20_000),
    ]
    assert SuccessiveHalving(small_ones).most_accurate(2) == 0
    higher = [*small_ones, judged(3, [0.9, 0.6]), judged(4, [0.1, 0.7], "failed")]
    assert SuccessiveHalving(higher).most_accurate(3) == 3
    assert SuccessiveHalving(higher).most_accurate(2) == 0  # what has reached the second rung of two has finished
    assert SuccessiveHalving().most_accurate(2) is None


def test_no_more_than_the_share_goes_on_and_a_failed_trial_leaves_its_place() -> None:
    paused = [judged(i, [0.5 + 0.01 * i]) for i in range(2, 6)]
    gone_on = [
        judged(0, [0.4, 0.6]),
        judged(1, [0.4, 0.6]),
    ]  # the best of their time, beaten by every later one
    assert next_to_promote([*gone_on, *paused], 2, 3) is None
    one_failed = [gone_on[0], judged(1, [0.9], "failed"), *paused]
    chosen = next_to_promote(one_failed, 2, 3)
    assert chosen is not None
    assert chosen.number == 5
    chosen = next_to_promote([judged(0, [0.9], "failed"), judged(1, [0.5])], 2, 3, last=True)
    assert chosen is not None
    assert chosen.number == 1


def test_initial_trials_go_on_first_and_take_no_place() -> None:
    def chosen(records: list[TrialRecord], rungs: int) -> int | None:
        return SuccessiveHalving(records).next_to_promote(rungs, 3, n_initial=2)

    reached = [judged(0, [0.1]), judged(1, [0.1, 0.1]), judged(2, [0.9, 0.9])]
    assert chosen(reached, 3) == 0  # the first of them, before any at a higher rung
    ended = [
        judged(0, [0.1, 0.2, 0.3], "finished"),
        judged(1, [0.1], "failed"),
        judged(2, [0.9]),
        judged(3, [0.8]),
    ]
    assert chosen(ended, 3) is None
    assert chosen([*ended, judged(4, [0.7])], 3) == 2  # one of the three others
    better = [
        judged(0, [0.99], "finished"),
        *(judged(number, [0.5 + 0.01 * number]) for number in (2, 3, 4)),
    ]
    assert chosen(better, 2) == 4


def test_a_trial_that_turned_out_too_slow_takes_no_place() -> None:
    slow = judged(0, [0.9], "infeasible")
    assert SuccessiveHalving([slow, judged(1, [0.5]), judged(2, [0.4])]).next_to_promote(2, 3) == 1
