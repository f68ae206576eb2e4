"""The study's file: an SQLite database that Optuna keeps, written by one process, read by any."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from nas_kd.context.run_folder import RunFolder
from nas_kd.nas.sampler_view import DIRECTIONS
from nas_kd.nas.samplers import optuna_silenced
from nas_kd.results.records import TrialRecord


def create_database(folder: RunFolder, name: str) -> None:
    """Make the database beside its place and move it there, so that it is either whole or absent."""
    unfinished = folder.path / ".study.new"
    unfinished.unlink(missing_ok=True)
    with optuna_silenced():
        storage = RDBStorage(_url(unfinished))
        optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS)
    close_database(storage, written=False)
    unfinished.replace(folder.study)


def open_database(path: Path, *, writing: bool) -> RDBStorage:
    """To write, with a log beside it: durable against the death of the process, and quick to commit."""
    storage = RDBStorage(_url(path), engine_kwargs={"connect_args": {"timeout": 30}})

    def configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    if writing:
        sqlalchemy.event.listen(storage.engine, "connect", configure)
        storage.engine.dispose()  # there is a connection already, which was not configured
    return storage


def close_database(storage: RDBStorage, *, written: bool) -> None:
    """Let go of it, and leave it as one file."""
    storage.remove_session()
    if written:
        # not while somebody reads; whoever opens it next to write tries again
        with suppress(sqlalchemy.exc.OperationalError), storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    storage.engine.dispose()


def trial_records(trials: Iterable[FrozenTrial], attributes: Mapping[str, Any]) -> list[TrialRecord]:
    """What the attributes of trials say, and of those told already what their study has learnt of them since.

    Trials without a record were killed before they were judged, and are evaluated again.
    """
    stored = [(t.number, t.user_attrs["record"]) for t in trials if "record" in t.user_attrs]
    return [TrialRecord.model_validate(attributes.get(corrected(n), r)) for n, r in stored]


def corrected(number: int) -> str:
    """The attribute of a study with the record of a trial that was told already, which no longer can be written to."""
    return f"corrected/{number}"


def _url(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"
