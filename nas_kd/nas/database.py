"""The study's file: an SQLite database in Optuna's format, written by one process and read by any."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.nas.sampler_view import DIRECTIONS
from nas_kd.nas.samplers.base import optuna_silenced
from nas_kd.results.candidate import Candidate
from nas_kd.results.trial_record import TrialRecord

SCHEMA = 3  # of records; 1: nas-kd 0.1; 2: sizes of files without their metadata
SCHEMA_ATTRIBUTE = "schema"
RUN = "run"  # attribute of the study and of each trial that this run has begun: others may add trials
CANDIDATE = "candidate"  # attribute of a trial
ADOPTED = "adopted"  # attribute of a trial that another program put into the study and this run evaluates
RECORD = "record"  # attribute of a trial


def create_database(folder: RunFolder, name: str) -> None:
    """Create the database beside its place and move it there, so that it is either whole or absent."""
    unfinished = folder.path / ".study.new"
    unfinished.unlink(missing_ok=True)
    with optuna_silenced():
        storage = _storage(unfinished)
        study = optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS)
        study.set_user_attr(RUN, uuid4().hex)
        study.set_user_attr(SCHEMA_ATTRIBUTE, SCHEMA)
    close_database(storage, written=False)
    unfinished.replace(folder.study)


def open_database(path: Path, *, writing: bool) -> RDBStorage:
    """Open the database.

    Args:
        path: of the file.
        writing: keep a write-ahead log beside it: safe against the death of the process, and quick to commit.
    """
    storage = _storage(path)

    def configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    if writing:
        sqlalchemy.event.listen(storage.engine, "connect", configure)
        storage.engine.dispose()  # there is a connection already, which was not configured
    return storage


def find_study(storage: RDBStorage, path: Path) -> Study:
    """Find a run's own study, which may have been renamed, in a file that may hold others.

    Args:
        storage: the open database.
        path: of its file.

    Raises:
        InputError: there is none.
    """
    studies = storage.get_all_studies()
    own = [study for study in studies if SCHEMA_ATTRIBUTE in study.user_attrs] or studies
    if not own:
        raise InputError(f"{path}: holds no study; restore the file, or begin anew in another --run-dir")
    first = min(own, key=lambda study: study._study_id)
    return optuna.load_study(study_name=first.study_name, storage=storage)


def study_attributes(folder: RunFolder) -> dict[str, Any]:
    """Read the attributes of a run's study; empty if there is none yet."""
    if not folder.study.exists():
        return {}
    with optuna_silenced():
        storage = open_database(folder.study, writing=False)
        attributes = dict(find_study(storage, folder.study).user_attrs)
    close_database(storage, written=False)
    return attributes


def close_database(storage: RDBStorage, *, written: bool) -> None:
    """Close the database and leave it as one file."""
    storage.remove_session()
    if written:
        # fails while another process reads; the next one that writes tries again
        with suppress(sqlalchemy.exc.OperationalError), storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    storage.engine.dispose()


def stored_candidate(trial: Trial) -> Candidate:
    """Read the candidate of a trial that an earlier process left under way."""
    return Candidate.from_json(trial.user_attrs[CANDIDATE])


def require_schema(folder: RunFolder, attributes: Mapping[str, Any]) -> None:
    """Refuse a study that another version has written.

    Args:
        folder: of the run.
        attributes: of the study.

    Raises:
        InputError: names the version that can read it.
    """
    found = attributes.get(SCHEMA_ATTRIBUTE, 1)
    if found != SCHEMA:
        older = "nas-kd 0.1" if found == 1 else "the nas-kd that began it"
        wanted = older if found < SCHEMA else "a newer nas-kd"
        raise InputError(
            f"{folder.path}: this run has records of schema {found}, this version reads {SCHEMA}; use {wanted}, "
            "or begin anew in another --run-dir"
        )


def is_own(trial: FrozenTrial, attributes: Mapping[str, Any]) -> bool:
    """Whether this run has begun a trial, and no other program has put it into the study.

    Args:
        trial: of the study.
        attributes: of the study; one that was created before runs marked their trials has no mark.
    """
    marked = RUN not in attributes or trial.user_attrs.get(RUN) == attributes[RUN]
    number = trial.user_attrs.get(RECORD, {}).get("number", trial.number)
    return CANDIDATE in trial.user_attrs and marked and number == trial.number


def adopt_trial(storage: RDBStorage, stored_id: int, drawn: FrozenTrial) -> None:
    """Make another program's trial one of this run; the candidate comes last, in case this process is killed.

    Args:
        storage: open for writing.
        stored_id: of the trial.
        drawn: the trial with all parameters and this run's attributes.
    """
    known = storage.get_trial(stored_id).params
    with suppress(UpdateFinishedTrialError):  # ended by the other program meanwhile
        for name, distribution in drawn.distributions.items():
            if name not in known:
                internal = distribution.to_internal_repr(drawn.params[name])
                storage.set_trial_param(stored_id, name, internal, distribution)
        for key in (ADOPTED, RUN, CANDIDATE):
            storage.set_trial_user_attr(stored_id, key, drawn.user_attrs[key])
        storage.set_trial_state_values(stored_id, TrialState.RUNNING)


def trial_records(trials: Iterable[FrozenTrial], attributes: Mapping[str, Any]) -> list[TrialRecord]:
    """Read the records of the run's own trials, each as corrected later if it was.

    Trials without a record were interrupted before they were judged, and are evaluated again.

    Args:
        trials: of the study.
        attributes: of the study.
    """
    own = [trial for trial in trials if is_own(trial, attributes)]
    stored = [attributes.get(corrected(t.number), t.user_attrs.get(RECORD)) for t in own]
    return [TrialRecord.model_validate(record) for record in stored if record is not None]


def corrected(number: int) -> str:
    """The study attribute that replaces the record of a trial that has ended, which can no longer be written to."""
    return f"corrected/{number}"


def _storage(path: Path) -> RDBStorage:
    """Connect to a file of any name: the path does not go through a URL, where `?`, `%` and braces have a meaning."""
    connect = partial(sqlite3.connect, path.resolve(), timeout=30, check_same_thread=False)
    return RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})
