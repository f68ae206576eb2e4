"""The augmentation of small students: tried on one of them, within what is left of the probe's time."""

from dataclasses import replace
from pathlib import Path

import pytest

from nas_kd.context.run_context import RunContext
from nas_kd.kd.choose_recipe import ProbeBudget, choose_recipe, describe_choice
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.small_students import probe_small_students, with_clear_lead
from nas_kd.results.candidate import Architecture
from nas_kd.results.recipe_record import ProbeRecord, RecipeRecord, SmallStudentsRecord
from nas_kd.results.training_recipe import TrainingRecipe
from tests.kd.test_recipe_probe import Epochs, open_context

SMALL, MIDDLE = 1, 6  # places on a ladder of 9 sizes


def sizes(context: RunContext) -> list[Architecture]:
    return context.space.size_ladder(9)


def tried(context: RunContext, left_epochs: float = 20, small: int = SMALL) -> SmallStudentsRecord | None:
    builder, ladder = NetworkBuilder(context.data, context.space), sizes(context)
    return probe_small_students(
        context,
        builder,
        [],
        small=lambda: ladder[small],
        middle=ladder[MIDDLE],
        method="none",
        left_epochs=left_epochs,
        until=None,
    )


def test_a_small_network_that_learns_more_without_shifts_is_not_shifted(tmp_path: Path) -> None:
    context = open_context(tmp_path, epochs=9)
    record = tried(context)
    assert record is not None
    assert record.choice.rules == context.recipe
    assert {s.recipe for s in record.choice.settings} == {context.recipe, replace(context.recipe, augment="none")}
    assert record.choice.recipe.augment == "none"
    builder, ladder = NetworkBuilder(context.data, context.space), sizes(context)
    few, many = builder.parameters(ladder[SMALL]), builder.parameters(ladder[MIDDLE])
    assert record.below_weights == pytest.approx((few * many) ** 0.5, abs=1)
    assert record.changes(few) == {"augment": "none"}
    assert record.changes(record.below_weights) == record.changes(many) == {}


@pytest.mark.parametrize(
    ("left_epochs", "small", "augment"),
    [(0.5, SMALL, "standard"), (20, MIDDLE, "standard"), (20, SMALL, "none")],
    ids=["no time", "hardly smaller", "nothing to leave out"],
)
def test_nothing_is_tried_where_there_is_nothing_to_learn(
    tmp_path: Path, left_epochs: float, small: int, augment: str
) -> None:
    counted = Epochs()
    context = open_context(tmp_path, counted, epochs=9)
    context = context.with_recipe(replace(context.recipe, augment=augment))
    assert tried(context, left_epochs, small) is None
    assert counted.count == 0


def test_a_choice_keeps_both_and_says_so_in_one_line(tmp_path: Path) -> None:
    def choose(counted: Epochs) -> RecipeRecord:
        context = open_context(tmp_path, counted, epochs=9, batch_size=32, learning_rate=0.1, optimizer="sgd")
        ladder, builder = sizes(context), NetworkBuilder(context.data, context.space)
        return choose_recipe(
            context,
            builder,
            [],
            key="b" * 64,
            network=lambda: ladder[MIDDLE],
            method="none",
            budget=ProbeBudget(60),
            weakest="standard",
            small=lambda: ladder[SMALL],
        )

    record = choose(Epochs())
    assert record.recipe.augment == "standard"
    assert record.small is not None
    assert record.small.choice.recipe == replace(record.recipe, augment="none")
    assert describe_choice(record).endswith(
        f"; students of fewer than {record.small.below_weights:,} weights: augmentation none"
    )
    counted = Epochs()
    assert choose(counted) == record
    assert counted.count == 0


@pytest.mark.parametrize(("lead", "augment"), [(0.03, "standard"), (0.05, "none")])
def test_a_lead_within_two_standard_errors_changes_nothing(lead: float, augment: str) -> None:
    """0.2 of 400 samples wrong: a standard error is 0.02."""
    base = TrainingRecipe(30, 32, "sgd", 0.1, 5e-4, "standard")
    scores = {"standard": 0.8, "none": 0.8 + lead}
    settings = tuple(
        ProbeRecord(recipe=replace(base, augment=a), epochs=10, val_score=score) for a, score in scores.items()
    )
    record = RecipeRecord(recipe=base, origin="probe", rules=base, settings=settings, compared_epochs=10)
    assert with_clear_lead(record, 400).recipe.augment == augment
