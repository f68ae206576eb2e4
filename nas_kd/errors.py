"""Errors with messages for the user; the command line prints one line and returns an exit code."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Wrong input by the user; the message states what was given, what is allowed and what to do (exit code 2)."""


class CallbackError(InputError):
    """A callback raised an exception, which is chained; the message names the callback's class and the hook."""


class BudgetError(Exception):
    """The budget cannot be met by any candidate; the message names the closest ones (exit code 3)."""


class TrialError(Exception):
    """A candidate cannot be trained or exported; its trial fails with this reason and the search continues."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> InputError:
    """Make the error for an unknown name, with the nearest allowed name as a suggestion.

    Args:
        kind: what the name should denote, such as "method".
        given: the unknown name.
        allowed: the known names.
    """
    names = sorted(allowed)
    near = get_close_matches(given, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}"
    return InputError(f"unknown {kind} {given!r}; {hint}")
