"""The package as others use it: examples in docstrings run, no test runner is needed, messages are one line."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest
import torch

import nas_kd.testing
from nas_kd.testing import BrokenRule
from nas_kd.testing.rules import check_rules, fault_of_line, first_difference, rule_text

MODULES = [module.name for module in pkgutil.iter_modules(nas_kd.testing.__path__, "nas_kd.testing.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_function_has_an_example() -> None:
    assert [n for n in nas_kd.testing.__all__ if ">>>" not in (getattr(nas_kd.testing, n).__doc__ or "")] == []


def test_no_test_runner_is_needed() -> None:
    code = "import sys; sys.modules['pytest'] = sys.modules['hypothesis'] = None; import nas_kd.testing"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def holds(_: object) -> str | None:
    """This rule holds."""
    return None


def all_is_well(_: object) -> str | None:
    return None


def is_broken(case: object) -> str | None:
    """This rule is broken."""
    return f"{case} was\n  seen"


def fails(_: object) -> str | None:
    """This rule's plug-in fails."""
    raise KeyError("one\ntwo")


def test_the_first_broken_rule_is_named_with_what_was_seen() -> None:
    check_rules("thing 'x'", [holds, holds], 1)
    with pytest.raises(BrokenRule) as caught:
        check_rules("thing 'x'", [holds, is_broken, fails], 1)
    assert str(caught.value) == "thing 'x' breaks the rule \"This rule is broken\": 1 was seen"
    assert isinstance(caught.value, AssertionError)


def test_an_error_of_the_plugin_is_named_and_kept() -> None:
    with pytest.raises(BrokenRule) as caught:
        check_rules("thing 'x'", [fails], 1)
    assert caught.value.seen == r"KeyError: 'one\ntwo'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_rule_without_docstring_has_its_name() -> None:
    assert rule_text(holds) == "This rule holds"
    assert rule_text(all_is_well) == "all is well"


@pytest.mark.parametrize(("text", "fault"), [("fine", None), ("", "''"), (None, "None"), ("a\nb", r"'a\nb'")])
def test_lines(text: object, fault: str | None) -> None:
    found = fault_of_line("summary", text)
    assert found is None if fault is None else found == f"summary must be one line of text, got {fault}"


def test_lines_have_a_longest() -> None:
    assert fault_of_line("summary", "123456", 6) is None
    assert fault_of_line("summary", "1234567", 6) == "summary has 7 characters, allowed: 6"


def test_first_difference() -> None:

    one, other = torch.ones(2), torch.zeros(2)
    assert first_difference({"a": one, "b": other}, {"a": one.clone(), "b": other}) is None
    assert first_difference({"a": one, "b": other}, {"a": one, "b": one}) == "b"
    assert first_difference({"a": one}, {"a": one, "c": one}) == "c"
    assert first_difference({"a": one, "d": one}, {"a": one}) == "d"
    assert first_difference({"a": one}, {"a": one.double()}) == "a"
