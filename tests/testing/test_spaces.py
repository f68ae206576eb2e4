"""Spaces with one fault each are refused for that fault."""

import pytest

from nas_kd.testing import BrokenRule, check_space
from nas_kd.testing.rules import rule_text
from nas_kd.testing.spaces import RULES

from .wrong_spaces import WRONG, Right

SHAPES = ((1, 8, 8), (3, 12, 10))


@pytest.mark.parametrize("nested", [True, False])
def test_the_right_one_passes(nested: bool) -> None:
    check_space(Right, input_shapes=SHAPES, nested=nested)


@pytest.mark.parametrize(("space", "rule", "seen"), WRONG, ids=[wrong[0].__name__ for wrong in WRONG])
def test_wrong_ones_are_refused_for_their_fault(space: type[Right], rule: str, seen: str) -> None:
    with pytest.raises(BrokenRule) as caught:
        check_space(space, input_shapes=SHAPES)
    assert caught.value.rule.startswith(rule)
    assert seen in caught.value.seen
    assert str(caught.value).isprintable()


def test_nesting_is_asked_for_by_an_option() -> None:
    wrong = next(space for space, _, _ in WRONG if space.__name__ == "NotNested")
    check_space(wrong(), input_shapes=SHAPES, nested=False)


def test_every_rule_refuses_something() -> None:
    assert [text for text in map(rule_text, RULES) if not any(text.startswith(rule) for _, rule, _ in WRONG)] == []
