"""Keys of trained weights and of recipes: what the version of a method and clipping do to them."""

from dataclasses import replace
from pathlib import Path

import pytest

from nas_kd.engine.schedule import Schedule
from nas_kd.kd.chain_policies.dense import make_dense
from nas_kd.kd.choose_recipe import student_recipe_key
from nas_kd.kd.training_cache import TrainingCache
from nas_kd.kd.training_job import TrainingJob
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method, version_facts
from nas_kd.results.candidate import Architecture, Recipe
from tests.small_runs import distiller_of, open_context, small_config


def job_of(method: str, context: object) -> TrainingJob:
    recipe, options = context.recipe, context.config.distill  # type: ignore[attr-defined]
    schedule = Schedule.of(options, recipe)
    return TrainingJob(Architecture("resnet", {"width": 4}), Recipe(method), recipe, schedule, 0, schedule.epochs)


def keys(cache: TrainingCache, job: TrainingJob, method: Method) -> tuple[str, str]:
    """The job's key, and what it would be if methods had no versions."""
    return cache.key(job, "as they are", [], method, None), cache.key_of(job.facts(), job.schedule, "as they are", [])


@pytest.mark.parametrize("name", ["soft_targets", "soft_targets+similarity", "dkd"])
def test_methods_that_never_changed_have_the_keys_they_had(name: str, tmp_path: Path) -> None:
    context = open_context(small_config(), tmp_path)
    key, without = keys(distiller_of(context).trainer.cache, job_of(name, context), make_method(name))
    assert key == without


@pytest.mark.parametrize("name", ["afd", "soft_targets+irg"])
def test_weights_of_an_earlier_version_are_not_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = open_context(small_config(), tmp_path)
    cache, job = distiller_of(context).trainer.cache, job_of(name, context)
    key, without = keys(cache, job, make_method(name))
    assert key != without
    assert keys(cache, job, make_dense(name, None, 1.0, teachers=2))[0] == key
    changed = type(make_method(name).parts()[-1])
    monkeypatch.setattr(changed, "version", changed.version + 1)
    assert keys(cache, job, make_method(name))[0] not in (key, without)
    assert keys(cache, replace(job, seed=1), make_method(name))[0] != keys(cache, job, make_method(name))[0]


@pytest.mark.parametrize("name", ["irg", "soft_targets+irg"])
def test_a_recipe_that_an_earlier_version_chose_is_not_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = open_context(small_config(distill={"methods": [name, "none"]}), tmp_path)
    key = student_recipe_key(context, [])
    assert student_recipe_key(context, []) == key
    changed = type(make_method(name).parts()[-1])
    monkeypatch.setattr(changed, "version", changed.version + 1)
    assert student_recipe_key(context, []) != key
    assert version_facts(make_method("soft_targets"), make_method("none")) == {}


def test_weights_of_other_calibrations_are_not_found(tmp_path: Path) -> None:
    conditions = {
        calibrated: distiller_of(
            open_context(small_config(distill={"calibrate": calibrated}), tmp_path / str(calibrated))
        ).trainer.cache._conditions
        for calibrated in (True, False)
    }
    assert conditions[True]["calibration"] == "after warm-up"
    assert conditions[False].keys() - conditions[True].keys() == {"clipped"}  # published weights were clipped once
