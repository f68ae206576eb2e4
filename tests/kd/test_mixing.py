"""Mixing as a part of the recipe: who is shown mixed samples, under which keys, and what is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_kd.config.key_facts import key_facts
from nas_kd.config.options import DistillOptions, SearchConfig
from nas_kd.context.mixing_checks import check_mixes, possible_mixes
from nas_kd.context.run_context import RunContext
from nas_kd.data.mixing import MixedView
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.results.training_recipe import MIXES
from nas_kd.results.trial_record import Costs
from tests.small_runs import (
    SMALL_TEACHER,
    TrainingLog,
    candidate_of,
    distiller_of,
    open_context,
    small_config,
    untrained_teacher,
)


def mixed_context(folder: Path, mix: str = "mixup", **sections: Any) -> RunContext:
    return open_context(small_config(distill={"mix": mix, "epochs": 2}, **sections), folder)


def measured(onnx: bytes, costs: Costs) -> Costs:
    return costs.model_copy(update={"size_bytes": len(onnx)})


def test_the_default_changes_no_key_and_mixing_does(tmp_path: Path) -> None:
    assert "mix" not in key_facts(DistillOptions())
    assert key_facts(DistillOptions(mix="cutmix"))["mix"] == "cutmix"
    plain, mixed = open_context(small_config(), tmp_path / "a"), mixed_context(tmp_path / "b")
    keys = []
    for context in (plain, mixed):
        trainer = distiller_of(context).trainer
        keys.append([trainer.augmentation_key(replace(context.recipe, mix=mix)) for mix in MIXES])
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3
    assert keys[0][0] == plain.augmenter.key
    assert keys[0][1] == mixed.augmenter.key


def test_students_and_assistants_see_mixed_samples_and_so_does_their_teacher(tmp_path: Path) -> None:
    context = mixed_context(tmp_path)
    teacher = untrained_teacher(context, 1)
    distiller = distiller_of(context, [teacher])
    log = TrainingLog(distiller)
    distiller.distill(candidate_of(context, "soft_targets", 1), 1, 2)
    assert [job.training.mix for job in log.jobs] == ["mixup", "mixup"]
    outputs = distiller.trainer.outputs.of(teacher)
    assert outputs.augmenter is context.augmenter
    assert isinstance(context.augmenter, MixedView)
    shown = context.numerics.to_layout(context.augmenter.batch(1, torch.arange(64)))
    extractor = outputs.extractor(frozenset({"logits"}))
    assert torch.equal(outputs.live(extractor, shown).logits, outputs.cached(1, torch.arange(64)).logits)
    extractor.close()
    assert distiller.trainer.outputs.cached_epochs(["soft_targets"], 5) == range(5)  # no two epochs are alike


def test_a_teacher_that_is_trained_here_sees_samples_as_they_are(tmp_path: Path) -> None:
    teachers = {"teacher": {**SMALL_TEACHER, "epochs": 1}}
    plain = open_context(small_config(**teachers), tmp_path / "a")
    keys = []
    for context in (plain, mixed_context(tmp_path / "b", **teachers)):
        (ready,) = prepare_teachers(context, measured)
        assert ready.record.recipe is not None
        assert ready.record.recipe.recipe.mix == "none"
        keys.append(ready.teacher.key)
    assert keys[0] == keys[1]


def test_a_candidate_may_mix_otherwise_than_the_run(tmp_path: Path) -> None:
    context = open_context(small_config(distill={"epochs": 2}), tmp_path)
    distiller = distiller_of(context, [untrained_teacher(context, 1)])
    plain = candidate_of(context, "soft_targets", 0)
    other = replace(plain, recipe=replace(plain.recipe, training={"mix": "cutmix"}))
    first, second = (distiller.distill(c, 1, 2) for c in (plain, other))
    assert first.key != second.key
    assert any(not torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_student_is_resumed_to_the_last_bit(tmp_path: Path, mix: str) -> None:
    states = []
    for name, stops in (("whole", [4]), ("stopped", [1, 3, 4])):
        context = mixed_context(tmp_path / name, mix)
        for until in stops:  # a new process finds nothing but the store
            distiller = distiller_of(context, [untrained_teacher(context, 1)])
            trained = distiller.distill(candidate_of(context, "soft_targets", 0), 1, 4, until=until)
        states.append(trained.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def npz(folder: Path, shape: tuple[int, ...], dtype: str, teacher: tuple[int, ...] | None = None) -> dict[str, Any]:
    rng, y = np.random.default_rng(0), np.arange(80) % 2
    arrays: dict[str, Any] = {"x_train": rng.integers(0, 200, (80, *shape)).astype(dtype), "y_train": y}
    if teacher is not None:
        arrays["x_teacher_train"] = rng.integers(0, 200, (80, *teacher)).astype("uint8")
    folder.mkdir(exist_ok=True)
    np.savez(folder / "data.npz", **arrays)
    return {"source": "npz", "path": folder / "data.npz", **({"layout": "chw"} if len(shape) == 3 else {})}


SAMPLES: Mapping[str, tuple[tuple[int, ...], str, tuple[int, ...] | None, tuple[str, ...]]] = {
    "pictures": ((3, 8, 8), "uint8", None, MIXES),
    "lines": ((1, 1, 30), "float32", None, ("none", "mixup")),
    "rows": ((30,), "float64", None, ("none", "mixup")),
    "ids": ((30,), "int64", None, ("none",)),
    "pairs of one size": ((3, 8, 8), "uint8", (1, 8, 8), MIXES),
    "pairs of two sizes": ((3, 8, 8), "uint8", (1, 16, 16), ("none", "mixup")),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_what_samples_allow_is_offered_and_all_else_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    shape, dtype, teacher, allowed = SAMPLES[kind]
    options = npz(tmp_path, shape, dtype, teacher)
    config = SearchConfig.model_validate({"data": options})
    data = load_dataset(config.data, 0)
    assert possible_mixes(data) == allowed
    for mix in MIXES:
        given = SearchConfig.model_validate({"data": options, "distill": {"mix": mix}})
        if mix in allowed:
            check_mixes(given, data)
            continue
        with pytest.raises(InputError, match=f"^distill.mix = '{mix}': [^\n]+$"):
            check_mixes(given, data)
    searched = SearchConfig.model_validate({"data": options, "search": {"recipe": ["mix"]}})
    if "mixup" in allowed:
        check_mixes(searched, data)
        return
    with pytest.raises(
        InputError, match=r"^mix in search.recipe: samples are rows of int64, which may be ids, [^\n]+$"
    ):
        check_mixes(searched, data)


@pytest.mark.parametrize("asked", [{"distill": {"mix": "mixup"}}, {"search": {"recipe": ["mix"]}}])
def test_a_teacher_of_stored_outputs_cannot_be_shown_mixed_samples(asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "logits.npz").write_bytes(b"never read")
    learns = {"methods": ["soft_targets"], **asked.get("distill", {})}
    config = SearchConfig.model_validate({"teacher": {"outputs": tmp_path / "logits.npz"}, **asked, "distill": learns})
    message = r"^(distill.mix = 'mixup'|mix in search.recipe): a teacher given by teacher.outputs has [^\n]+$"
    with pytest.raises(InputError, match=message):
        checked_config(config)
    with pytest.raises(InputError, match=message):
        open_context(config, tmp_path / "run")
