"""Methods with one fault each are refused for that fault."""

from collections.abc import Callable
from typing import Any

import pytest

from nas_kd.testing import BrokenRule, check_method
from nas_kd.testing.methods import RULES
from nas_kd.testing.rules import rule_text

from .wrong_methods import WRONG, Right


def test_the_right_one_passes() -> None:
    check_method(Right)


@pytest.mark.parametrize(("method", "rule", "seen"), WRONG, ids=[wrong[0].__name__ for wrong in WRONG])
def test_wrong_ones_are_refused_for_their_fault(method: Callable[..., Any], rule: str, seen: str) -> None:
    with pytest.raises(BrokenRule) as caught:
        check_method(method)
    assert caught.value.rule.startswith(rule)
    assert seen in caught.value.seen
    assert str(caught.value).isprintable()


def test_every_rule_refuses_something() -> None:
    assert [text for text in map(rule_text, RULES) if not any(text.startswith(rule) for _, rule, _ in WRONG)] == []
