"""What a run's study keeps beside its trials: the stage, results by name and the account of time."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, TypeVar

from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.study import Study

from nas_kd.nas.database import close_database
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Record

R = TypeVar("R", bound=Record)


class StudyAttributes:
    """The attributes of a study, written by one process."""

    def __init__(self, storage: RDBStorage, study: Study) -> None:
        """Read the attributes.

        Args:
            storage: the database, open for writing.
            study: in it.
        """
        self._storage, self._study = storage, study
        study.sampler = RandomSampler(seed=0)  # never used
        self._attributes: dict[str, Any] = dict(study.user_attrs)
        self._started = time.monotonic()
        self.count_elapsed(float(self._attributes.get("elapsed_s", 0.0)))

    def count_elapsed(self, seconds: float) -> None:
        """Count on from at least this wall clock of the run."""
        self._started = min(self._started, time.monotonic() - seconds)

    @property
    def elapsed_s(self) -> float:
        """Wall clock of the run, pauses between processes left out."""
        return time.monotonic() - self._started

    def left_s(self, minutes: float | None) -> float:
        """Seconds until the run has taken this many minutes; infinite for None, which is no limit."""
        return inf if minutes is None else minutes * 60 - self.elapsed_s

    @property
    def state(self) -> str:
        """The stage that the run has reached, see `RunState`."""
        return str(self._attributes.get("state", "searching"))

    @property
    def teacher(self) -> TeacherRecord | None:
        """The record of the first teacher; None until it is ready."""
        return self.load("teacher", TeacherRecord)

    def save(self, name: str, value: Record | str | Sequence[Any]) -> None:
        """Store one result of the run under `name`."""
        stored = value.model_dump(mode="json") if isinstance(value, Record) else value
        self._study.set_user_attr(name, stored)
        self._attributes[name] = stored

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds spent inside to the run's time account, under `what`."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add_seconds(what, time.monotonic() - started)

    def add_seconds(self, what: str, seconds: float) -> None:
        """Add seconds to the run's time account, under `what`."""
        account = dict(self._attributes.get("seconds", {}))
        account[what] = round(account.get(what, 0.0) + seconds, 3)
        self._study.set_user_attr("seconds", account)
        self._attributes["seconds"] = account

    def load(self, name: str, kind: type[R]) -> R | None:
        """Load a result stored under `name`; None if there is none."""
        return kind.model_validate(self._attributes[name]) if name in self._attributes else None

    def close(self) -> None:
        """Close the database and leave it as one file."""
        close_database(self._storage, written=True)
