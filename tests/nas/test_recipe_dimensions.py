"""The training recipe as dimensions of the search: what is drawn, what is kept, and what a candidate says of it."""

from dataclasses import replace

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from nas_kd.nas.recipe_dimensions import RecipeDimensions
from nas_kd.results.recipe_record import RecipeRecord, SmallStudentsRecord
from nas_kd.results.training_recipe import MIXES, STRENGTHS, TrainingRecipe

RECIPE_DIMENSIONS = ("batch_size", "learning_rate", "augment", "optimizer", "mix")

RUN = TrainingRecipe(30, 32, "sgd", 0.1, 5e-4, "standard")


SMALL = SmallStudentsRecord(
    below_weights=3000,
    choice=RecipeRecord(recipe=replace(RUN, augment="none"), origin="probe", rules=RUN),
)


def weights() -> int:
    """Of a student that is not small."""
    return 3000


def dimensions(*opened: str, n_samples: int = 5000, given: tuple[str, ...] = ()) -> RecipeDimensions:
    return RecipeDimensions(opened or RECIPE_DIMENSIONS, RUN, STRENGTHS, n_samples, given)


def drawn(found: RecipeDimensions, **parameters: int | float | str) -> TrainingRecipe:
    fixed = FixedTrial({f"recipe.{name}": value for name, value in parameters.items()})
    return RUN.with_choices(found.suggest(fixed, weights))


def test_nothing_is_drawn_where_nothing_is_opened() -> None:
    closed = RecipeDimensions((), RUN, STRENGTHS, 5000)
    trial = optuna.create_study(sampler=RandomSampler(seed=0)).ask()
    assert closed.suggest(trial, weights) == {}
    assert trial.params == {}
    assert closed.unchanged() == {}


def test_small_students_have_their_own_augmentation_whatever_else_is_drawn() -> None:
    found = RecipeDimensions(("batch_size",), RUN, STRENGTHS, 5000, small=SMALL)
    trial = FixedTrial({"recipe.batch_size": 16})
    assert found.suggest(trial, lambda: 2999) == {"augment": "none", "batch_size": 16}
    assert found.suggest(trial, weights) == {"batch_size": 16}


def test_the_runs_own_recipe_is_among_those_that_can_be_drawn() -> None:
    found = dimensions()
    assert found.suggest(FixedTrial(found.unchanged()), weights) == {}


def test_the_parameters_are_the_same_for_every_trial() -> None:
    study, found = optuna.create_study(sampler=RandomSampler(seed=0)), dimensions()
    names = set()
    for _ in range(20):
        trial = study.ask()
        recipe = RUN.with_choices(found.suggest(trial, weights))
        names.add(frozenset(trial.params))
        assert recipe.batch_size in (16, 32, 64)
        usual = 0.1 if recipe.optimizer == "sgd" else 0.01
        assert 0.9 * usual / 4 <= recipe.learning_rate <= 1.1 * usual * 4  # rounded to two digits
        assert recipe.epochs == 30
    assert names == {frozenset(f"recipe.{name}" for name in RECIPE_DIMENSIONS)}


def test_a_learning_rate_is_around_that_of_its_optimiser() -> None:
    assert drawn(dimensions("optimizer"), optimizer="adamw") == replace(
        RUN, optimizer="adamw", learning_rate=0.01, weight_decay=0.05
    )
    both = drawn(dimensions("optimizer", "learning_rate"), optimizer="adamw", learning_rate=2.0)
    assert both.learning_rate == 0.02


def test_a_weight_decay_that_was_given_stays() -> None:
    assert drawn(dimensions("optimizer", given=("weight_decay",)), optimizer="adamw").weight_decay == 5e-4


@pytest.mark.parametrize(("n_samples", "sizes"), [(5000, {16, 32, 64}), (100, {16, 32}), (20, {32})])
def test_batches_leave_two_steps_an_epoch(n_samples: int, sizes: set[int]) -> None:
    study, found = optuna.create_study(sampler=RandomSampler(seed=0)), dimensions("batch_size", n_samples=n_samples)
    assert {RUN.with_choices(found.suggest(study.ask(), weights)).batch_size for _ in range(30)} == sizes


def test_mixing_is_drawn_among_what_the_samples_allow() -> None:
    study, found = optuna.create_study(sampler=RandomSampler(seed=0)), dimensions("mix")
    assert {RUN.with_choices(found.suggest(study.ask(), weights)).mix for _ in range(30)} == set(MIXES)
    assert found.unchanged() == {"recipe.mix": "none"}
    series = RecipeDimensions(("mix",), RUN, STRENGTHS, 5000, mixes=("none", "mixup"))
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    assert {RUN.with_choices(series.suggest(study.ask(), weights)).mix for _ in range(20)} == {"none", "mixup"}
    mixed = RecipeDimensions(("mix",), replace(RUN, mix="mixup"), STRENGTHS, 5000)
    assert mixed.suggest(FixedTrial({"recipe.mix": "none"}), weights) == {"mix": "none"}
    assert mixed.unchanged() == {"recipe.mix": "mixup"}
