"""The study is the record of a run: every trial and every result is an Optuna attribute, read back by `read_run`."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
import sqlalchemy
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_kd.candidate import Candidate
from nas_kd.config import Budget, Sampler
from nas_kd.config_file import load_config
from nas_kd.errors import InputError
from nas_kd.pipeline.budget import excess
from nas_kd.pipeline.folder import RunFolder, read_json
from nas_kd.pipeline.sampling import make_sampler, quiet_optuna
from nas_kd.record import (
    DatasetRecord,
    DeviceRecord,
    FinalistRecord,
    Record,
    RunRecord,
    TeacherRecord,
    TrialRecord,
)

R = TypeVar("R", bound=Record)
Direction = Literal["maximize", "minimize"]
DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize", "minimize")  # validation accuracy, bytes, ms
CONSTRAINT = "budget"


class RunStudy:
    """One run's Optuna study, written by one process.

    Candidates are drawn from a copy in memory, and a trial goes to the database in one piece once its candidate is
    known: drawing there would cost a transaction a parameter.
    """

    def __init__(self, folder: RunFolder, name: str, budget: Budget) -> None:
        self._budget = budget
        if not folder.study.exists():
            _create(folder, name)
        with quiet_optuna():
            self._storage = _storage(folder.study)
            self._study = optuna.load_study(study_name=None, storage=self._storage)
            self._study.sampler = RandomSampler(seed=0)  # never asked
            self._memory = optuna.create_study(directions=DIRECTIONS, sampler=RandomSampler(seed=0))
        stored = self._study.get_trials(deepcopy=False)
        self._memory.add_trials(stored)
        self.records: list[TrialRecord] = [r for t in stored if (r := trial_record(t)) is not None]
        self._by_id = {r.id: r for r in self.records if r.fate != "duplicate"}
        self._attributes: dict[str, Any] = dict(self._study.user_attrs)
        running = self._memory.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.interrupted = [Trial(self._memory, t._trial_id) for t in running]
        earlier = max((r.elapsed_s for r in self.records), default=0.0)
        self._started = time.monotonic() - max(earlier, float(self._attributes.get("elapsed_s", 0.0)))

    def ask(self, sampler: Sampler, root_seed: int) -> Trial:
        """A new trial, whose sampler depends on the seed and on how many there are; `begin` stores it."""
        trials = self._memory.get_trials(deepcopy=False)
        space = trials[0].distributions if trials else {}
        first: list[dict[str, Any]] = self._attributes.get("first", [])
        with quiet_optuna():
            self._memory.sampler = make_sampler(sampler, root_seed, len(trials), space)
            if len(trials) < len(first):
                self._memory.enqueue_trial(first[len(trials)])
            return self._memory.ask()

    def begin(self, trial: Trial, candidate: Candidate) -> None:
        """Store a trial and its candidate, before any work on it."""
        trial.set_user_attr("candidate", candidate.to_json())
        self._study.add_trial(self._memory.get_trials(deepcopy=False)[trial.number])

    @property
    def is_new(self) -> bool:
        """Whether nothing was proposed yet."""
        return not self._memory.get_trials(deepcopy=False)

    @property
    def distinct(self) -> int:
        """Candidates tried so far, duplicates left out."""
        return len(self._by_id)

    def find(self, candidate_id: str) -> TrialRecord | None:
        """The finished trial of this candidate."""
        return self._by_id.get(candidate_id)

    @property
    def elapsed_s(self) -> float:
        """Wall clock of the run, pauses between processes left out."""
        return time.monotonic() - self._started

    def tell(self, trial: Trial, record: TrialRecord) -> TrialRecord:
        """Store what became of a trial; returns the record with the time filled in."""
        record = self._told(trial, record)
        costs = record.costs
        stored_id = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, trial.number)
        with quiet_optuna():
            stored = Trial(self._study, stored_id)
            stored.set_user_attr("record", record.model_dump(mode="json"))
            stored.set_constraint(CONSTRAINT, -1.0 if costs is None else excess(costs, self._budget))
            self._study.tell(trial.number, **_outcome(record))
        return record

    def tell_duplicate(self, trial: Trial, candidate: Candidate, twin: TrialRecord) -> None:
        """Store that a trial proposed what an earlier one had, with that one's results."""
        changed = {"number": trial.number, "fate": "duplicate", "duplicate_of": twin.number, "seconds": {}}
        trial.set_user_attr("candidate", candidate.to_json())
        self._told(trial, twin.model_copy(update=changed))
        self._study.add_trial(self._memory.get_trials(deepcopy=False)[trial.number])

    def _told(self, trial: Trial, record: TrialRecord) -> TrialRecord:
        """Tell the copy in memory."""
        record = record.model_copy(update={"elapsed_s": round(self.elapsed_s, 3)})
        costs = record.costs
        trial.set_user_attr("record", record.model_dump(mode="json"))
        with quiet_optuna():
            trial.set_constraint(CONSTRAINT, -1.0 if costs is None else excess(costs, self._budget))
            self._memory.tell(trial.number, **_outcome(record))
        self.records.append(record)
        self._by_id.setdefault(record.id, record)
        return record

    @property
    def state(self) -> str:
        """How far the run has come."""
        return str(self._attributes.get("state", "searching"))

    @property
    def teacher(self) -> TeacherRecord | None:
        """The teacher, as first recorded."""
        return self.load("teacher", TeacherRecord)

    def save(self, name: str, value: Record | str | Sequence[Any]) -> None:
        """Store one result of the run under `name`."""
        stored = value.model_dump(mode="json") if isinstance(value, Record) else value
        self._study.set_user_attr(name, stored)
        self._attributes[name] = stored

    @contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """Add the time spent inside to the run's account of where time went."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.spent(what, time.monotonic() - started)

    def spent(self, what: str, seconds: float) -> None:
        """Add to the run's account of where time went."""
        account = dict(self._attributes.get("seconds", {}))
        account[what] = round(account.get(what, 0.0) + seconds, 3)
        self._study.set_user_attr("seconds", account)
        self._attributes["seconds"] = account

    def load(self, name: str, kind: type[R]) -> R | None:
        """A result stored earlier, or None."""
        return kind.model_validate(self._attributes[name]) if name in self._attributes else None

    def close(self) -> None:
        """Let go of the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()


def _outcome(record: TrialRecord) -> dict[str, Any]:
    """What Optuna is told: the three objectives, or a state without them."""
    latency = record.costs.latency_ms if record.costs else None
    if record.val_accuracy is None or record.costs is None or latency is None:
        return {"state": TrialState.FAIL if record.fate == "failed" else TrialState.PRUNED}
    values = (record.val_accuracy, float(record.costs.size_bytes), latency.p50)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"objectives must be finite, got {values}")
    return {"values": values}


def _create(folder: RunFolder, name: str) -> None:
    """Make the database beside its place and move it there, so that it is either whole or absent."""
    unfinished = folder.path / ".study.new"
    unfinished.unlink(missing_ok=True)
    with quiet_optuna():
        storage = optuna.storages.RDBStorage(f"sqlite:///{unfinished.resolve()}")
        optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS)
    storage.remove_session()
    storage.engine.dispose()
    unfinished.replace(folder.study)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """SQLite with a write-ahead log: durable against the death of the process, and quick to commit."""
    url = f"sqlite:///{path.resolve()}"
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 30}})

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    return storage


def trial_record(trial: FrozenTrial) -> TrialRecord | None:
    """What a finished trial's attributes say; one that was killed on the way to being told is evaluated again."""
    stored = trial.user_attrs.get("record")
    return TrialRecord.model_validate(stored) if stored is not None and trial.state.is_finished() else None


def read_run(folder: RunFolder) -> RunRecord:
    """The whole run as far as it has come; nothing is written.

    Raises:
        InputError: the folder is not a run's, or its study cannot be read.
    """
    folder.require_run()
    config = load_config(folder.config)
    try:
        with quiet_optuna():
            storage = _storage(folder.study)
            study = optuna.load_study(study_name=None, storage=storage)
            trials = study.get_trials(deepcopy=False)
            attributes = dict(study.user_attrs)
    except (sqlalchemy.exc.SQLAlchemyError, KeyError, ValueError) as error:
        raise InputError(f"{folder.study}: cannot be read as a study: {error}") from error
    storage.remove_session()
    storage.engine.dispose()
    records = tuple(sorted((r for t in trials if (r := trial_record(t))), key=lambda r: r.number))
    environment = read_json(folder.environment)
    return RunRecord(
        name=study.study_name,
        run_dir=str(folder.path),
        state=attributes.get("state", "searching"),
        message=attributes.get("message"),
        config=_public(config.model_dump(exclude_none=True)),
        dataset=_maybe(attributes, "dataset", DatasetRecord),
        device=_maybe(attributes, "device", DeviceRecord),
        teacher=_maybe(attributes, "teacher", TeacherRecord),
        other_teachers=tuple(
            TeacherRecord.model_validate(v) for k, v in sorted(attributes.items()) if k.startswith("teacher/")
        ),
        trials=records,
        finalists=tuple(
            FinalistRecord.model_validate(v) for k, v in sorted(attributes.items()) if k.startswith("finalist/")
        ),
        environment=environment,
        seconds=_where_time_went(attributes, records),
        warnings=tuple(attributes.get("warnings", ())),
        command=environment.get("command", ""),
    )


def _public(value: Any) -> Any:
    """The config as a report may show it: of paths only the last part, which says what it is and not where it lies."""
    if isinstance(value, Mapping):
        return {k: _public(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_public(v) for v in value]
    return value.name if isinstance(value, Path) else value


def _maybe(attributes: Mapping[str, Any], name: str, kind: type[R]) -> R | None:
    return kind.model_validate(attributes[name]) if name in attributes else None


def _where_time_went(attributes: Mapping[str, Any], trials: tuple[TrialRecord, ...]) -> dict[str, float]:
    seconds: dict[str, float] = dict(attributes.get("seconds", {}))
    for trial in trials:
        for what, spent in trial.seconds.items():
            seconds[what] = seconds.get(what, 0.0) + spent
    return seconds
