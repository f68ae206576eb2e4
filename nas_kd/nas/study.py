"""The study is the record of a run: every trial and every result is an Optuna attribute; `load_run.py` reads them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from math import inf
from typing import Any, TypeVar

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_kd.config.options import Budget
from nas_kd.context.run_folder import RunFolder
from nas_kd.nas.database import (
    CANDIDATE,
    close_database,
    corrected,
    create_database,
    open_database,
    require_schema,
    trial_records,
)
from nas_kd.nas.feasibility import violation
from nas_kd.nas.sampler_view import common_rung, constrained, copy_in_memory, outcome, tell
from nas_kd.nas.samplers.base import make_sampler, optuna_silenced
from nas_kd.nas.successive_halving import SuccessiveHalving
from nas_kd.results.candidate import Candidate
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Record, TrialRecord

INITIAL_TRIALS = "initial_trials"  # attribute with the parameters of the first proposals
R = TypeVar("R", bound=Record)


class RunStudy:
    """One run's Optuna study, written by one process.

    Candidates are drawn from a copy in memory, and a trial goes to the database in one piece once its candidate is
    known: drawing there would cost a transaction a parameter. The copy shows the sampler all trials at one fidelity:
    the highest rung that enough have reached (as in BOHB, Falkner et al. 2018, arXiv:1807.01774). In the database only
    trials that were trained in full are complete.
    """

    def __init__(self, folder: RunFolder, name: str, budget: Budget, full_epochs: int) -> None:
        """Open the study of a run, or create it.

        Args:
            folder: of the run.
            name: of a new study.
            budget: limits of costs, which become Optuna's constraints.
            full_epochs: of a full training.

        Raises:
            InputError: the study was written by another version.
        """
        self._budget, self._full_epochs = budget, full_epochs
        if not folder.study.exists():
            create_database(folder, name)
        with optuna_silenced():
            self._storage = open_database(folder.study, writing=True)
            self._study = optuna.load_study(study_name=None, storage=self._storage)
            self._study.sampler = RandomSampler(seed=0)  # never used
        require_schema(folder, self._study.user_attrs)
        # not through the study, which would keep a copy of every trial
        stored = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        self._stored_ids = [t._trial_id for t in stored]
        self._attributes: dict[str, Any] = dict(self._study.user_attrs)
        self._records: dict[int, TrialRecord] = {r.number: r for r in trial_records(stored, self._attributes)}
        self._by_id: dict[str, TrialRecord] = {}
        self._of_kind: Counter[str] = Counter()
        for record in self.records:
            self._index(record)
        self._finish_stored(stored)
        self._halving = SuccessiveHalving(self.records)
        self._rung = common_rung(self._halving.reached)
        self._memory = copy_in_memory(stored, self._records, self._rung, self._violation)
        running = self._memory.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.interrupted = [Trial(self._memory, t._trial_id) for t in running if t.number not in self._records]
        earlier = max((r.elapsed_s for r in self.records), default=0.0)
        self._started = time.monotonic() - max(earlier, float(self._attributes.get("elapsed_s", 0.0)))

    def ask(self, sampler: str, root_seed: int, tried_enough: Callable[[Mapping[str, Any]], bool]) -> Trial:
        """Create a new trial, which `begin` stores.

        Args:
            sampler: name in the registry, or `package.module:Name`.
            root_seed: of the run; with the trial's number it seeds the sampler.
            tried_enough: see `SamplerInputs`.
        """
        trials = self._memory.get_trials(deepcopy=False)
        # All trials have the same parameters, but those whose drawing failed have the first of them only.
        space = max((t.distributions for t in trials), key=len, default={})
        first: list[dict[str, Any]] = self._attributes.get(INITIAL_TRIALS, [])
        with optuna_silenced():
            best = partial(self._halving.best, self._rung)
            self._memory.sampler = make_sampler(
                sampler, root_seed, len(trials), space=space, best_trials=best, tried_enough=tried_enough
            )
            if len(trials) < len(first):
                self._memory.enqueue_trial(first[len(trials)])
            return self._memory.ask()

    def begin(self, trial: Trial, candidate: Candidate) -> None:
        """Store a trial and its candidate, before any work on it."""
        trial.set_user_attr(CANDIDATE, candidate.to_json())
        drawn = self._memory.get_trials(deepcopy=False)[trial.number]
        self._stored_ids.append(self._storage.create_new_trial(self._study._study_id, drawn))

    def running(self, record: TrialRecord) -> None:
        """Note that a trial is being trained; this is not stored, so that after a crash it is started again."""
        record = record.model_copy(update={"status": "running"})
        self._records[record.number] = record
        self._index(record)
        self._halving.update(record)

    def _index(self, record: TrialRecord) -> None:
        if record.status == "duplicate":
            return
        if record.id not in self._by_id:
            self._of_kind[record.candidate.kind] += 1
        self._by_id[record.id] = record

    @property
    def is_new(self) -> bool:
        """Whether no candidate was proposed yet."""
        return not self._memory.get_trials(deepcopy=False)

    @property
    def distinct(self) -> int:
        """Candidates tried so far, duplicates left out."""
        return len(self._by_id)

    @property
    def duplicates_in_a_row(self) -> int:
        """How many of the latest proposals had been tried before."""
        return sum(1 for _ in takewhile(lambda r: r.status == "duplicate", reversed(self._records.values())))

    def find(self, candidate_id: str) -> TrialRecord | None:
        """Find the trial of this candidate; None if it was never proposed."""
        return self._by_id.get(candidate_id)

    def tried(self, kind: str) -> int:
        """Count the candidates of this kind (`Candidate.kind`) that were proposed."""
        return self._of_kind[kind]

    @property
    def elapsed_s(self) -> float:
        """Wall clock of the run, pauses between processes left out."""
        return time.monotonic() - self._started

    def left_s(self, minutes: float | None) -> float:
        """Seconds until the run has taken this many minutes; infinite for None, which is no limit."""
        return inf if minutes is None else minutes * 60 - self.elapsed_s

    @property
    def records(self) -> list[TrialRecord]:
        """All trials, in the order in which they were first stored."""
        return list(self._records.values())

    def tell(self, record: TrialRecord) -> TrialRecord:
        """Store what became of a trial, or how far it has come; returns the record with the elapsed time filled in."""
        record = self._remember(record)
        dumped = record.model_dump(mode="json")
        self._storage.set_trial_user_attr(self._stored_ids[record.number], "record", dumped)
        if record.status != "paused":
            self._store_outcome(record)
        return record

    def correct(self, record: TrialRecord) -> None:
        """Store what was learnt of a trial after it ended; no later proposal depends on it."""
        self.save(corrected(record.number), record)
        self._records[record.number] = record
        self._index(record)

    def _store_outcome(self, record: TrialRecord) -> None:
        """Give the trial in the database the state and values that follow from its record."""
        stored_id = self._stored_ids[record.number]
        for key, value in constrained(self._violation(record)).items():
            self._storage.set_trial_system_attr(stored_id, key, value)
        ended = outcome(record, self._full_epochs) or {}
        self._storage.set_trial_state_values(stored_id, ended.get("state", TrialState.COMPLETE), ended.get("values"))

    def _finish_stored(self, stored: Sequence[FrozenTrial]) -> None:
        """Do so for records whose process was killed before it had done it."""
        for trial in stored:
            record = self._records.get(trial.number)
            if record is not None and record.status != "paused" and not trial.state.is_finished():
                self._store_outcome(record)

    def next_to_promote(
        self, rungs: int, reduction: int, *, n_initial: int = 0, last: bool = False
    ) -> TrialRecord | None:
        """Find the paused trial that has earned more training, see `SuccessiveHalving`."""
        number = self._halving.next_to_promote(rungs, reduction, n_initial=n_initial, last=last)
        return None if number is None else self._records[number]

    def most_accurate_paused(self, rungs: int) -> TrialRecord | None:
        """Find the paused trial to train on if only one can be."""
        number = self._halving.most_accurate(rungs)
        return None if number is None else self._records[number]

    def prune_paused(self) -> None:
        """Store every trial that is still paused as pruned: nothing is trained any more."""
        for record in self.records:
            if record.status == "paused":
                reason = f"not among the best after {record.rungs[-1].epochs} epochs"
                self.tell(record.model_copy(update={"status": "pruned", "reason": reason}))

    def tell_duplicate(self, trial: Trial, candidate: Candidate, twin: TrialRecord) -> None:
        """Store that a trial proposed the same candidate as an earlier one, with the results of that one."""
        changed = {"number": trial.number, "status": "duplicate", "duplicate_of": twin.number, "seconds": {}}
        if trial.number == len(self._stored_ids):  # else an earlier process was killed before it could store it
            self.begin(trial, candidate)
        self.tell(twin.model_copy(update=changed))

    def _remember(self, record: TrialRecord) -> TrialRecord:
        """Keep a record, and update the copy in memory."""
        record = record.model_copy(update={"elapsed_s": round(self.elapsed_s, 3)})
        self._records[record.number] = record
        self._index(record)
        self._halving.update(record)
        if (rung := common_rung(self._halving.reached)) == self._rung:
            tell(self._memory, record, rung, self._violation)
        else:
            self._rung = rung
            trials = self._memory.get_trials(deepcopy=False)
            self._memory = copy_in_memory(trials, self._records, rung, self._violation)
        return record

    def _violation(self, record: TrialRecord) -> float:
        return violation(record, self._budget)

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
