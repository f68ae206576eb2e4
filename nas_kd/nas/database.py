"""The study's file: an SQLite database in Optuna's format, written by one process and read by any."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial

from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.nas.sampler_view import DIRECTIONS
from nas_kd.nas.samplers.base import optuna_silenced
from nas_kd.results.candidate import Candidate
from nas_kd.results.trial_record import TrialRecord

SCHEMA = 2  # of records; 1: nas-kd 0.1
SCHEMA_ATTRIBUTE = "schema"
CANDIDATE = "candidate"  # attribute of a trial


def create_database(folder: RunFolder, name: str) -> None:
    """Create the database beside its place and move it there, so that it is either whole or absent."""
    unfinished = folder.path / ".study.new"
    unfinished.unlink(missing_ok=True)
    with optuna_silenced():
        storage = RDBStorage(_url(unfinished))
        study = optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS)
        study.set_user_attr(SCHEMA_ATTRIBUTE, SCHEMA)
    close_database(storage, written=False)
    unfinished.replace(folder.study)


def open_database(path: Path, *, writing: bool) -> RDBStorage:
    """Open the database.

    Args:
        path: of the file.
        writing: keep a write-ahead log beside it: safe against the death of the process, and quick to commit.
    """
    storage = RDBStorage(_url(path), engine_kwargs={"connect_args": {"timeout": 30}})

    def configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    if writing:
        sqlalchemy.event.listen(storage.engine, "connect", configure)
        storage.engine.dispose()  # there is a connection already, which was not configured
    return storage


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
        wanted = "nas-kd 0.1" if found == 1 else "a newer nas-kd"
        raise InputError(
            f"{folder.path}: this run has records of schema {found}, this version reads {SCHEMA}; use {wanted}"
        )


def trial_records(trials: Iterable[FrozenTrial], attributes: Mapping[str, Any]) -> list[TrialRecord]:
    """Read the trials' records, each as corrected later if it was.

    Trials without a record were interrupted before they were judged, and are evaluated again.

    Args:
        trials: of the study.
        attributes: of the study.
    """
    stored = [(t.number, t.user_attrs["record"]) for t in trials if "record" in t.user_attrs]
    return [TrialRecord.model_validate(attributes.get(corrected(n), r)) for n, r in stored]


def corrected(number: int) -> str:
    """The study attribute that replaces the record of a trial that has ended, which can no longer be written to."""
    return f"corrected/{number}"


def _url(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"
