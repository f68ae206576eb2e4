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
from nas_kd.methods.combine import make_method, method_facts
from nas_kd.methods.relation.similarity import Similarity
from nas_kd.methods.response.soft_targets import SoftTargets
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
    context = open_context(small_config(distill={"calibrate": False}), tmp_path)
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
    assert method_facts(make_method("soft_targets"), make_method("none"), calibrated=False) == {}


def test_what_a_method_is_calibrated_to_is_a_part_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where nothing is calibrated: without cross-entropy, on labels alone, at published weights."""
    context = open_context(small_config(distill={"methods": ["similarity"]}), tmp_path)
    key = student_recipe_key(context, [])
    monkeypatch.setattr(Similarity, "target_grad_ratio", 9.0)
    assert student_recipe_key(context, []) != key
    both = make_method("soft_targets+similarity")
    ratios = {"soft_targets": SoftTargets.target_grad_ratio, "similarity": 9.0}
    assert method_facts(both, calibrated=True) == {"target_grad_ratios": ratios}
    assert method_facts(both, calibrated=False) == {}
    for name in ("none", "label_smoothing", "dml", "dafl+soft_targets"):
        assert "target_grad_ratios" not in method_facts(make_method(name), calibrated=True)


def test_weights_that_were_trained_with_clipping_at_published_weights_are_not_found(tmp_path: Path) -> None:
    conditions = {
        calibrated: distiller_of(
            open_context(small_config(distill={"calibrate": calibrated}), tmp_path / str(calibrated))
        ).trainer.cache._conditions
        for calibrated in (True, False)
    }
    assert "clipped" not in conditions[True]
    assert conditions[False]["clipped"] is False
