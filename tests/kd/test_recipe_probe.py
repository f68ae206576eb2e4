"""The recipe probe on the digits: what it finds, keeps and goes on with, and what it falls back on."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from nas_kd.context.callbacks import Callback, EpochEnd, StopRun
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.kd.choose_recipe import ProbeBudget, choose_recipe, describe_choice, given_fields, teacher_recipe
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.probe_plan import ProbePlan
from nas_kd.kd.recipe_probe import RecipeProbe
from nas_kd.results.recipe_record import RecipeRecord
from tests.small_runs import small_config

PLAN = ProbePlan(epochs=(1, 3), settings=(3, 2))


def open_context(folder: Path, callback: Callback | None = None, **distill: object) -> RunContext:
    """A run whose recipe is open but for what is given."""
    given = {"epochs": 3, "batch_size": None, "probe_minutes": None, **distill}
    config = small_config(distill=given, data={"augment": {}})
    return RunContext.prepare(config, RunFolder(folder), callback or Callback())


def probe(context: RunContext, until: float | None = None) -> RecipeProbe:
    """Of a small network, from labels alone."""
    builder, network = NetworkBuilder(context.data, context.space), context.space.size_ladder(9)[3]
    return RecipeProbe(context, builder, [], network=network, method="none", until=until)


def settings_of(context: RunContext) -> list:  # type: ignore[type-arg]
    base = context.recipe
    return [base, replace(base, augment="none"), base.with_choices({"optimizer": "adamw"})]


def choose(context: RunContext, epochs: float = 9, **given: object) -> RecipeRecord:
    budget = ProbeBudget(epochs, **given)  # type: ignore[arg-type]
    builder, network = NetworkBuilder(context.data, context.space), context.space.size_ladder(9)[3]
    return choose_recipe(context, builder, [], key="a" * 64, network=lambda: network, method="none", budget=budget)


class Epochs(Callback):
    """Counts epochs that are trained in this process; stops after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.count, self._stop_after = 0, stop_after

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.count += 1
        if self.count == self._stop_after:
            raise StopRun("enough")


def test_the_best_go_on_and_the_rules_recipe_is_always_among_them(tmp_path: Path) -> None:
    context = open_context(tmp_path)
    record = probe(context).run(settings_of(context), PLAN)
    assert record.origin == "probe"
    assert [r.epochs for r in record.settings].count(1) >= 1
    base = next(r for r in record.settings if r.recipe == context.recipe)
    assert base.epochs == 3
    assert len(base.curve) == 3
    assert base.curve[-1] == pytest.approx(base.val_accuracy, abs=1e-5)
    compared = [r for r in record.settings if r.epochs == 3]
    assert record.epochs_spent == sum(r.epochs for r in record.settings)
    chosen = next(r for r in compared if r.recipe == record.recipe)
    assert record.gain == pytest.approx(chosen.val_accuracy - base.val_accuracy)
    # without shifts these small trainings come out far better: the probe has to see that
    assert record.recipe.augment == "none"
    assert record.augmentation_gain is None or record.augmentation_gain > 0


def test_an_interrupted_probe_goes_on_and_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = open_context(tmp_path / "whole")
    expected = probe(whole).run(settings_of(whole), PLAN)
    for folder, stop_after in (("a", 1), ("b", 2), ("c", 4)):
        stopped = open_context(tmp_path / folder, Epochs(stop_after))
        with pytest.raises(StopRun):
            probe(stopped).run(settings_of(stopped), PLAN)
        counted = Epochs()
        again = open_context(tmp_path / folder, counted)
        found = probe(again).run(settings_of(again), PLAN)
        assert counted.count <= expected.epochs_spent - stop_after + 1  # the epoch under way is trained again
        assert found.model_dump(exclude={"seconds", "settings"}) == expected.model_dump(exclude={"seconds", "settings"})
        for one, other in zip(found.settings, expected.settings, strict=True):
            assert (one.recipe, one.epochs, one.val_accuracy, one.val_loss) == (
                other.recipe,
                other.epochs,
                other.val_accuracy,
                other.val_loss,
            )


def test_a_choice_is_found_again_without_training(tmp_path: Path) -> None:
    first = choose(open_context(tmp_path))
    counted = Epochs()
    again = open_context(tmp_path, counted)
    assert choose(again) == first
    assert counted.count == 0


def test_a_setting_that_diverges_is_recorded_and_the_others_compared(tmp_path: Path) -> None:
    context = open_context(tmp_path, clip_norm=1e30)
    base = context.recipe
    broken = replace(base, learning_rate=1e30)
    record = probe(context).run([base, broken, replace(base, augment="none")], PLAN)
    failed = next(r for r in record.settings if r.recipe == broken)
    assert failed.failed is not None
    assert "loss became" in failed.failed
    assert record.origin == "probe"
    assert record.recipe != broken


def test_where_nothing_can_be_trained_the_rules_decide(tmp_path: Path) -> None:
    context = open_context(tmp_path, learning_rate=1e30, clip_norm=1e30)
    record = choose(context)
    assert record.origin == "rules"
    assert record.recipe == context.recipe
    assert record.note is not None
    assert "could not be trained" in record.note
    assert "could not be trained" in describe_choice(record)


def test_a_network_too_small_to_learn_is_left_to_the_rules(tmp_path: Path) -> None:
    context = open_context(tmp_path, learning_rate=1e-9)
    record = choose(context)
    assert (record.origin, record.recipe) == ("rules", context.recipe)
    assert record.note is not None
    assert (
        "is not shown to learn anything in so short a training: 95 % interval on 97 validation samples" in record.note
    )
    assert record.settings  # what was tried is kept


def test_without_time_for_one_setting_the_rules_decide(tmp_path: Path) -> None:
    context = open_context(tmp_path)
    record = choose(context, until=time.monotonic())
    assert (record.origin, record.recipe) == ("rules", context.recipe)
    assert record.note is not None
    assert record.note == "time was over after 0 settings"


def test_too_short_a_run_is_left_to_the_rules(tmp_path: Path) -> None:
    counted = Epochs()
    record = choose(open_context(tmp_path, counted), epochs=1)
    assert (record.origin, counted.count) == ("rules", 0)
    assert (
        record.note
        == "no other recipe was tried: the training allowed for it is 1 epoch, too little to compare even two"
    )


def test_what_is_given_is_kept_and_everything_given_is_not_probed(tmp_path: Path) -> None:
    context = open_context(tmp_path, learning_rate=0.02, optimizer="adamw")
    record = choose(context)
    assert all((r.recipe.learning_rate, r.recipe.optimizer) == (0.02, "adamw") for r in record.settings)
    assert record.given == ("optimizer", "learning_rate")
    whole = {"batch_size": 32, "learning_rate": 0.02, "optimizer": "sgd", "weight_decay": 0.0}
    config = small_config(distill={"probe_minutes": None, **whole}, data={"augment": {"strength": "none"}})
    counted = Epochs()
    given = RunContext.prepare(config, RunFolder(tmp_path / "given"), counted)
    assert set(given_fields(given)) == {*whole, "augment"}
    record = choose(given)
    assert (record.origin, counted.count) == ("given", 0)
    assert (record.recipe.batch_size, record.recipe.weight_decay) == (32, 0.0)


def test_a_teachers_probe_takes_no_augmentation_away(tmp_path: Path) -> None:
    context = open_context(tmp_path)
    options = context.config.teacher[0].model_copy(update={"architecture": None, "epochs": 15})
    space = context.space
    record = teacher_recipe(context, options, 0, space, space.size_ladder(2)[-1])
    assert record.origin == "probe"
    assert record.recipe.augment != "none"
    assert all(r.recipe.augment != "none" for r in record.settings)
