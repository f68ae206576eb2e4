"""The run's log, `run.log`: what happens, warnings and messages of libraries, tracebacks; appended over resumes."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas_kd.context.callbacks import Callback, CallbackList, StopRun
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import BudgetError, InputError, TrialError
from nas_kd.results.run_record import NO_SCORE, RunRecord, TeacherRecord
from nas_kd.results.trial_record import TrialRecord

LOG = logging.getLogger("nas_kd")
EVENTS = logging.getLogger("nas_kd.run")  # what the command line shows, too
FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"
LIBRARIES = ("optuna", "torch")  # whose loggers keep their messages from the root logger


@contextmanager
def run_log(folder: RunFolder) -> Iterator[None]:
    """Write log messages and Python's warnings to the run's log inside, and the traceback of what ends it.

    Args:
        folder: of the run, which exists.
    """
    handler, root = _handler(folder.log), logging.getLogger()
    level, detached = LOG.level, _detached()
    captured = warnings.showwarning is getattr(logging, "_showwarning", None)  # by the user's program
    root.addHandler(handler)
    LOG.setLevel(min(LOG.level, logging.INFO) if LOG.level else logging.INFO)
    for logger in detached:
        logger.propagate = True
    logging.captureWarnings(True)
    try:
        yield
    except (InputError, TrialError, BudgetError) as error:
        LOG.error("%s", error, exc_info=error.__cause__ is not None)
        raise
    except StopRun as stop:
        LOG.info("stopped by a callback: %s", stop)
        raise
    except KeyboardInterrupt:
        LOG.info("interrupted")
        raise
    except Exception as error:
        LOG.exception("ended by an error")
        error.add_note(f"the traceback is in {folder.log}")
        raise
    finally:
        logging.captureWarnings(captured)
        for logger in detached:
            logger.propagate = False
        LOG.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def log_worker(folder: RunFolder) -> None:
    """Send all that this process, a worker of a run, logs or prints to the run's log from now on.

    Args:
        folder: of the run.
    """
    handler = _handler(folder.log)
    logging.getLogger().addHandler(handler)
    LOG.setLevel(logging.INFO)
    logging.captureWarnings(True)
    target = os.open(folder.log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):  # of libraries in C++, and of users' code
        os.dup2(target, descriptor)
    os.close(target)


def _detached() -> list[logging.Logger]:
    found = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith(LIBRARIES)]
    return [logger for logger in found if not logger.propagate]


def _handler(path: Path) -> logging.FileHandler:
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(FORMAT))
    return handler


class LoggedCallback(CallbackList):
    """Logs every event and passes it on."""

    def __init__(self, outer: Callback) -> None:
        """Log what `outer` receives."""
        super().__init__([outer])
        self._outer = outer

    def _call(self, hook: str, *event: object) -> None:
        describe = _DESCRIBED.get(hook)
        if describe is not None:
            EVENTS.info("%s", describe(*event))
        getattr(self._outer, hook)(*event)


def _teacher(record: TeacherRecord) -> str:
    accuracy = NO_SCORE if record.val is None else f"{record.val.mean:.4f}"
    return f"teacher: {record.description}, {accuracy} on validation"


def _trial(record: TrialRecord, _trials: Sequence[TrialRecord], hypervolume: float) -> str:
    accuracy = "" if record.val_accuracy is None else f", {record.val_accuracy:.4f} on validation"
    latency = "" if record.median_ms is None else f", {record.median_ms:.4g} ms"
    reason = f": {record.reason}" if record.reason else ""
    recipe = record.candidate.recipe
    method = ", ".join(filter(None, [recipe.method, recipe.teaching.describe()]))
    return (
        f"trial {record.number} ({record.id}): {record.status}{reason}; {record.description}, {method}"
        f"{accuracy}{latency}; hypervolume {hypervolume:.4f}"
    )


def _finish(run: RunRecord, finalists: Sequence[object]) -> str:
    return f"over: {run.state}, {len(run.trials)} trials, {len(finalists)} finalists"


_DESCRIBED: dict[str, Any] = {
    "on_start": lambda run_dir, resumed: f"{'resumed' if resumed else 'begun'}: {run_dir}",
    "on_stage": lambda text: f"stage: {text}",
    "on_note": lambda text: f"note: {text}",
    "on_teacher": _teacher,
    "on_search_start": lambda trials, _seconds: f"up to {trials} candidates",
    "on_trial_end": _trial,
    "on_finalist": lambda done, total, description: f"finalist {done} of {total}: {description}",
    "on_finish": _finish,
}
