"""Options of how teachers are shown to methods: what they can be, and what is refused before anything is trained."""

import re
from pathlib import Path
from typing import Any

import pytest

from nas_kd.commands.inputs import files_of
from nas_kd.config.key_facts import key_facts
from nas_kd.config.loading import commented_config, dump_config, load_config
from nas_kd.config.options import SearchConfig
from nas_kd.errors import InputError
from nas_kd.kd.config_checks import checked_config
from nas_kd.methods.teaching_choices import TeachingChoices, check_enough_classes, check_teaching, fixed_teaching
from nas_kd.results.teaching import Teaching

CHECKPOINTS = {"teacher.checkpoints": 3}
NONE_GIVEN = "asks for checkpoints of the teacher: give teacher.checkpoints"
FOLLOWING = {**CHECKPOINTS, "distill.progression": "checkpoints"}


@pytest.mark.parametrize(
    ("given", "teaching", "choices"),
    [
        ({}, Teaching(), ((False,), ("final",), ("none",))),
        ({"distill.standardize": True}, Teaching(standardize=True), ((True,), ("final",), ("none",))),
        ({"distill.standardize": [False, True]}, Teaching(), ((False, True), ("final",), ("none",))),
        (CHECKPOINTS, Teaching(), ((False,), ("final", 1, 2, 3), ("none",))),
        (CHECKPOINTS | {"distill.checkpoint": 2}, Teaching(checkpoint=2), ((False,), (2,), ("none",))),
        (CHECKPOINTS | {"distill.checkpoint": "final"}, Teaching(), ((False,), ("final",), ("none",))),
        (
            CHECKPOINTS | {"distill.checkpoint": [3, "final"]},
            Teaching(checkpoint=3),
            ((False,), (3, "final"), ("none",)),
        ),
        (
            CHECKPOINTS | {"distill.progression": ["checkpoints", "stages"]},
            Teaching(progression="checkpoints"),
            ((False,), ("final", 1, 2, 3), ("checkpoints", "stages")),
        ),
    ],
)
def test_one_choice_or_several(
    given: dict[str, Any], teaching: Teaching, choices: tuple[Any, ...], tmp_path: Path
) -> None:
    config = load_config(None, given)
    assert fixed_teaching(config) == teaching
    assert tuple(TeachingChoices.of(config).by_name().values()) == choices
    written = tmp_path / "config.toml"
    written.write_text(dump_config(config))
    assert load_config(written) == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"distill.standardize": "yes"}, "distill.standardize: must be true, false or [false, true], got 'yes'"),
        ({"distill.standardize": 1}, "distill.standardize: must be true, false or [false, true], got 1"),
        ({"distill.standardize": [True, True]}, "distill.standardize: has a choice twice; name each once"),
        ({"distill.standardize": []}, "distill.standardize: has no choice; give one at least"),
        (
            {"distill.progression": "layers"},
            "distill.progression: must be none, checkpoints, stages or a list of these, got 'layers'",
        ),
        ({"distill.progression": "checkpoints"}, f"distill.progression {NONE_GIVEN}"),
        ({"distill.checkpoint": 1}, f"distill.checkpoint {NONE_GIVEN}"),
        (CHECKPOINTS | {"distill.checkpoint": 4}, "distill.checkpoint has 4, and teacher.checkpoints has 3"),
        (
            CHECKPOINTS | {"distill.checkpoint": "last"},
            'distill.checkpoint: must be "final", the number of a checkpoint from 1, or a list of these, got \'last\'',
        ),
        (
            CHECKPOINTS | {"distill.checkpoint": [1, 0]},
            'distill.checkpoint: must be "final", the number of a checkpoint from 1, or a list of these, got 0',
        ),
    ],
)  # fmt: skip
def test_what_is_refused_when_a_config_is_read(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        load_config(None, given)


@pytest.mark.parametrize(
    ("methods", "given", "message"),
    [
        ("fitnet", {"distill.standardize": True}, "distill.standardize: of no use to fitnet: it is for methods that"),
        ("dml", {"distill.standardize": [False, True]}, "distill.standardize: of no use to dml"),
        ("soft_targets", {"distill.progression": "stages"}, 'distill.progression = "stages": of no use to soft_'),
        ("fsp", {"distill.progression": ["none", "stages"]}, 'distill.progression = "stages": of no use to fsp'),
        ("dafl", FOLLOWING, 'distill.progression = "checkpoints": of no use to'),
        ("none", CHECKPOINTS | {"distill.checkpoint": 1}, "distill.checkpoint: of no use to none"),
    ],
)  # fmt: skip
def test_what_no_method_can_use_is_refused(methods: str, given: dict[str, Any], message: str) -> None:
    config = load_config(None, {"distill.methods": [methods], **given})
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        checked_config(config)
    mixed = load_config(None, {"distill.methods": [methods, "soft_targets+afd"], **given})
    check_teaching(mixed, mixed.distill.methods)  # one of them can


def test_two_standardised_logits_say_nothing_but_which_is_larger() -> None:
    check_enough_classes(True, 3)
    check_enough_classes(False, 2)
    with pytest.raises(InputError, match=r"^distill.standardize: of 2 standardised logits only the larger one can be"):
        check_enough_classes(True, 2)


def test_keys_at_the_default_are_as_they_were() -> None:
    new = {"standardize", "checkpoint", "progression"}
    config = SearchConfig()
    assert not new & set(key_facts(config.distill))
    assert "checkpoints" not in key_facts(config.teacher[0])
    assert all(f"{name} = " in commented_config() for name in (*new, "checkpoints"))


def test_a_run_knows_its_checkpoints_by_their_content(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.onnx" for n in range(2)]
    config = load_config(
        None, {"teacher.onnx": tmp_path / "final.onnx", "teacher.checkpoints": [str(p) for p in paths]}
    )
    assert "teacher.checkpoints" not in files_of(config)  # they are missed later
    found = []
    for content in (b"1", b"2"):
        for n, path in enumerate(paths):
            path.with_suffix(".safetensors").write_bytes(content * (n + 1))
        weights = [str(p.with_suffix(".safetensors")) for p in paths]
        given = {"teacher.factory": "a:b", "teacher.weights": weights[0], "teacher.checkpoints": weights}
        found.append(files_of(load_config(None, given))["teacher.checkpoints"])
    assert found[0] != found[1]
