"""Keeps the executor busy: trains on whoever has earned it, else gates a new candidate, until there are enough."""

from collections import deque
from collections.abc import Callable

from nas_kd.commands.worker_pool import WorkerPool
from nas_kd.executors.executor import JobResult
from nas_kd.kd.chain import Chain
from nas_kd.nas.gate import Gate
from nas_kd.nas.propose import N_INITIAL_TRIALS, Proposer, propose
from nas_kd.nas.study import RunStudy
from nas_kd.nas.trial import check_feasibility, remeasure_borderline
from nas_kd.results.records import OnceForAllRecord, TrialRecord

Told = Callable[[TrialRecord], None]


class SearchLoop:
    """The search proper; only this process talks to the study. `told` hears of every trial that was told."""

    def __init__(
        self, study: RunStudy, chain: Chain, gate: Gate, proposer: Proposer, *, pool: WorkerPool, told: Told
    ) -> None:
        self._study, self._chain, self._gate, self._proposer = study, chain, gate, proposer
        self._crew, self._told = pool, told
        self._config, self._callback = chain.context.config, chain.context.callback
        elastic = study.load("once_for_all", OnceForAllRecord)
        self._inherited = elastic.inherited if elastic else ()
        self.trials = min(self._config.search.trials, len(self._inherited) or self._config.search.trials)
        self._exhausted = False
        self._admitted: deque[TrialRecord] = deque()  # wait for room

    def run(self) -> None:
        """Until there are enough candidates or time is over, and nobody has earned more training."""
        while True:
            while self._crew.has_room and self._start():
                pass
            if not self._crew.busy:
                break
            self._look_ahead()
            self._judge(self._crew.wait())
        self._study.stop_waiting()

    def _look_ahead(self) -> None:
        """Gate one candidate a worker while others are trained: whoever has done its job finds another one at once."""
        while len(self._admitted) < self._crew.workers and not self._crew.answered and not self._late():
            if not self._propose():
                return

    def _start(self) -> bool:
        """Start a training, or bring a candidate to the gate; False: there is nothing to start now."""
        late = self._late()
        if not late and (waiting := self._to_promote()) is not None:
            self._submit(waiting)
            return True
        if self._admitted:
            self._submit(self._admitted.popleft())
            return True
        if not late and self._propose():
            return True
        if not self._crew.busy and (waiting := self._late_promotion() if late else self._to_promote(last=True)):
            self._submit(waiting)
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
        record = check_feasibility(proposal, self._gate, self._chain, self._study.records)
        if record.number < len(self._inherited):
            record = record.model_copy(update={"inherited_accuracy": self._inherited[record.number]})
        if record.status == "running":
            self._study.running(record)
            self._admitted.append(record)
        else:
            self._told(self._study.tell(record))
        return True

    def _submit(self, record: TrialRecord) -> None:
        record = remeasure_borderline(record, self._gate, self._chain)
        if record.status in ("failed", "infeasible"):
            self._told(self._study.tell(record))
            return
        self._study.running(record)
        self._crew.submit({"record": record.model_dump(mode="json")})

    def _judge(self, answer: JobResult) -> None:
        if "record" not in answer.job:
            return  # what a trial would lack of it, the trial makes itself, or says why not
        record = TrialRecord.model_validate((answer.result or answer.job)["record"])
        if answer.error is not None:
            record = record.model_copy(update={"status": "failed", "reason": answer.error})
        self._told(self._study.tell(record))

    def _late(self) -> bool:
        return self._study.left_s(self._config.search.max_minutes) <= 0 and self._any("paused", "finished")

    def _any(self, *fates: str) -> bool:
        return any(t.status in fates for t in self._study.records)

    def _late_promotion(self) -> TrialRecord | None:
        """Time is over: somebody must be trained to the end even so, and it is whoever would serve the user best."""
        return None if self._any("finished") else self._study.most_accurate_waiting(len(self._chain.context.rungs))

    def _to_promote(self, *, last: bool = False) -> TrialRecord | None:
        rungs = len(self._chain.context.rungs)
        n_initial = 0 if self._inherited else N_INITIAL_TRIALS  # an elastic network's parts have been compared already
        return self._study.next_to_promote(rungs, self._config.search.reduction, n_initial=n_initial, last=last)
