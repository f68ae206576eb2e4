"""Keeps the workers busy: trains on what has earned it, else proposes and gates, until there are enough candidates."""

from collections import deque
from collections.abc import Callable
from math import inf

from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.assistants_time import assistants_s
from nas_kd.nas.gate import Gate
from nas_kd.nas.jobs import Job, TrainTrial
from nas_kd.nas.propose import Proposer, propose
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.nas.study import RunStudy
from nas_kd.nas.trial import check_feasibility, remeasure_borderline
from nas_kd.nas.worker_pool import PoolResult, WorkerPool
from nas_kd.results.run_record import OnceForAllRecord
from nas_kd.results.trial_record import TrialRecord

OUT_OF_TIME = "the time was over before its training began"
OnTrialEnd = Callable[[TrialRecord], None]


class SearchLoop:
    """The search proper; only the process that runs it writes to the study."""

    def __init__(
        self,
        study: RunStudy,
        builder: NetworkBuilder,
        gate: Gate,
        proposer: Proposer,
        *,
        config: SearchConfig,
        plan: SearchPlan,
        pool: WorkerPool,
        callback: Callback,
        on_trial_end: OnTrialEnd,
    ) -> None:
        """Search with these parts.

        Args:
            study: the record of the run.
            builder: describes networks.
            gate: measures costs.
            proposer: turns Optuna's trials into candidates.
            config: of the run.
            plan: how many candidates, and how they go through the rungs.
            pool: trains.
            callback: receives notes.
            on_trial_end: called with the record of every trial that was stored, after every rung.
        """
        self._study, self._builder, self._gate, self._proposer = study, builder, gate, proposer
        self._config, self._plan, self._rungs, self._pool = config, plan, plan.rungs, pool
        self._callback, self._on_trial_end = callback, on_trial_end
        supernet = study.load("once_for_all", OnceForAllRecord)
        self._inherited = supernet.inherited if supernet else ()
        self._weight_sources = (supernet.key,) if supernet else ()
        self.trials = min(plan.trials, len(self._inherited) or plan.trials)
        self._exhausted = False
        self._feasible: deque[TrialRecord] = deque()  # through the gate, wait for a worker

    def run(self) -> None:
        """Search until there are enough candidates or time is over, and no paused one has earned more training."""
        while True:
            while self._pool.has_room and self._start():
                pass
            if not self._pool.busy:
                break
            self._gate_ahead()
            self._judge(self._pool.wait())
        self._study.prune_paused()

    def _gate_ahead(self) -> None:
        """Gate up to one candidate a worker while others are trained, so that no worker waits for the gate."""
        while len(self._feasible) < self._pool.workers and not self._pool.result_ready and not self._out_of_time():
            if not self._propose():
                return

    def _start(self) -> bool:
        """Start a training, or bring a candidate to the gate; False: there is nothing to start now."""
        late = self._out_of_time()
        if late:
            self._leave_untrained()
        if not late and (paused := self._to_promote()) is not None:
            self._submit(paused)
            return True
        if self._feasible:
            self._submit(self._feasible.popleft())
            return True
        if not late and self._propose():
            return True
        if not self._pool.busy and (paused := self._last_resort() if late else self._to_promote(last=True)):
            self._submit(paused)
            return True
        return False

    def _propose(self) -> bool:
        """Bring the next candidate to the gate; False: there is none."""
        if self._exhausted or self._study.distinct >= self.trials:
            return False
        proposal = propose(self._study, self._proposer, self._config)
        if proposal is None:
            self._exhausted = True
            self._callback.on_note(
                "the space seems to be exhausted: only candidates that were tried already are proposed"
            )
            return False
        record = check_feasibility(
            proposal,
            self._gate,
            self._builder,
            self._config.budget,
            quick=len(self._rungs) > 1,
            prefilter=self._config.device.prefilter,
            earlier=self._study.records,
        )
        if (place := self._study.initial_place(record.number)) is not None and place < len(self._inherited):
            record = record.model_copy(update={"inherited_accuracy": self._inherited[place]})
        if record.status == "running":
            self._study.running(record)
            self._feasible.append(record)
        else:
            self._on_trial_end(self._study.tell(record))
        return True

    def _submit(self, record: TrialRecord) -> None:
        record = remeasure_borderline(record, self._gate, self._config.budget, len(self._rungs))
        if record.status in ("failed", "infeasible"):
            self._on_trial_end(self._study.tell(record))
            return
        self._study.running(record)
        self._pool.submit(TrainTrial(record, self._weight_sources))

    def _judge(self, done: PoolResult[Job]) -> None:
        """Store what became of a trial; other jobs have left their results in the store."""
        if not isinstance(done.job, TrainTrial):
            return  # a trial computes what is missing of the teachers' outputs itself
        if done.error is None:
            record = done.job.result(done.result)
        else:
            record = done.job.record.model_copy(update={"status": "failed", "reason": done.error})
        self._on_trial_end(self._study.tell(record))

    def _out_of_time(self) -> bool:
        return self._study.left_s(self._config.search.max_minutes) <= 0 and self._any("paused", "finished")

    def _leave_untrained(self) -> None:
        """Out of time: end what waits behind the gate, which could be an hour of training whatever it reached."""
        while self._feasible:
            changed = {"status": "pruned", "reason": OUT_OF_TIME}
            self._on_trial_end(self._study.tell(self._feasible.popleft().model_copy(update=changed)))

    def _any(self, *statuses: str) -> bool:
        return any(t.status in statuses for t in self._study.records)

    def _last_resort(self) -> TrialRecord | None:
        """Out of time with nothing fully trained: finish the most accurate paused candidate."""
        return None if self._any("finished") else self._study.most_accurate_paused(len(self._rungs))

    def _to_promote(self, *, last: bool = False) -> TrialRecord | None:
        """The paused candidate that has earned more training; those whose assistants would take too long are ended."""
        plan = self._plan
        while True:
            record = self._study.next_to_promote(len(plan.rungs), plan.reduction, n_initial=plan.n_initial, last=last)
            if record is None or (reason := self._no_time_for(record)) is None:
                return record
            self._on_trial_end(self._study.tell(record.model_copy(update={"status": "pruned", "reason": reason})))

    def _no_time_for(self, record: TrialRecord) -> str | None:
        """Why a candidate's assistants are not trained any more, if they are not."""
        left = self._study.left_s(self._config.search.max_minutes)
        if left == inf or not record.candidate.assistants:
            return None
        wanted = assistants_s(record, self._study.records, self._builder, self._rungs[-1])
        if wanted <= max(left, 0.0):
            return None
        return f"its assistants would take about {wanted / 60:.1f} minutes, and {max(0.0, left) / 60:.1f} were left"
