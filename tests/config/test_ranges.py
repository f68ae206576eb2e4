"""Ranges, lists and combinations that could only fail later are refused when the config is read."""

import re
from pathlib import Path
from typing import Any

import pytest

import nas_kd
from nas_kd.api.functions import distill_config
from nas_kd.commands.profile import profile_space
from nas_kd.config.loading import commented_config, load_config
from nas_kd.config.options import SearchConfig
from nas_kd.config.unused import ignoring, refuse_search_options, refuse_student
from nas_kd.errors import InputError


@pytest.mark.parametrize("key", ["distill.strength", "distill.temperature"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0.0, 1.0], "must be two numbers > 0, as they are searched on a logarithmic scale, got [0, 1]"),
        ([-1, 1], "must be two numbers > 0, as they are searched on a logarithmic scale, got [-1, 1]"),
        ([8, 1], "must have the smaller number first, got [8, 1]"),
        ([1e-9, 1], "must be within 1e-06 and 1,000,000, got [1e-09, 1]"),
        ([1, 1e9], "must be within 1e-06 and 1,000,000, got [1, 1e+09]"),
    ],
)
def test_ranges(key: str, value: list[float], message: str) -> None:
    with pytest.raises(InputError, match=f"^{key}: {re.escape(message)}$"):
        load_config(None, {key: value})


def test_a_range_may_be_one_number() -> None:
    assert load_config(None, {"distill.temperature": [4, 4]}).distill.temperature == (4.0, 4.0)


@pytest.mark.parametrize(
    ("key", "value", "twice"),
    [
        ("distill.methods", ["dkd", "dkd"], "dkd"),
        ("distill.methods", ["dkd+crd", "crd+dkd"], "crd+dkd"),
        ("search.precisions", ["fp32", "int8", "fp32"], "fp32"),
        ("search.recipe", ["augment", "augment"], "augment"),
        ("chain.policy", ["dense", "dense"], "dense"),
        ("teacher.features", ["a", "a"], "a"),
    ],
)
def test_repeats(key: str, value: list[str], twice: str) -> None:
    with pytest.raises(InputError, match=f"^{key}: has {re.escape(repr(twice))} twice; name each once$"):
        load_config(None, {key: value})


@pytest.mark.parametrize("key", ["distill.methods", "search.precisions", "chain.policy", "teacher.features"])
def test_empty_lists(key: str) -> None:
    with pytest.raises(InputError, match=f"^{key} must have at least 1 items, got "):
        load_config(None, {key: []})


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"onnx": "t.onnx", "epochs": 3}, "epochs mean nothing to a teacher that is given (onnx)"),
        (
            {"factory": "a:b", "weights": "w.safetensors", "seed": 1, "architecture": {"w": 1}},
            "architecture and seed mean nothing to a teacher that is given (factory)",
        ),
        ({"space": "resnet", "preprocessing": "unit"}, "preprocessing is for teachers that are given"),
    ],
)
def test_options_of_another_kind_of_teacher(teacher: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_config(None, {"teacher": teacher})


def test_a_student_is_refused_where_students_are_searched(tmp_path: Path) -> None:
    config = SearchConfig(student={"width_1": 8})
    for command, call in (
        ("search", lambda: nas_kd.search(config, run_dir=tmp_path / "run")),
        ("profile", lambda: profile_space(config, 2)),
        ("search", lambda: refuse_student(config, "search")),
    ):
        with pytest.raises(InputError, match=rf"^student: means nothing to `nas-kd {command}`.* `nas-kd distill`$"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_search_options_are_refused_where_one_student_is_trained(tmp_path: Path) -> None:
    config = SearchConfig.model_validate({"search": {"trials": 9, "once_for_all": {"members": 3}, "seed": 4}})
    with pytest.raises(InputError) as caught:
        distill_config(config, run_dir=tmp_path / "run")
    assert str(caught.value) == (
        "search.once_for_all.members, search.trials: of no use to `nas-kd distill`, which trains one student; "
        "remove them, leave [search] out with --ignore search, or run `nas-kd search`"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_a_file_has_for_other_commands_is_noted() -> None:
    config = SearchConfig.model_validate(
        {
            "search": {"seed": 4, "precisions": ["int8"], "inherit": True},
            "budget": {"max_size_kb": 3},
            "chain": {"max_assistants": 0},
            "distill": {"methods": ["dkd", "none"], "strength": [1, 2]},
        }
    )
    assert refuse_search_options(config) == [
        "not used by `nas-kd distill`: chain.max_assistants, distill.strength",
        "of distill.methods the first is used: dkd",
    ]


def test_one_config_is_shared_by_leaving_out_what_a_command_refuses() -> None:
    shared = SearchConfig.model_validate(
        {"student": {"width_1": 8}, "search": {"trials": 9, "seed": 4, "precisions": ["int8"], "inherit": True}}
    )
    searched, distilled = ignoring(shared, ["student"], "search"), ignoring(shared, ["search"], "distill")
    refuse_student(searched, "search")
    assert refuse_search_options(distilled) == []
    assert searched == shared.model_copy(update={"student": None})
    assert distilled.student == {"width_1": 8}
    used = distilled.search
    assert (used.trials, used.seed, used.precisions, used.inherit) == (60, 4, ("int8",), True)
    assert ignoring(shared, ["student"], "profile").student is None


@pytest.mark.parametrize(
    ("section", "command", "refused"), [("search", "search", "student"), ("finalists", "distill", "search")]
)
def test_only_what_is_refused_can_be_left_out(section: str, command: str, refused: str) -> None:
    message = rf"^--ignore {section}: `nas-kd {command}` refuses no section but \[{refused}\]$"
    with pytest.raises(InputError, match=message):
        ignoring(SearchConfig(), [section], command)


def test_the_template_is_valid_for_every_command(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(commented_config())
    config = load_config(tmp_path / "c.toml")
    refuse_student(config, "search")
    assert refuse_search_options(config) == []
