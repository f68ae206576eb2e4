"""What a probe tries: rounds within the budget, settings around the rules' recipe, and when another one is chosen."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_kd.kd.probe_plan import (
    FEWEST_STEPS,
    TREND,
    ProbePlan,
    best_first,
    choose,
    combined,
    expected_errors,
    next_settings,
    rounds_of,
    settings_around,
)
from nas_kd.results.recipe_record import ProbeRecord
from nas_kd.results.training_recipe import STRENGTHS, TrainingRecipe

SGD = TrainingRecipe(30, 32, "sgd", 0.1, 5e-4, "standard")
FREE = ("batch_size", "optimizer", "learning_rate", "weight_decay", "augment")


def record(
    recipe: TrainingRecipe, accuracy: float = 0.0, loss: float | None = 1.0, failed: bool = False
) -> ProbeRecord:
    return ProbeRecord(
        recipe=recipe, epochs=3, val_accuracy=accuracy, val_loss=loss, failed="the loss became nan" if failed else None
    )


# Plans


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "want"),
    [
        (30, 100, (3, 10, 30)),
        (27, 40, (3, 9, 27)),
        (30, 5, (8, 10, 30)),  # 8 epochs are 40 steps
        (30, 3, (14, 30)),  # 14 epochs are 42, more than a third
        (30, 1, (30,)),
        (200, 1, (40, 67, 200)),
        (3, 1000, (1, 3)),
        (1, 1000, (1,)),
        (30, 0, (30,)),
    ],
)
def test_rounds_are_a_ninth_a_third_and_all_with_enough_steps(
    epochs: int, steps_per_epoch: int, want: tuple[int, ...]
) -> None:
    assert rounds_of(epochs, steps_per_epoch) == want


@given(st.integers(1, 500), st.integers(0, 10_000))
def test_rounds_rise_up_to_a_whole_training(epochs: int, steps_per_epoch: int) -> None:
    rounds = rounds_of(epochs, steps_per_epoch)
    assert rounds[-1] == epochs
    assert rounds[0] >= 1
    assert all(a < b for a, b in pairwise(rounds))
    assert rounds[0] * max(1, steps_per_epoch) >= FEWEST_STEPS or rounds[0] == epochs


def test_what_a_plan_costs() -> None:
    assert ProbePlan((3,), (6,)).total_epochs == 18
    # Six are trained for 3 epochs; of the three that go on to 10 two may be new, and are trained from the start.
    assert ProbePlan((3, 10), (6, 3)).total_epochs == 18 + 7 + 2 * 10
    assert ProbePlan((3, 10, 30), (6, 3, 2)).total_epochs == 18 + 7 + 2 * 10 + 2 * 20


@pytest.mark.parametrize(
    ("allowed", "want"),
    [
        (5.9, None),
        (6, ProbePlan((3,), (2,))),
        (17.9, ProbePlan((3,), (5,))),
        (35.9, ProbePlan((3,), (6,))),
        (36, ProbePlan((3, 10), (3, 3))),  # rather fewer settings for longer
        (45, ProbePlan((3, 10), (6, 3))),
        (84.9, ProbePlan((3, 10), (6, 3))),  # three rounds have all settings
        (85, ProbePlan((3, 10, 30), (6, 3, 2))),
        (10**6, ProbePlan((3, 10, 30), (6, 3, 2))),
    ],
)
def test_the_longest_plan_within_the_budget(allowed: float, want: ProbePlan | None) -> None:
    assert ProbePlan.within(allowed, 30, 100, 6) == want


def test_one_setting_is_no_comparison() -> None:
    assert ProbePlan.within(10**6, 30, 100, 1) is None
    assert ProbePlan.within(10**6, 30, 100, 0) is None


PLANS = given(st.floats(0, 2000), st.floats(0, 2000), st.integers(1, 200), st.integers(1, 500), st.integers(0, 12))


@PLANS
@settings(max_examples=300)
def test_a_plan_never_exceeds_its_budget_and_more_budget_is_never_a_shorter_plan(
    less: float, more: float, epochs: int, steps_per_epoch: int, n_settings: int
) -> None:
    less, more = sorted((less, more))
    short, long = (ProbePlan.within(allowed, epochs, steps_per_epoch, n_settings) for allowed in (less, more))
    for plan, allowed in ((short, less), (long, more)):
        if plan is None:
            continue
        assert plan.total_epochs <= allowed
        assert len(plan.epochs) == len(plan.settings)
        assert plan.epochs == rounds_of(epochs, steps_per_epoch)[: len(plan.epochs)]
        assert plan.settings[-1] >= 2
        assert plan.settings[0] <= n_settings
        assert all(a >= b for a, b in pairwise(plan.settings))
    if short is not None:
        assert long is not None
        assert len(long.epochs) >= len(short.epochs)


# Settings


def test_settings_around_the_rules_for_pictures() -> None:
    assert settings_around(SGD, FREE, STRENGTHS, 5000) == [
        SGD,
        replace(SGD, augment="none"),
        replace(SGD, learning_rate=0.033),
        replace(SGD, learning_rate=0.3),
        replace(SGD, optimizer="adamw", learning_rate=0.01, weight_decay=0.05),
        replace(SGD, batch_size=16),
        replace(SGD, augment="strong"),
    ]


def test_settings_around_the_rules_for_arrays() -> None:
    base = replace(SGD, augment="none", batch_size=16)
    tried = settings_around(base, FREE, STRENGTHS, 64)
    assert replace(base, augment="standard") in tried
    assert replace(base, augment="strong") not in tried  # two steps away
    assert replace(base, batch_size=32) in tried  # 8 would be too small
    assert settings_around(base, ["batch_size"], (), 63) == [base]  # fewer than two batches an epoch


def test_settings_where_shifts_change_nothing() -> None:
    base = replace(SGD, augment="none")
    assert settings_around(base, ["augment"], ("none", "strong"), 5000) == [base, replace(base, augment="strong")]
    assert settings_around(base, ["augment"], ("none",), 5000) == [base]


def test_a_teacher_keeps_its_augmentation() -> None:
    assert settings_around(SGD, ["augment"], ("standard", "strong"), 5000) == [SGD, replace(SGD, augment="strong")]


def test_the_other_optimiser_is_tried_only_where_its_numbers_may_be_chosen_too() -> None:
    assert len({r.optimizer for r in settings_around(SGD, FREE, STRENGTHS, 5000)}) == 2
    for fixed in ("optimizer", "learning_rate", "weight_decay"):
        free = [name for name in FREE if name != fixed]
        assert {r.optimizer for r in settings_around(SGD, free, STRENGTHS, 5000)} == {"sgd"}
    adamw = SGD.with_choices({"optimizer": "adamw"})
    assert SGD in settings_around(adamw, FREE, STRENGTHS, 5000)


WITH_STRENGTHS = st.sampled_from(
    [("none",), ("none", "standard"), STRENGTHS, ("standard", "strong"), ("none", "strong"), ("strong",)]
).flatmap(lambda strengths: st.tuples(st.just(strengths), st.sampled_from(strengths)))


@given(
    st.sets(st.sampled_from(FREE)),
    st.sampled_from([16, 17, 31, 32, 64, 128]),
    st.sampled_from(["sgd", "adamw"]),
    WITH_STRENGTHS,
    st.integers(2, 100_000),
)
def test_what_is_given_is_respected_and_nothing_is_tried_twice(
    free: set[str], batch_size: int, optimizer: str, augment: tuple[tuple[str, ...], str], n_samples: int
) -> None:
    strengths, usual = augment
    base = replace(SGD.with_choices({"optimizer": optimizer}), batch_size=batch_size, augment=usual)
    tried = settings_around(base, free, strengths, n_samples)
    assert tried[0] == base
    assert len(set(tried)) == len(tried)
    for recipe in tried:
        assert set(base.differences(recipe)) <= free
        assert recipe.epochs == base.epochs
        assert recipe.augment in strengths
        assert recipe.batch_size == base.batch_size or 16 <= recipe.batch_size <= max(n_samples // 2, base.batch_size)


# Comparisons

EPOCHS, N_VAL = 27, 100


def judged(recipe: TrainingRecipe, *accuracies: float, loss: float | None = 1.0, failed: bool = False) -> ProbeRecord:
    """A setting with these accuracies after 3, 9 and 27 epochs, as far as they are given."""
    rounds = tuple(zip((3, 9, EPOCHS), accuracies, strict=False))
    return record(recipe, accuracies[-1], loss, failed).model_copy(update={"epochs": rounds[-1][0], "rounds": rounds})


def ranked(*records: ProbeRecord, n_val: int = N_VAL) -> list[ProbeRecord]:
    return best_first(records, EPOCHS, n_val)


def test_order_is_by_error_then_loss_and_failures_come_last() -> None:
    recipes = [replace(SGD, batch_size=n) for n in range(2, 8)]
    failed = judged(recipes[0], 0.99, loss=0.01, failed=True)
    low, high, surer = judged(recipes[1], 0.5), judged(recipes[2], 0.9, loss=0.8), judged(recipes[3], 0.9, loss=0.3)
    unknown = judged(recipes[4], 0.9, loss=None)
    assert ranked(failed, low, high, unknown, surer) == [surer, high, unknown, low, failed]


def expected(record: ProbeRecord, epochs: int, n_val: int) -> float:
    return expected_errors([record], epochs, n_val)[record.recipe]


def test_errors_are_expected_to_go_on_falling_more_slowly() -> None:
    n_val = 10**9  # no smoothing
    assert expected(judged(SGD, 0.6), EPOCHS, n_val) == pytest.approx(0.4)  # nothing to tell a rate from
    halved = judged(SGD, 0.6, 0.8)  # 0.4 -> 0.2 in a round, and one more round is to come
    assert expected(halved, EPOCHS, n_val) == pytest.approx(0.2 * 0.5**TREND)
    assert expected(halved, 9, n_val) == pytest.approx(0.2)  # it is fully trained
    assert expected(judged(SGD, 0.6, 0.8, 0.85), EPOCHS, n_val) == pytest.approx(0.15)
    assert expected(judged(SGD, 0.8, 0.6), EPOCHS, n_val) == pytest.approx(0.4)  # it fell behind: no trend
    assert expected(judged(SGD, 1.0), EPOCHS, 98) == pytest.approx(0.01)
    assert expected(judged(SGD, 1.0, failed=True), EPOCHS, 98) == 1.0


def test_settings_with_the_same_augmentation_improve_alike() -> None:
    base, slow = judged(SGD, 0.9, 0.95), judged(replace(SGD, learning_rate=0.033), 0.8, 0.95)
    found = expected_errors([base, slow], EPOCHS, N_VAL)
    assert found[base.recipe] == found[slow.recipe]  # a slow start is no promise
    assert choose(base, ranked(base, slow), EPOCHS, N_VAL) is base


def test_what_catches_up_is_ahead_of_what_stands_still() -> None:
    still, late = judged(SGD, 0.70, 0.81), judged(replace(SGD, augment="strong"), 0.55, 0.80)
    assert ranked(still, late)[0] is late
    assert ranked(judged(SGD, 0.70), judged(late.recipe, 0.55))[0].recipe == SGD


def test_what_helped_alone_is_put_together() -> None:
    base = judged(SGD, 0.8)
    others = [
        judged(replace(SGD, augment="none"), 0.7),  # behind
        judged(replace(SGD, batch_size=16), 0.82),
        judged(replace(SGD, learning_rate=0.033), 0.81),
        judged(replace(SGD, learning_rate=0.3), 0.83),  # the better rate
    ]
    assert combined(base, ranked(base, *others)) == replace(SGD, batch_size=16, learning_rate=0.3)
    assert combined(base, ranked(base, others[0])) == SGD
    assert combined(base, [base]) == SGD


def test_what_changes_the_same_field_is_not_put_together() -> None:
    base, adamw = judged(SGD, 0.8), SGD.with_choices({"optimizer": "adamw"})
    rate, small = judged(replace(SGD, learning_rate=0.3), 0.83), judged(replace(SGD, batch_size=16), 0.81)
    assert combined(base, ranked(base, small, rate, judged(adamw, 0.9))) == replace(adamw, batch_size=16)
    better_rate = replace(SGD, learning_rate=0.3, batch_size=16)
    assert combined(base, ranked(base, small, rate, judged(adamw, 0.82))) == better_rate


def test_both_kinds_of_augmentation_go_on() -> None:
    base, plain = judged(SGD, 0.8), judged(replace(SGD, augment="none"), 0.9)
    rate = judged(replace(SGD, learning_rate=0.3), 0.85)
    together = replace(SGD, augment="none", learning_rate=0.3)
    assert next_settings(SGD, ranked(base, plain, rate), 3) == [SGD, together, replace(together, augment="standard")]
    behind = judged(replace(SGD, augment="none"), 0.3)
    assert next_settings(SGD, ranked(base, behind), 3) == [SGD, behind.recipe]
    assert next_settings(SGD, ranked(base, rate), 3) == [SGD, rate.recipe]


def test_failures_do_not_go_on() -> None:
    base, failed = judged(SGD, 0.1), judged(replace(SGD, learning_rate=0.3), 0.9, failed=True)
    assert next_settings(SGD, ranked(base, failed), 3) == [SGD]
    small = judged(replace(SGD, batch_size=16), 0.2)
    lost = judged(SGD, 0.0, failed=True)
    assert next_settings(SGD, ranked(lost, failed, small), 3) == [small.recipe]


@pytest.mark.parametrize(
    ("accuracy", "n_val", "moves"),
    [
        (0.50, 100, False),
        (0.54, 100, False),  # the standard error is 0.05
        (0.56, 100, True),
        (0.52, 10_000, True),  # here 0.005
        (0.504, 10_000, False),
        (0.40, 10_000, False),
    ],
)
def test_another_recipe_has_to_be_clearly_ahead(accuracy: float, n_val: int, moves: bool) -> None:
    whole = 0.5, 0.5
    base, other = judged(SGD, *whole, 0.5), judged(replace(SGD, batch_size=16), *whole, accuracy)
    assert choose(base, ranked(base, other, n_val=n_val), EPOCHS, n_val) is (other if moves else base)


def test_a_first_round_alone_has_to_be_far_ahead() -> None:
    base, other = judged(SGD, 0.5), judged(replace(SGD, batch_size=16), 0.58)
    assert choose(base, ranked(base, other), EPOCHS, N_VAL) is base  # two standard errors are 0.1
    far = judged(other.recipe, 0.62)
    assert choose(base, ranked(base, far), EPOCHS, N_VAL) is far


def test_near_perfect_accuracy_has_an_error_too() -> None:
    base, perfect = judged(SGD, 0.9, 0.9, 0.996), judged(replace(SGD, batch_size=16), 0.9, 0.9, 1.0)
    assert choose(base, ranked(base, perfect), EPOCHS, 100) is base
    assert choose(base, ranked(base, perfect, n_val=10_000), EPOCHS, 10_000) is perfect


def test_a_lower_loss_alone_is_not_ahead() -> None:
    base, surer = judged(SGD, 0.8, loss=1.0), judged(replace(SGD, batch_size=16), 0.8, loss=0.1)
    assert choose(base, ranked(base, surer), EPOCHS, N_VAL) is base


RECORDS = st.lists(
    st.builds(
        lambda recipe, accuracies, loss, failed: judged(recipe, *accuracies, loss=loss, failed=failed),
        st.builds(
            lambda batch, rate, augment: replace(SGD, batch_size=batch, learning_rate=rate, augment=augment),
            st.sampled_from([16, 32, 64]),
            st.sampled_from([0.033, 0.1, 0.3]),
            st.sampled_from(STRENGTHS),
        ),
        st.tuples(st.integers(0, 50).map(lambda n: n / 50), st.integers(0, 50).map(lambda n: n / 50)),
        st.none() | st.floats(0, 9),
        st.booleans(),
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda r: r.recipe,
)


@given(RECORDS, st.integers(1, 10_000))
def test_none_is_expected_to_be_worse_than_the_rules(records: Sequence[ProbeRecord], n_val: int) -> None:
    base = records[0].model_copy(update={"failed": None})
    order = ranked(base, *(r for r in records[1:] if r.failed is None), n_val=n_val)
    chosen = choose(base, order, EPOCHS, n_val)
    assert chosen in order
    errors = expected_errors(order, EPOCHS, n_val)
    assert errors[chosen.recipe] <= errors[base.recipe]


@given(RECORDS, st.integers(1, 4))
def test_what_goes_on_has_the_rules_first_and_nothing_twice(records: Sequence[ProbeRecord], count: int) -> None:
    base = records[0].model_copy(update={"failed": None})
    left = next_settings(base.recipe, ranked(base, *records[1:]), count)
    assert left[0] == base.recipe
    assert len(set(left)) == len(left) <= count


@given(RECORDS)
def test_fields_of_a_combination_come_from_settings_that_are_ahead(records: Sequence[ProbeRecord]) -> None:
    base = records[0].model_copy(update={"failed": None})
    order = ranked(base, *(r for r in records[1:] if r.failed is None))
    ahead = order[: order.index(base)]
    recipe = combined(base, order)
    for name, value in base.recipe.differences(recipe).items():
        assert value in [getattr(r.recipe, name) for r in ahead]
    if ahead:  # the best of all is taken whole
        assert not set(base.recipe.differences(ahead[0].recipe)) & set(recipe.differences(ahead[0].recipe))
