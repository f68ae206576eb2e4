"""What is a candidate's failure, and what ends the run."""

import errno

import pytest
import torch

from nas_kd.context.callbacks import StopRun
from nas_kd.errors import BudgetError, CallbackError, InputError, TrialError
from nas_kd.kd.candidate_failure import as_trial_error

FAILURES: list[tuple[BaseException, str]] = [
    (KeyError("width"), "KeyError: 'width'"),
    (RuntimeError("first line\nsecond"), "RuntimeError: first line"),
    (MemoryError(), "MemoryError"),
    (AssertionError("odd"), "AssertionError: odd"),
    (RecursionError("too deep"), "RecursionError: too deep"),
    (SystemExit(1), r"SystemExit: it called exit\(1\)"),
    (FileNotFoundError(errno.ENOENT, "No such file", "table.npy"), "FileNotFoundError: .* 'table.npy'"),
    (InputError("depth must be 1 to 3"), "depth must be 1 to 3"),
    (TrialError("the loss became nan"), "the loss became nan"),
]
ENDS = [
    KeyboardInterrupt(),
    StopRun("enough"),
    CallbackError("callback Log.on_epoch_end raised KeyError"),
    BudgetError("no candidate"),
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError(errno.EACCES, "Permission denied"),
]


def fail(error: BaseException) -> None:
    """As a user's code may: it leaves gradients off."""
    torch.set_grad_enabled(False)
    raise error


@pytest.mark.parametrize(("error", "reason"), FAILURES, ids=lambda value: type(value).__name__)
def test_failures(error: BaseException, reason: str) -> None:
    with pytest.raises(TrialError, match=rf"\A{reason}\Z"), as_trial_error():
        fail(error)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_what_ends_the_run(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, as_trial_error():
        raise error
    assert caught.value is error


def test_inputs_of_the_run_are_not_the_candidates() -> None:
    with pytest.raises(InputError, match="token"), as_trial_error(inputs=False):
        raise InputError("the device agent does not accept the token")
