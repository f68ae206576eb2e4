"""Devices: the built-in ones hold their contract on this machine, those with one fault each are refused for it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from nas_kd.latency.device_profile import usable_cores
from nas_kd.plugins import available
from nas_kd.testing import BrokenRule, check_device
from nas_kd.testing.devices import RULES, measures_or_refuses
from nas_kd.testing.rules import rule_text

from .wrong_devices import WRONG, Right


@pytest.mark.parametrize("name", available("device"))
def test_built_in_devices_hold_their_contract(name: str) -> None:
    profile = available("device")[name]
    assert profile.name == name
    check_device(profile)


def test_measuring_leaves_the_times_kept_on_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_KD_CACHE", str(tmp_path))
    assert measures_or_refuses(Right()) is None
    assert os.environ["NAS_KD_CACHE"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("NAS_KD_CACHE")
    assert measures_or_refuses(Right()) is None
    assert "NAS_KD_CACHE" not in os.environ


@pytest.mark.parametrize("missing", ["cores", "provider", "version"])
def test_a_device_that_this_machine_cannot_provide_passes_by_a_clean_refusal(missing: str) -> None:
    absent = next(p for p in onnxruntime.get_all_providers() if p not in onnxruntime.get_available_providers())
    changes: dict[str, Any] = {
        "cores": {"threads": usable_cores() + 1},
        "provider": {"provider": absent},
        "version": {"onnxruntime": "<1"},
    }
    check_device(replace(Right(), **changes[missing]))


@pytest.mark.parametrize(("profile", "rule", "seen"), WRONG, ids=[f"{type(w[0]).__name__}: {w[2]}" for w in WRONG])
def test_wrong_ones_are_refused_for_their_fault(profile: Any, rule: str, seen: str) -> None:
    with pytest.raises(BrokenRule) as caught:
        check_device(profile)
    assert caught.value.rule.startswith(rule)
    assert seen in caught.value.seen
    assert str(caught.value).isprintable()


def test_every_rule_refuses_something() -> None:
    assert [text for text in map(rule_text, RULES) if not any(text.startswith(rule) for _, rule, _ in WRONG)] == []
