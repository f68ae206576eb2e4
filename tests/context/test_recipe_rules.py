"""The rules' recipe: enough steps for few samples, large batches for many, and what is given is kept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.config.options import DistillOptions
from nas_kd.context.recipe_rules import (
    BATCH_SIZES,
    ENOUGH_STEPS,
    FEWEST_STEPS,
    MOST_EPOCHS,
    USUAL_EPOCHS,
    batch_for,
    recipe_by_rules,
    schedule_note,
    usual_epochs,
)
from nas_kd.results.training_recipe import TrainingRecipe


def by_rules(n_samples: int, strength: str = "none", **options: Any) -> TrainingRecipe:
    return recipe_by_rules(DistillOptions(**options), n_samples, strength)


@pytest.mark.parametrize(
    ("n_samples", "epochs", "batch_size"),
    [
        (2, 200, 16),  # fewer than a batch
        (100, 200, 16),  # 6 steps an epoch: 250 epochs would be 1,500
        (160, 150, 16),  # 10 steps an epoch
        (799, 31, 16),  # 49
        (800, 30, 16),  # 50
        (4266, 30, 16),  # 3,999 steps at 32
        (4267, 30, 32),
        (8534, 30, 64),
        (17067, 30, 128),
        (50_000, 30, 128),
    ],
)
def test_epochs_and_batch_by_the_number_of_samples(n_samples: int, epochs: int, batch_size: int) -> None:
    assert by_rules(n_samples) == TrainingRecipe(epochs, batch_size, "sgd", 0.1, 5e-4, "none")


@pytest.mark.parametrize(
    ("samples_shown", "batch_size"),
    [(0, 16), (32 * 4000 - 1, 16), (32 * 4000, 32), (64 * 4000 - 1, 32), (64 * 4000, 64), (128 * 4000, 128)],
)
def test_the_batch_is_the_largest_that_leaves_enough_steps(samples_shown: int, batch_size: int) -> None:
    assert ENOUGH_STEPS == 4000
    assert batch_for(samples_shown) == batch_size


def test_fewer_epochs_mean_a_smaller_batch_and_a_larger_batch_means_more_epochs() -> None:
    assert (by_rules(20_000).epochs, by_rules(20_000).batch_size) == (30, 128)
    assert by_rules(20_000, epochs=3).batch_size == 16
    assert by_rules(20_000, epochs=30, batch_size=8).batch_size == 8
    # 1,000 samples are 7 steps of 128: 30 epochs would be 210 steps.
    assert (by_rules(1000).epochs, by_rules(1000, batch_size=128).epochs) == (30, 200)
    assert by_rules(1000, epochs=2, batch_size=128).epochs == 2


def test_numbers_follow_the_optimiser_unless_they_are_given() -> None:
    adamw = by_rules(5000, optimizer="adamw")
    assert (adamw.optimizer, adamw.learning_rate, adamw.weight_decay) == ("adamw", 0.01, 0.05)
    own = by_rules(5000, optimizer="adamw", learning_rate=0.5, weight_decay=0.0)
    assert (own.learning_rate, own.weight_decay) == (0.5, 0.0)  # 0 is a value, not "auto"
    assert by_rules(5000, weight_decay=0.0).weight_decay == 0.0


@given(
    st.integers(1, 10**7),
    st.sampled_from(["none", "standard", "strong"]),
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 500),
            "batch_size": st.integers(2, 4096),
            "optimizer": st.sampled_from(["sgd", "adamw"]),
            "learning_rate": st.floats(1e-6, 10),
            "weight_decay": st.floats(0, 1),
        },
    ),
)
def test_what_is_given_is_kept_and_the_rest_is_in_its_range(
    n_samples: int, strength: str, options: dict[str, Any]
) -> None:
    recipe = by_rules(n_samples, strength, **options)
    assert {name: getattr(recipe, name) for name in options} == options
    assert recipe.augment == strength
    if "epochs" not in options:
        assert USUAL_EPOCHS <= recipe.epochs <= MOST_EPOCHS
    if "batch_size" not in options:
        assert recipe.batch_size in BATCH_SIZES


@given(st.integers(1, 10**6))
def test_few_samples_get_enough_steps_as_far_as_epochs_allow(n_samples: int) -> None:
    recipe = by_rules(n_samples)
    steps = recipe.epochs * max(1, n_samples // recipe.batch_size)
    assert steps >= FEWEST_STEPS or recipe.epochs == MOST_EPOCHS
    if recipe.batch_size > BATCH_SIZES[0]:
        assert recipe.epochs * n_samples / recipe.batch_size >= ENOUGH_STEPS


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_more_samples_never_mean_more_epochs_or_a_smaller_batch(a: int, b: int) -> None:
    few, many = (by_rules(n) for n in sorted((a, b)))
    assert few.epochs >= many.epochs
    assert few.batch_size <= many.batch_size


@given(st.integers(1, 10**6), st.integers(2, 4096))
def test_epochs_are_counted_at_the_batch_that_is_given(n_samples: int, batch_size: int) -> None:
    assert usual_epochs(n_samples, batch_size) == by_rules(n_samples, batch_size=batch_size).epochs
    assert usual_epochs(n_samples, None) == usual_epochs(n_samples, BATCH_SIZES[0])


def test_a_note_on_schedules_that_are_too_short_or_batches_too_large() -> None:
    recipe = TrainingRecipe(30, 64, "sgd", 0.1, 5e-4, "none")
    assert schedule_note(recipe, 50_000) is None
    short = schedule_note(recipe, 640)
    assert short is not None
    assert "30 epochs are 300 training steps" in short
    assert 'distill.epochs = "auto" would take 150, or a smaller distill.batch_size than 64' in short
    large = schedule_note(recipe, 40)
    assert large is not None
    assert "a batch of 64 is larger than the 40 training samples" in large
