"""The study is the record of a run: every trial and every result is an Optuna attribute; `load_run.py` reads them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_kd.config.options import Budget
from nas_kd.context.run_folder import RunFolder
from nas_kd.nas.database import (
    ADOPTED,
    CANDIDATE,
    RECORD,
    RUN,
    adopt_trial,
    corrected,
    create_database,
    find_study,
    is_own,
    open_database,
    require_schema,
    trial_records,
)
from nas_kd.nas.feasibility import violation
from nas_kd.nas.foreign_trials import clashes_explained, fit_foreign_trials, ignored
from nas_kd.nas.sampler_view import common_rung, constrained, copy_in_memory, outcome, tell
from nas_kd.nas.samplers.base import Space, make_sampler, optuna_silenced
from nas_kd.nas.study_attributes import StudyAttributes
from nas_kd.nas.successive_halving import SuccessiveHalving
from nas_kd.results.candidate import Candidate
from nas_kd.results.trial_record import TrialRecord

INITIAL_TRIALS = "initial_trials"  # attribute with the parameters of the first proposals


class RunStudy(StudyAttributes):
    """One run's Optuna study, written by one process.

    Candidates are drawn from a copy in memory, and a trial goes to the database in one piece once its candidate is
    known: drawing there would cost a transaction a parameter. The copy shows the sampler all trials at one fidelity:
    the highest rung that enough have reached (as in BOHB, Falkner et al. 2018, arXiv:1807.01774). In the database only
    trials that were trained in full are complete.
    """

    def __init__(
        self,
        folder: RunFolder,
        name: str,
        budget: Budget,
        full_epochs: int,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open the study of a run, or create it.

        Args:
            folder: of the run.
            name: of a new study.
            budget: limits of costs, which become Optuna's constraints.
            full_epochs: of a full training.
            on_note: told what becomes of other programs' trials.

        Raises:
            InputError: the study was written by another version.
        """
        self._budget, self._full_epochs, self._on_note, self._path = budget, full_epochs, on_note, folder.study
        if not folder.study.exists():
            create_database(folder, name)
        with optuna_silenced():
            storage = open_database(folder.study, writing=True)
            super().__init__(storage, find_study(storage, folder.study))
        require_schema(folder, self._study.user_attrs)
        # not through the study, which would keep a copy of every trial
        stored = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        self._stored_ids = [t._trial_id for t in stored]
        self._records: dict[int, TrialRecord] = {r.number: r for r in trial_records(stored, self._attributes)}
        self._by_id: dict[str, TrialRecord] = {}
        self._of_kind: Counter[str] = Counter()
        for record in self.records:
            self._index(record)
        self._finish_stored(stored)
        self._halving = SuccessiveHalving(self.records)
        self._rung = common_rung(self._halving.reached)
        self._space: Space | None = None  # known once trials are proposed; until then foreign ones are passed over
        self._foreign = ignored(t for t in stored if not is_own(t, self._attributes))
        self._memory = self._copy(stored)
        running = self._memory.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.interrupted = [Trial(self._memory, t._trial_id) for t in running if t.number not in self._records]
        self.count_elapsed(max((r.elapsed_s for r in self.records), default=0.0))

    def ask(self, sampler: str, root_seed: int, tried_enough: Callable[[Mapping[str, Any]], bool]) -> Trial:
        """Create a new trial, which `begin` stores.

        Args:
            sampler: name in the registry, or `package.module:Name`.
            root_seed: of the run; with the trial's number it seeds the sampler.
            tried_enough: see `SamplerInputs`.
        """
        trials = self._memory.get_trials(deepcopy=False)
        own = [t for t in trials if CANDIDATE in t.user_attrs]
        # All own trials have the same parameters, but those whose drawing failed have the first of them only.
        space = max((t.distributions for t in own), key=len, default={})
        first: list[dict[str, Any]] = self._attributes.get(INITIAL_TRIALS, [])
        number = next((t.number for t in trials if t.state == TrialState.WAITING), len(trials))
        self._foreign.pop(number, None)
        place = sum(ADOPTED not in t.user_attrs for t in own)
        with optuna_silenced():
            best = partial(self._halving.best, self._rung)
            self._memory.sampler = make_sampler(
                sampler, root_seed, number, space=space, best_trials=best, tried_enough=tried_enough
            )
            if number == len(trials) and place < len(first):
                self._memory.enqueue_trial(first[place])
            return self._memory.ask()

    def begin(self, trial: Trial, candidate: Candidate) -> Trial:
        """Store a trial and its candidate, before any work on it.

        Returns:
            The trial; it has another number if other programs have put trials into the study meanwhile.

        Raises:
            InputError: another program's trial, stored before, has other choices for one of the parameters.
        """
        trial.set_user_attr(CANDIDATE, candidate.to_json())
        trial.set_user_attr(RUN, self._attributes.get(RUN, ""))
        foreign = trial.number < len(self._stored_ids)
        if foreign:
            trial.set_user_attr(ADOPTED, True)
        drawn = self._memory.get_trials(deepcopy=False)[trial.number]
        with clashes_explained(self._path, self._foreign_trials, drawn.distributions):
            if foreign:
                adopt_trial(self._storage, self._stored_ids[trial.number], drawn)
                return trial
            self._stored_ids.append(self._storage.create_new_trial(self._study._study_id, drawn))
        if self._storage.get_trial(self._stored_ids[-1]).number == trial.number:
            return trial
        return self._make_room()

    def _foreign_trials(self) -> list[FrozenTrial]:
        stored = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        return [t for t in stored if not is_own(t, self._attributes)]

    def _make_room(self) -> Trial:
        """Take in the trials that other programs have stored before the latest of this run."""
        stored = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        before = self._memory.get_trials(deepcopy=False)[:-1]
        self._stored_ids = [t._trial_id for t in stored]
        self._use_foreign(stored[len(before) : -1])
        self._memory = self._copy([*before, *stored[len(before) :]])
        return Trial(self._memory, self._memory.get_trials(deepcopy=False)[-1]._trial_id)

    def use_foreign_trials(self, space: Space) -> None:
        """Propose, or show to the sampler, what other programs have put into the study and fits this search.

        Args:
            space: all parameters of the search, by name.
        """
        if self._space is not None:
            return
        self._space = space
        if self._foreign:
            stored = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
            self._use_foreign([stored[number] for number in self._foreign])
            self._memory = self._copy(self._memory.get_trials(deepcopy=False))

    def _use_foreign(self, trials: Sequence[FrozenTrial]) -> None:
        fitted = fit_foreign_trials(trials, self._space or {}, self._budget)
        self._foreign |= fitted.shown
        if note := fitted.describe():
            self._on_note(note)

    def _copy(self, trials: Sequence[FrozenTrial]) -> Study:
        return copy_in_memory(trials, self._records, self._rung, self._violation, self._foreign)

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
        return not any(CANDIDATE in t.user_attrs for t in self._memory.get_trials(deepcopy=False))

    def initial_place(self, number: int) -> int | None:
        """The place of a trial in the order of this run's own proposals; None: another program proposed it."""
        trials = self._memory.get_trials(deepcopy=False)
        own = [t.number for t in trials if CANDIDATE in t.user_attrs and ADOPTED not in t.user_attrs]
        return own.index(number) if number in own else None

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
    def records(self) -> list[TrialRecord]:
        """All trials, in the order in which they were first stored."""
        return list(self._records.values())

    def tell(self, record: TrialRecord) -> TrialRecord:
        """Store what became of a trial, or how far it has come; returns the record with the elapsed time filled in."""
        record = self._remember(record)
        dumped = record.model_dump(mode="json")
        try:
            self._storage.set_trial_user_attr(self._stored_ids[record.number], RECORD, dumped)
        except UpdateFinishedTrialError:  # by another program
            self.save(corrected(record.number), record)
            return record
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
        if CANDIDATE not in trial.user_attrs:  # else an earlier process was killed before it could store the result
            trial = self.begin(trial, candidate)
        changed = {"number": trial.number, "status": "duplicate", "duplicate_of": twin.number, "seconds": {}}
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
            self._memory = self._copy(self._memory.get_trials(deepcopy=False))
        return record

    def _violation(self, record: TrialRecord) -> float:
        return violation(record, self._budget)
