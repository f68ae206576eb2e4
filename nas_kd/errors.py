"""Errors with messages for the user; the command line prints one line and returns an exit code."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class InputError(ValueError):
    """Wrong input by the user; the message states what was given, what is allowed and what to do (exit code 2).

    Examples:
        >>> import nas_kd
        >>> try:
        ...     nas_kd.load_run("runs/nothing")
        ... except nas_kd.InputError as error:
        ...     print(error)
        runs/nothing: no such run folder
    """


class CallbackError(InputError):
    """A callback raised an exception, which is chained; the message names the callback's class and the hook.

    Examples:
        >>> import nas_kd, torch
        >>> class Log(nas_kd.Callback):
        ...     def on_epoch_end(self, event):
        ...         print(event.losses["cross_entropy"])
        >>> train = torch.randn(32, 8), torch.arange(32) % 2
        >>> nas_kd.distill(torch.nn.Linear(8, 2), train=train, method="none", epochs=1, callbacks=[Log()])
        Traceback (most recent call last):
        nas_kd.errors.CallbackError: callback Log.on_epoch_end raised KeyError: 'cross_entropy'
    """


class BudgetError(Exception):
    """The budget cannot be met by any candidate; the message names the closest ones (exit code 3).

    Examples:
        >>> import nas_kd
        >>> nas_kd.export_winner("runs/demo", "tiny.onnx", nas_kd.Budget(max_size_kb=0.1))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nas_kd.errors.BudgetError: no finalist meets the budget; closest: ...
    """


class TrialError(Exception):
    """A candidate cannot be trained or exported; its trial fails with this reason and the search continues.

    Examples:
        >>> import nas_kd, torch
        >>> train = torch.randn(32, 8), torch.arange(32) % 2
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
        >>> nas_kd.distill(network, train=train, method="none", epochs=9, learning_rate=1e30)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nas_kd.errors.TrialError: the loss became nan in epoch ...
    """


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


def printable(name: str | Path) -> str:
    """A name that fits into one line: control characters and bytes that are not UTF-8 as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(name))


def few(names: tuple[str, ...] | list[str], limit: int = 8) -> str:
    """The first names of a list that may be long, joined by commas."""
    return ", ".join(map(printable, names[:limit])) + (", ..." if len(names) > limit else "")
