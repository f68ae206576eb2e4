"""The training recipe as data: replacing fields, differences, and its way through JSON and records."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.recipe_record import ProbeRecord, RecipeRecord
from nas_kd.results.training_recipe import (
    LEARNING_RATES,
    MIXES,
    OPTIMIZERS,
    STRENGTHS,
    WEIGHT_DECAYS,
    TrainingRecipe,
    rounded,
)

SGD = TrainingRecipe(30, 32, "sgd", 0.1, 5e-4, "standard")
RECIPES = st.builds(
    TrainingRecipe,
    epochs=st.integers(1, 200),
    batch_size=st.integers(2, 512),
    optimizer=st.sampled_from(OPTIMIZERS),
    learning_rate=st.floats(1e-4, 1).map(rounded),
    weight_decay=st.sampled_from([0.0, 5e-4, 0.05]),
    augment=st.sampled_from(STRENGTHS),
    mix=st.sampled_from(MIXES),
)


def test_every_optimiser_has_its_usual_numbers() -> None:
    assert LEARNING_RATES.keys() == WEIGHT_DECAYS.keys() == set(OPTIMIZERS)


def test_choices_replace_fields() -> None:
    assert SGD.with_choices({}) == SGD
    assert SGD.with_choices({"batch_size": 64, "augment": "none"}) == replace(SGD, batch_size=64, augment="none")
    assert SGD.with_choices({"optimizer": "sgd"}) == SGD
    with pytest.raises(TypeError, match="momentum"):
        SGD.with_choices({"momentum": 0.5})


def test_another_optimiser_brings_its_own_numbers() -> None:
    adamw = replace(SGD, optimizer="adamw", learning_rate=0.01, weight_decay=0.05)
    assert SGD.with_choices({"optimizer": "adamw"}) == adamw
    assert adamw.with_choices({"optimizer": "sgd"}) == SGD
    # A third of the usual rate stays a third of it.
    slow = replace(SGD, learning_rate=0.033)
    assert slow.with_choices({"optimizer": "adamw"}) == replace(adamw, learning_rate=0.0033)
    given_numbers = {"optimizer": "adamw", "learning_rate": 0.2, "weight_decay": 0.0}
    assert SGD.with_choices(given_numbers) == replace(adamw, learning_rate=0.2, weight_decay=0.0)
    assert SGD.with_choices({"optimizer": "adamw", "weight_decay": 0.1}) == replace(adamw, weight_decay=0.1)


def test_differences_name_what_is_not_alike() -> None:
    assert SGD.differences(SGD) == {}
    assert SGD.differences(replace(SGD, learning_rate=0.3, augment="none")) == {"learning_rate": 0.3, "augment": "none"}


@given(RECIPES, RECIPES)
def test_differences_lead_from_one_recipe_to_the_other(a: TrainingRecipe, b: TrainingRecipe) -> None:
    assert a.with_choices(a.differences(b)) == b
    assert (a.differences(b) == {}) == (a == b)


@given(RECIPES)
def test_json_round_trip(recipe: TrainingRecipe) -> None:
    assert TrainingRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_recipes_from_before_mixing_are_read_and_unmixed_ones_are_written_as_they_were() -> None:
    stored = {
        "epochs": 30,
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "augment": "standard",
    }
    assert TrainingRecipe.from_json(stored) == SGD
    assert SGD.mix == "none"
    assert list(SGD.to_json().items()) == list(stored.items())
    assert replace(SGD, mix="cutmix").to_json() == stored | {"mix": "cutmix"}
    record = RecipeRecord.model_validate({"recipe": stored, "origin": "rules", "rules": stored})
    assert record.model_dump(mode="json")["recipe"] == stored
    mixed = replace(SGD, mix="mixup")
    assert SGD.differences(mixed) == {"mix": "mixup"}
    assert mixed.differences(SGD) == {"mix": "none"}


@given(st.floats(1e-9, 1e9))
def test_rounded_numbers_have_two_digits(value: float) -> None:
    assert rounded(value) == pytest.approx(value, rel=0.051)
    assert rounded(rounded(value)) == rounded(value)
    assert len(f"{rounded(value):.10e}".split("e")[0].rstrip("0").replace(".", "")) <= 2


def test_a_record_and_its_settings_come_back_from_json() -> None:
    other = SGD.with_choices({"optimizer": "adamw"})
    tried = (
        ProbeRecord(recipe=SGD, epochs=3, val_accuracy=0.5, val_loss=1.5, curve=(0.2, 0.4, 0.5), seconds=1.0),
        ProbeRecord(recipe=other, epochs=3, failed="the loss became nan"),
    )
    record = RecipeRecord(
        recipe=other, origin="probe", given=("augment",), rules=SGD, settings=tried, gain=0.01, epochs_spent=6
    )
    assert RecipeRecord.model_validate(json.loads(json.dumps(record.model_dump(mode="json")))) == record
    with pytest.raises(ValidationError, match="origin"):
        RecipeRecord.model_validate({**record.model_dump(mode="json"), "origin": "guess"})


def test_a_candidate_with_training_of_its_own_is_another_one_and_comes_back() -> None:
    student = Architecture("resnet", {"width": 8})
    plain, own = (
        Candidate(student, (), Recipe("dkd", {"temperature": 4.0}, training))
        for training in ({}, {"batch_size": 16, "optimizer": "adamw"})
    )
    assert "training" not in plain.to_json()
    assert "training" not in plain.recipe.to_json()
    assert own.to_json() == plain.to_json() | {"training": {"batch_size": 16, "optimizer": "adamw"}}
    assert own.recipe.to_json() == plain.recipe.to_json() | {"training": {"batch_size": 16, "optimizer": "adamw"}}
    for candidate in (plain, own):
        again = Candidate.from_json(json.loads(json.dumps(candidate.to_json())))
        assert again == candidate
        assert again.fingerprint() == candidate.fingerprint()
    assert own.fingerprint() != plain.fingerprint()
    assert own.kind == plain.kind  # numbers of the recipe alone
    reordered = replace(own, recipe=replace(own.recipe, training={"optimizer": "adamw", "batch_size": 16}))
    assert reordered.fingerprint() == own.fingerprint()
    assert own.direct().recipe.training == own.recipe.training
