"""A config in JSON or YAML is answered with how it begins in TOML."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.config.loading import load_config
from nas_kd.config.other_formats import _toml_lines, describe_other_format
from nas_kd.errors import InputError

CONFIG: dict[str, Any] = {
    "name": "mine",
    "data": {"source": "npz", "path": "x.npz", "train_rows": None},
    "teacher": [{"epochs": 3}, {"space": "resnet", "architecture": {"width_1": 8}}],
    "distill": {"methods": ["dkd", "none"], "calibrate": True, "learning_rate": 0.1},
}
YAML = """\
---
# a config
name: mine
data:
  source: npz  # arrays
  path: "x.npz"
distill:
    methods:
        - dkd
        - none
    epochs: 20
search: {}
"""


def message(text: str, name: str, tmp_path: Path) -> str:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / name)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{tmp_path / name}: ")


def test_json(tmp_path: Path) -> None:
    expected = 'this is JSON; nas-kd reads TOML, in which it begins: name = "mine" / [data] / source = "npz" / ...'
    assert message(json.dumps(CONFIG), "config.json", tmp_path) == expected
    assert message(json.dumps(CONFIG, indent=2), "config.toml", tmp_path) == expected
    assert message("{broken", "c.json", tmp_path) == "this is no TOML but JSON"


def test_yaml(tmp_path: Path) -> None:
    expected = 'this is YAML; nas-kd reads TOML, in which it begins: name = "mine" / [data] / source = "npz" / ...'
    assert message(YAML, "config.yaml", tmp_path) == expected
    assert message(YAML, "config.toml", tmp_path) == expected
    assert message("- a\n- b\n", "c.yml", tmp_path) == "this is no TOML but YAML"


def test_lists_and_values_of_yaml() -> None:
    text = "distill:\n  methods:\n  - dkd\n  - 'none'\n  calibrate: True\n"
    assert describe_other_format(text, "c") == (
        'this is YAML; nas-kd reads TOML, in which it begins: [distill] / methods = ["dkd", "none"] / calibrate = true'
    )


@pytest.mark.parametrize("text", ["epochs = ", "[data\nx = 1", "<xml/>", "a = {b: 1}", "", "just words"])
def test_other_mistakes_stay_what_they_are(text: str) -> None:
    assert describe_other_format(text, "config.toml") is None


def test_what_is_shown_is_the_same_config() -> None:
    shown = tomllib.loads("\n".join(_toml_lines(CONFIG)))
    expected = {**CONFIG, "data": {"source": "npz", "path": "x.npz"}}
    assert shown == expected


@given(st.text(alphabet="ab:- \n#[]{},'\"1.~", max_size=60), st.sampled_from(["c.toml", "c.yaml", "c.json"]))
def test_any_text_is_answered(text: str, name: str) -> None:
    found = describe_other_format(text, name)
    assert found is None or "\n" not in found
