"""Errors meant for the person at the keyboard; the command line turns them into one line and an exit code."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user gave is wrong: the message says what, what is allowed and what to do (exit code 2)."""


class CallbackError(InputError):
    """A callback raised an exception, which is chained; the message names the callback's class and the hook."""


class BudgetError(Exception):
    """No candidate can meet the budget; the message names the closest ones (exit code 3)."""


class TrialError(Exception):
    """One candidate could not be trained or exported; its trial fails with this reason and the search goes on."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> InputError:
    """An `InputError` for an unknown name, with the nearest allowed one as a suggestion."""
    names = sorted(allowed)
    near = get_close_matches(given, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}"
    return InputError(f"unknown {kind} {given!r}; {hint}")
