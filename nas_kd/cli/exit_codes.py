"""Exit codes of the command line: 0 done, 2 bad input, 3 budget out of reach, 130 interrupted; 1 a fault of nas-kd."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENAMETOOLONG
from tempfile import NamedTemporaryFile
from traceback import format_exception

import typer

from nas_kd.errors import BudgetError, InputError, TrialError


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """Turn errors inside into one line for the user and the exit code that it stands for."""
    try:
        yield
    except (InputError, TrialError) as error:
        _leave(str(error), 2)
    except BudgetError as error:
        _leave(str(error), 3)
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from here", 130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = "" if error.errno == ENAMETOOLONG else "; nothing finished is lost, the same command goes on"
        _leave(f"{where}{error.strerror or error}{advice}", 2)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        _leave(f"{type(error).__name__}: {error}; this is a fault of nas-kd or of a plug-in: {_traceback(error)}", 1)


def _traceback(error: Exception) -> str:
    """Say where the traceback is; one that is in no run's log is written to a temporary file."""
    if notes := getattr(error, "__notes__", ()):
        return str(notes[-1])
    with NamedTemporaryFile("w", prefix="nas-kd-", suffix=".log", delete=False, errors="backslashreplace") as file:
        file.writelines(format_exception(error))
    return f"the traceback is in {file.name}"


def _leave(message: str, code: int) -> None:
    prefix = "" if code > 2 else "error: "
    sys.stderr.write(f"{prefix}{' '.join(message.split())}\n")
    raise typer.Exit(code)
