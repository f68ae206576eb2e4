"""Whatever is raised for one candidate is that candidate's failure: the search records the reason and goes on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from nas_kd.context.callbacks import StopRun
from nas_kd.errors import BudgetError, CallbackError, InputError, TrialError
from nas_kd.user_code import describe_error, unchanged_settings

# What an operating system reports of the machine rather than of the candidate: the next one would fare no better.
_OF_THE_MACHINE = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EMFILE", "ENFILE", "EACCES", "EPERM", "ESTALE", "ENODEV")
    if hasattr(errno, name)
)


@contextmanager
def as_trial_error(*, inputs: bool = True) -> Iterator[None]:
    """Turn what a space, a network, a method, torch or an exporter raises inside into `TrialError`.

    Global settings that they change are put back. A user who stops the run, a callback that fails and a full disk are
    not the candidate's failure and pass through.

    Args:
        inputs: whether `InputError` is the candidate's failure, too; not where a device may raise it.

    Raises:
        TrialError: says what was raised, in one line.
    """
    with unchanged_settings():
        try:
            yield
        except (TrialError, BudgetError, CallbackError, StopRun):
            raise
        except InputError as error:
            if not inputs:
                raise
            raise TrialError(str(error)) from error
        except OSError as error:
            if error.errno in _OF_THE_MACHINE:
                raise
            raise TrialError(describe_error(error)) from error
        except (Exception, SystemExit) as error:
            raise TrialError(describe_error(error)) from error
