"""The study is the record of a run: every trial and every result is an Optuna attribute, read back by `read_run`."""

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import optuna
import sqlalchemy
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_kd.config import Budget, Sampler
from nas_kd.config_file import load_config
from nas_kd.errors import InputError
from nas_kd.pipeline.budget import excess
from nas_kd.pipeline.folder import RunFolder, read_json
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
STARTUP_TRIALS = 12
VOID = "void"  # a trial that was killed before its candidate was complete


def make_sampler(name: Sampler, root_seed: int, number: int) -> BaseSampler:
    """A fresh sampler for proposal `number`: a resumed run proposes what the uninterrupted one would have."""
    seed = int(np.random.SeedSequence([root_seed, number]).generate_state(1)[0])
    match name:
        case "tpe":
            return TPESampler(n_startup_trials=STARTUP_TRIALS, multivariate=True, seed=seed)
        case "nsga2":
            return NSGAIISampler(population_size=STARTUP_TRIALS, seed=seed)
        case "nsga3":
            return NSGAIIISampler(population_size=STARTUP_TRIALS, seed=seed)
        case "gp":
            return GPSampler(n_startup_trials=STARTUP_TRIALS, seed=seed)
        case "random":
            return RandomSampler(seed=seed)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna's log lines and its notices about experimental parts, which a user can do nothing about, left out."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


class RunStudy:
    """One run's Optuna study, written by one process."""

    def __init__(self, folder: RunFolder, name: str, budget: Budget) -> None:
        self._budget = budget
        if not folder.study.exists():
            _create(folder, name)
        with quiet_optuna():
            self._storage = _storage(folder.study)
            self._study = optuna.load_study(study_name=None, storage=self._storage)
        frozen = self._study.get_trials(deepcopy=False)
        self.records: list[TrialRecord] = [r for t in frozen if (r := trial_record(t)) is not None]
        self._by_id = {r.id: r for r in self.records if r.fate != "duplicate"}
        self._asked = sum(VOID not in t.user_attrs and t.state != TrialState.WAITING for t in frozen)
        self._attributes: dict[str, Any] = dict(self._study.user_attrs)
        self.interrupted = self._adopt()
        earlier = max((r.elapsed_s for r in self.records), default=0.0)
        self._started = time.monotonic() - max(earlier, float(self._attributes.get("elapsed_s", 0.0)))

    def ask(self, sampler: Sampler, root_seed: int) -> Trial:
        """A new trial, whose sampler depends on the seed and on how many were asked before."""
        with quiet_optuna():
            self._study.sampler = make_sampler(sampler, root_seed, self._asked)
            self._asked += 1
            return self._study.ask()

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Propose these parameters next."""
        self._study.enqueue_trial(dict(params), skip_if_exists=True)

    @property
    def is_new(self) -> bool:
        """Whether nothing was asked yet."""
        return self._asked == 0

    @property
    def distinct(self) -> int:
        """Candidates tried so far, duplicates left out."""
        return len(self._by_id)

    def find(self, candidate_id: str) -> TrialRecord | None:
        """The finished trial of this candidate."""
        return self._by_id.get(candidate_id)

    def _adopt(self) -> list[Trial]:
        """Trials that were under way when an earlier process died and whose candidate is known; others are voided."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        adopted = []
        for frozen in running:
            self._study.sampler = RandomSampler(seed=0)
            trial = Trial(self._study, frozen._trial_id)
            if "candidate" in frozen.user_attrs:
                adopted.append(trial)
            else:
                trial.set_user_attr(VOID, True)
                self._study.tell(trial, state=TrialState.FAIL)
                self._asked -= 1
        return adopted

    @property
    def elapsed_s(self) -> float:
        """Wall clock of the run, pauses between processes left out."""
        return time.monotonic() - self._started

    def tell(self, trial: Trial, record: TrialRecord) -> TrialRecord:
        """Store what became of a trial; returns the record with the time filled in."""
        record = record.model_copy(update={"elapsed_s": round(self.elapsed_s, 3)})
        trial.set_user_attr("record", record.model_dump(mode="json"))
        costs, latency = record.costs, record.costs.latency_ms if record.costs else None
        with quiet_optuna():
            trial.set_constraint("budget", -1.0 if costs is None else excess(costs, self._budget))
            if record.val_accuracy is not None and costs is not None and latency is not None:
                values = (record.val_accuracy, float(costs.size_bytes), latency.p50)
                if not all(map(math.isfinite, values)):
                    raise ValueError(f"objectives must be finite, got {values}")
                self._study.tell(trial, values)
            else:
                self._study.tell(trial, state=TrialState.FAIL if record.fate == "failed" else TrialState.PRUNED)
        self.records.append(record)
        self._by_id.setdefault(record.id, record)
        return record

    def tell_duplicate(self, trial: Trial, twin: TrialRecord) -> None:
        """Store that a trial proposed what an earlier one had, with that one's results."""
        changed = {"number": trial.number, "fate": "duplicate", "duplicate_of": twin.number, "seconds": {}}
        self.tell(trial, twin.model_copy(update=changed))

    @property
    def state(self) -> str:
        """How far the run has come."""
        return str(self._attributes.get("state", "searching"))

    @property
    def teacher(self) -> TeacherRecord | None:
        """The teacher, as first recorded."""
        return self.load("teacher", TeacherRecord)

    def save(self, name: str, value: Record | str | list[str]) -> None:
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
