"""The study is the record of a run: every trial and every result is an Optuna attribute; `reading.py` reads them."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from math import inf
from typing import Any, TypeVar

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_kd.config.options import Budget, Sampler
from nas_kd.context.run_folder import RunFolder
from nas_kd.nas.database import close_database, corrected, create_database, open_database, trial_records
from nas_kd.nas.feasibility import violation
from nas_kd.nas.sampler_view import common_rung, constrained, copy_in_memory, outcome, tell
from nas_kd.nas.samplers import TriedEnough, make_sampler, optuna_silenced
from nas_kd.nas.successive_halving import SuccessiveHalving
from nas_kd.results.candidate import Candidate
from nas_kd.results.records import (
    Record,
    TeacherRecord,
    TrialRecord,
)

R = TypeVar("R", bound=Record)


class RunStudy:
    """One run's Optuna study, written by one process.

    Candidates are drawn from a copy in memory, and a trial goes to the database in one piece once its candidate is
    known: drawing there would cost a transaction a parameter. The copy shows the sampler all trials at one fidelity:
    the highest rung that enough have reached (as in BOHB, Falkner et al. 2018, arXiv:1807.01774); the database has
    those complete alone that were trained in full.
    """

    def __init__(self, folder: RunFolder, name: str, budget: Budget, full: int) -> None:
        """`full`: epochs of a full training."""
        self._budget, self._full = budget, full
        if not folder.study.exists():
            create_database(folder, name)
        with optuna_silenced():
            self._storage = open_database(folder.study, writing=True)
            self._study = optuna.load_study(study_name=None, storage=self._storage)
            self._study.sampler = RandomSampler(seed=0)  # never asked
        # not through the study, which would keep a copy of every trial
        stored = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        self._stored_ids = [t._trial_id for t in stored]
        self._attributes: dict[str, Any] = dict(self._study.user_attrs)
        self._records: dict[int, TrialRecord] = {r.number: r for r in trial_records(stored, self._attributes)}
        self._by_id: dict[str, TrialRecord] = {}
        self._of_kind: Counter[str] = Counter()
        for record in self.records:
            self._know(record)
        self._settle_rest(stored)
        self._halving = SuccessiveHalving(self.records)
        self._rung = common_rung(self._halving.reached)
        self._memory = copy_in_memory(stored, self._records, self._rung, self._violation)
        running = self._memory.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.interrupted = [Trial(self._memory, t._trial_id) for t in running if t.number not in self._records]
        earlier = max((r.elapsed_s for r in self.records), default=0.0)
        self._started = time.monotonic() - max(earlier, float(self._attributes.get("elapsed_s", 0.0)))

    def ask(self, sampler: Sampler, root_seed: int, tried_enough: TriedEnough) -> Trial:
        """A new trial, whose sampler depends on the seed and on how many there are; `begin` stores it.

        `worn`: see `KnownSpace`.
        """
        trials = self._memory.get_trials(deepcopy=False)
        space = trials[0].distributions if trials else {}
        first: list[dict[str, Any]] = self._attributes.get("first", [])
        with optuna_silenced():
            best = partial(self._halving.best, self._rung)
            self._memory.sampler = make_sampler(
                sampler, root_seed, len(trials), space=space, best=best, tried_enough=tried_enough
            )
            if len(trials) < len(first):
                self._memory.enqueue_trial(first[len(trials)])
            return self._memory.ask()

    def begin(self, trial: Trial, candidate: Candidate) -> None:
        """Store a trial and its candidate, before any work on it."""
        trial.set_user_attr("candidate", candidate.to_json())
        drawn = self._memory.get_trials(deepcopy=False)[trial.number]
        self._stored_ids.append(self._storage.create_new_trial(self._study._study_id, drawn))

    def running(self, record: TrialRecord) -> None:
        """A trial is being trained: known to this process alone, so that another one starts it again."""
        record = record.model_copy(update={"status": "running"})
        self._records[record.number] = record
        self._know(record)
        self._halving.note(record)

    def _know(self, record: TrialRecord) -> None:
        if record.status == "duplicate":
            return
        if record.id not in self._by_id:
            self._of_kind[Candidate.from_json(record.candidate).kind] += 1
        self._by_id[record.id] = record

    @property
    def is_new(self) -> bool:
        """Whether nothing was proposed yet."""
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
        """The finished trial of this candidate."""
        return self._by_id.get(candidate_id)

    def tried(self, kind: str) -> int:
        """How many candidates of this kind there have been, see `Candidate.kind`."""
        return self._of_kind[kind]

    @property
    def elapsed_s(self) -> float:
        """Wall clock of the run, pauses between processes left out."""
        return time.monotonic() - self._started

    def left_s(self, minutes: float | None) -> float:
        """Seconds until the run has taken so many minutes; None: it may take as long as it likes."""
        return inf if minutes is None else minutes * 60 - self.elapsed_s

    @property
    def records(self) -> list[TrialRecord]:
        """What is known of all trials, in the order in which they were first heard of."""
        return list(self._records.values())

    def tell(self, record: TrialRecord) -> TrialRecord:
        """Store what became of a trial, or how far it has come; returns the record with the time filled in."""
        record = self._told(record)
        dumped = record.model_dump(mode="json")
        self._storage.set_trial_user_attr(self._stored_ids[record.number], "record", dumped)
        if record.status != "paused":
            self._settle(record)
        return record

    def correct(self, record: TrialRecord) -> None:
        """Store what has been learnt of a trial since it was told; no later proposal knows of it."""
        self.save(corrected(record.number), record)
        self._records[record.number] = record
        self._know(record)

    def _settle(self, record: TrialRecord) -> None:
        """Tell the database what follows from a record; the record is what counts."""
        stored_id = self._stored_ids[record.number]
        for key, value in constrained(self._violation(record)).items():
            self._storage.set_trial_system_attr(stored_id, key, value)
        told = outcome(record, self._full) or {}
        self._storage.set_trial_state_values(stored_id, told.get("state", TrialState.COMPLETE), told.get("values"))

    def _settle_rest(self, stored: Sequence[FrozenTrial]) -> None:
        """An earlier process may have been killed between a record and what follows from it."""
        for trial in stored:
            record = self._records.get(trial.number)
            if record is not None and record.status != "paused" and not trial.state.is_finished():
                self._settle(record)

    def next_to_promote(
        self, rungs: int, reduction: int, *, n_initial: int = 0, last: bool = False
    ) -> TrialRecord | None:
        """The waiting trial that has earned more training, see `Ladder`."""
        number = self._halving.next_to_promote(rungs, reduction, n_initial=n_initial, last=last)
        return None if number is None else self._records[number]

    def most_accurate_waiting(self, rungs: int) -> TrialRecord | None:
        """The waiting trial to train on if only one can be."""
        number = self._halving.most_accurate(rungs)
        return None if number is None else self._records[number]

    def stop_waiting(self) -> None:
        """Nobody is trained on any more: who still waits is told as stopped."""
        for record in self.records:
            if record.status == "paused":
                reason = f"not among the best after {record.rungs[-1].epochs} epochs"
                self.tell(record.model_copy(update={"status": "pruned", "reason": reason}))

    def tell_duplicate(self, trial: Trial, candidate: Candidate, twin: TrialRecord) -> None:
        """Store that a trial proposed what an earlier one had, with that one's results."""
        changed = {"number": trial.number, "status": "duplicate", "duplicate_of": twin.number, "seconds": {}}
        if trial.number == len(self._stored_ids):  # else an earlier process was killed before it had told
            self.begin(trial, candidate)
        self.tell(twin.model_copy(update=changed))

    def _told(self, record: TrialRecord) -> TrialRecord:
        """Remember a record, and let the copy in memory know of it."""
        record = record.model_copy(update={"elapsed_s": round(self.elapsed_s, 3)})
        self._records[record.number] = record
        self._know(record)
        self._halving.note(record)
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
        close_database(self._storage, written=True)
