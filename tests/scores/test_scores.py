"""Scores in closed form, their intervals, and what every score has to keep."""

from math import hypot

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from nas_kd.errors import InputError
from nas_kd.plugins import available
from nas_kd.results.confusion import ClassCounts, Confusion, is_unbalanced, largest_class_share
from nas_kd.results.intervals import accuracy_over_seeds, paired_gain, t_quantile, wilson_interval
from nas_kd.scores.base import load_score
from nas_kd.scores.class_score import ClassScore, Decisions, combined_interval

# 8 samples of class 0, 2 of class 1: six and one are right.
LABELS = [0] * 8 + [1] * 2
GIVEN = [0] * 6 + [1] * 2 + [1, 0]
SCORES = sorted(name for name, score in available("score").items() if score.task == "classification")


def decisions(labels: ArrayLike = LABELS, given_: ArrayLike = GIVEN, n_classes: int = 2) -> Decisions:
    return Decisions(np.asarray(labels), np.asarray(given_), n_classes)


def class_score(name: str) -> ClassScore:
    score = load_score(name, "classification")
    assert isinstance(score, ClassScore)
    return score


def test_values_by_hand() -> None:
    assert class_score("accuracy").value(decisions()) == 7 / 10
    assert class_score("balanced_accuracy").value(decisions()) == pytest.approx((6 / 8 + 1 / 2) / 2)
    # Class 0: precision 6/7, recall 6/8; class 1: precision 1/3, recall 1/2.
    first, second = 2 * 6 / (8 + 7), 2 * 1 / (2 + 3)
    assert class_score("macro_f1").value(decisions()) == pytest.approx((first + second) / 2)


def test_classes_that_do_not_occur_do_not_count() -> None:
    absent = decisions(n_classes=5)
    for name in SCORES:
        assert class_score(name).value(absent) == pytest.approx(class_score(name).value(decisions()))
    # A class without samples that is given all the same is an F1 of 0.
    wrong = decisions([0, 0], [0, 2], 3)
    assert class_score("macro_f1").value(wrong) == pytest.approx((2 * 1 / 3 + 0) / 2)
    assert class_score("balanced_accuracy").value(wrong) == 1 / 2


def test_chance_by_hand() -> None:
    train, split = (90, 10), (8, 2)
    assert class_score("accuracy").chance(train, split) == 8 / 10
    assert class_score("accuracy").chance((50, 50), split) == 1 / 2
    assert class_score("balanced_accuracy").chance(train, split) == 1 / 2
    always = (2 * 0.8 / 1.8) / 2
    drawn = (2 * 0.9 * 0.8 / 1.7 + 2 * 0.1 * 0.2 / 0.3) / 2
    assert class_score("macro_f1").chance(train, split) == pytest.approx(max(always, drawn))
    assert class_score("macro_f1").chance((50,) * 4, (5,) * 4) == pytest.approx(1 / 4)


def test_chance_is_what_guessing_gets() -> None:
    generator = np.random.default_rng(0)
    train = (700, 200, 100)
    labels = np.repeat(np.arange(3), train)
    drawn = generator.choice(3, size=(300, 1000), p=np.array(train) / 1000)
    for name in ("balanced_accuracy", "macro_f1"):
        score = class_score(name)
        found = np.mean([score.value(decisions(labels, one, 3)) for one in drawn])
        assert found == pytest.approx(score.chance(train, train), abs=0.01)
    largest = decisions(labels, np.zeros(1000, dtype=int), 3)
    for name in SCORES:
        score = class_score(name)
        assert score.value(largest) <= score.chance(train, train) + 1e-9


def test_accuracy_keeps_the_intervals_of_shares() -> None:
    score = class_score("accuracy")
    other = decisions(given_=[0] * 8 + [1, 0])
    assert score.over_seeds([decisions(), other]) == accuracy_over_seeds([7 / 10, 9 / 10], 10)
    one = score.of(decisions())
    assert (one.low, one.high) == wilson_interval(0.7, 10)
    mine, theirs = decisions(LABELS, [0] * 8 + [1, 0]), decisions(LABELS, GIVEN)
    assert score.gain([mine], [theirs]) == paired_gain([0.9], [0.7], 10)


def test_interval_of_balanced_accuracy_by_hand() -> None:
    low_0, high_0 = wilson_interval(6 / 8, 8)
    low_1, high_1 = wilson_interval(1 / 2, 2)
    found = class_score("balanced_accuracy").of(decisions())
    assert found.low == pytest.approx(0.625 - hypot(0.75 - low_0, 0.5 - low_1) / 2)
    assert found.high == pytest.approx(min(1, 0.625 + hypot(high_0 - 0.75, high_1 - 0.5) / 2))
    single = decisions([0] * 9 + [0], [0] * 9 + [1], 2)  # one class alone: Wilson's
    value = class_score("balanced_accuracy").of(single)
    assert (value.low, value.high) == pytest.approx(wilson_interval(0.9, 10))


def test_a_few_samples_without_error_are_not_taken_for_perfect() -> None:
    six = decisions([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], 3)
    for name in SCORES:
        found = class_score(name).of(six)
        assert found.high == pytest.approx(1)
        assert found.low < 0.75


def test_interval_of_macro_f1_covers_the_truth() -> None:
    """Of splits drawn from a known network, about 95 % have its macro-F1 in their interval."""
    score, generator = class_score("macro_f1"), np.random.default_rng(1)
    rows = np.array([[0.9, 0.08, 0.02], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    sizes = np.array([150, 40, 30])
    expected = rows * sizes[:, None]
    truth = float(score.values(ClassCounts(expected.sum(1), expected.sum(0), np.diag(expected))))
    inside = 0
    for _ in range(100):
        labels = np.repeat(np.arange(3), sizes)
        drawn = np.concatenate([generator.choice(3, size=n, p=row) for n, row in zip(sizes, rows, strict=True)])
        found = score.of(decisions(labels, drawn, 3))
        inside += found.low <= truth <= found.high
    assert inside >= 90


def test_seeds_add_their_spread() -> None:
    score = class_score("balanced_accuracy")
    networks = [decisions(), decisions(given_=[0] * 8 + [1, 0])]
    found = score.over_seeds(networks)
    values = [score.value(c) for c in networks]
    assert found.mean == pytest.approx(sum(values) / 2)
    low, _ = score.interval(found.mean, networks)
    spread = t_quantile(1) * abs(values[0] - values[1]) / 2
    assert found.low == pytest.approx(max(0, found.mean - hypot(found.mean - low, spread)))
    assert (found.seeds, found.samples) == (2, 10)


@pytest.mark.parametrize("name", SCORES)
def test_a_gain_is_paired(name: str) -> None:
    """The same errors on both sides cancel: a network has no gain over itself, one more error is a small loss."""
    generator = np.random.default_rng(2)
    labels = np.repeat([0, 1], [400, 100])
    given_ = np.where(generator.random(500) < 0.2, 1 - labels, labels)
    worse = given_.copy()
    worse[:40] = 1 - labels[:40]
    a, b = Decisions(labels, given_, 2), Decisions(labels, worse, 2)
    score = class_score(name)
    same = score.gain([a, a], [a, a])
    assert same.mean == 0
    assert same.low < 0 < same.high
    found = score.gain([a, a], [b, b])
    assert found.mean == pytest.approx(score.value(a) - score.value(b))
    assert 0 < found.low < found.mean < found.high
    reverse = score.gain([b, b], [a, a])
    assert reverse.mean == pytest.approx(-found.mean)
    assert reverse.high < 0


def test_confusion_by_hand() -> None:
    one = decisions().confusion
    assert one.matrix().tolist() == [[6, 2], [1, 1]]
    assert one.samples == 10
    assert [c.tolist() for c in one.by_class] == [[8, 2], [7, 3], [6, 1]]
    assert Confusion.mean([one, decisions(given_=LABELS).confusion]).matrix().tolist() == [[7, 1], [0.5, 1.5]]
    assert Confusion.model_validate_json(one.model_dump_json()) == one


def test_what_counts_as_unbalanced() -> None:
    assert not is_unbalanced(())
    assert not is_unbalanced((60, 40, 31))
    assert is_unbalanced((60, 40, 30))
    assert is_unbalanced((2, 0))
    assert largest_class_share((10, 90), (7, 3)) == 0.3


def test_independent_intervals_combine() -> None:
    assert combined_interval(0.5, [(0.5, 0.3, 0.7)]) == pytest.approx((0.3, 0.7))
    assert combined_interval(0.5, [(0.4, 0.3, 0.5), (0.6, 0.5, 0.7)]) == pytest.approx(
        (0.5 - hypot(0.1, 0.1) / 2, 0.5 + hypot(0.1, 0.1) / 2)
    )


def test_unknown_scores_are_refused() -> None:
    with pytest.raises(InputError, match="macro_f1"):
        class_score("macro-f1")


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_contract(name: str, data: st.DataObject) -> None:
    """Every score is in 0..1, 1 without errors, the same twice, and inside its interval, as are all its facts."""
    score = class_score(name)
    assert score.name == name
    assert score.title
    assert score.unit
    assert score.summary
    assert score.higher_is_better
    n_classes = data.draw(st.integers(2, 6))
    classes = st.lists(st.integers(0, n_classes - 1), min_size=1, max_size=40)
    labels = data.draw(classes)
    given_ = data.draw(st.lists(st.integers(0, n_classes - 1), min_size=len(labels), max_size=len(labels)))
    one = decisions(labels, given_, n_classes)
    found = score.of(one)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert score.of(one) == found
    assert score.value(decisions(labels, labels, n_classes)) == pytest.approx(1)
    assert found.low < found.high
    split = tuple(np.bincount(labels, minlength=n_classes).tolist())
    assert 0 < score.chance(split, split) <= 1
    stacked = ClassCounts(*(np.stack([counts, counts]) for counts in one.confusion.by_class))
    assert score.values(stacked).tolist() == [score.value(one)] * 2
