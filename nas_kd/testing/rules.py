"""What a contract consists of: rules, each a function whose docstring says what must hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

LONGEST = 300  # characters of what was seen
T = TypeVar("T")


class BrokenRule(AssertionError):
    """A plug-in breaks a rule of its contract; the message is one line with the plug-in, the rule and what was seen.

    Attributes:
        subject: the plug-in, as in `method 'mine'`.
        rule: what must hold.
        seen: what was found instead.

    Examples:
        >>> print(BrokenRule("method 'mine'", "every term is finite", "term 'mse' is nan"))
        method 'mine' breaks the rule "every term is finite": term 'mse' is nan
    """

    def __init__(self, subject: str, rule: str, seen: str) -> None:
        super().__init__(subject, rule, seen)
        self.subject, self.rule, self.seen = subject, rule, seen

    def __str__(self) -> str:
        return f'{self.subject} breaks the rule "{self.rule}": {self.seen}'


def check_rules(subject: str, rules: Sequence[Callable[[T], str | None]], case: T) -> None:
    """Check rules in their order and stop at the first that is broken.

    Args:
        subject: the plug-in, for the message.
        rules: each returns what it saw instead of what must hold, or None; its docstring's first line is the rule.
        case: what every rule is given.

    Raises:
        BrokenRule: a rule returned what it saw, or the plug-in raised an error under it.
    """
    for rule in rules:
        try:
            seen = rule(case)
        except Exception as error:  # a plug-in may raise anything
            raise BrokenRule(subject, rule_text(rule), one_line(error)) from error
        if seen is not None:
            raise BrokenRule(subject, rule_text(rule), " ".join(seen.split())[:LONGEST])


def rule_text(rule: Callable[[T], str | None]) -> str:
    """The first line of a rule's docstring without its full stop; its name where Python drops docstrings."""
    lines = (rule.__doc__ or "").strip().splitlines()
    return lines[0].removesuffix(".") if lines else rule.__name__.replace("_", " ")


def one_line(error: BaseException) -> str:
    """An error's type and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]


def fault_of_line(what: str, text: object, longest: int | None = None) -> str | None:
    """What is wrong with a text that must be one printable line, or None.

    Args:
        what: its name, for the message.
        text: the text.
        longest: allowed characters; None: any number.
    """
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        return f"{what} must be one line of text, got {text!r}"
    if longest is not None and len(text) > longest:
        return f"{what} has {len(text)} characters, allowed: {longest}"
    return None


def first_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that the two do not share bit for bit, or None."""
    for name in (*a, *(name for name in b if name not in a)):
        if name not in a or name not in b:
            return name
        if a[name].dtype != b[name].dtype or not torch.equal(a[name], b[name]):
            return name
    return None


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies off the graph, to be compared with what becomes of the originals."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
