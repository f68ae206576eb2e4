"""A search whose trainings are made up, on a real study."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nas_kd.config.loading import dump_config
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.run_folder import RunFolder
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import SearchSpace, load_space
from nas_kd.nas.propose import Proposer, propose
from nas_kd.nas.study import RunStudy
from nas_kd.results.candidate import Candidate
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs, RungRecord, TrialRecord
from tests.small_runs import small_config

EPOCHS = (1, 3, 9)


class Searching:
    """A search whose trainings are made up and follow from the candidate alone; its study can be reopened."""

    def __init__(
        self,
        folder: Path,
        builder: NetworkBuilder,
        sampler: str,
        space: SearchSpace | None = None,
        **sections: dict[str, object],
    ) -> None:
        self.config: SearchConfig = small_config(search={"sampler": sampler}, **sections)
        self.folder, self._builder = RunFolder(folder), builder
        self.notes: list[str] = []
        folder.mkdir()
        self.folder.config.write_text(dump_config(self.config))
        self.proposer = Proposer(self.config, space or load_space("resnet"), builder, 400_000)
        self.study = self._open()

    def _open(self) -> RunStudy:
        return RunStudy(self.folder, "test", Budget(max_size_kb=60), EPOCHS[-1], self.notes.append)

    def reopen(self) -> None:
        self.study.close()
        self.study = self._open()

    def judged(self, number: int, candidate: Candidate, rungs: tuple[RungRecord, ...] = ()) -> TrialRecord:
        """After one rung more."""
        weights = self._builder.parameters(candidate.student)
        epochs = EPOCHS[len(rungs)]
        noise = np.random.default_rng([int(candidate.id, 16), epochs]).normal(0, 0.05)
        rung = RungRecord(epochs=epochs, val_accuracy=0.5 + 0.04 * float(np.log(weights / 500) + noise), seconds=1.0)
        ms = 0.005 + weights * 1e-6
        return TrialRecord(
            number=number,
            id=candidate.id,
            candidate=candidate,
            description="",
            status="finished" if epochs == EPOCHS[-1] else "paused",
            costs=Costs(
                size_bytes=4 * weights,
                latency_ms=Latency(p50=ms, p90=ms, low=ms, high=ms),
                parameters=weights,
                macs=1,
            ),
            rungs=(*rungs, rung),
            val_accuracy=rung.val_accuracy,
        )

    def propose(self) -> TrialRecord:
        """A new candidate at the first rung, not stored yet."""
        proposal = propose(self.study, self.proposer, self.config)
        assert proposal is not None
        return self.judged(proposal.trial.number, proposal.candidate)

    def run(self, trials: int, dies: Callable[[], bool]) -> list[tuple[str, int]]:
        """(id, rung) in the order of training; where it `dies`, what was under way is lost."""
        trained = []
        while True:
            paused = self.study.next_to_promote(len(EPOCHS), 2)
            if paused is None and self.study.distinct == trials:
                return trained
            if paused is not None:
                self.study.running(paused)
                record = self.judged(paused.number, paused.candidate, paused.rungs)
            else:
                record = self.propose()
            if dies():
                self.reopen()
                continue
            self.study.tell(record)
            trained.append((record.id, len(record.rungs)))
            if dies():
                self.reopen()

    def run_beside_each_other(self, trials: int, workers: int) -> None:
        """This many are under way at once; the one that began first ends first."""
        under_way: deque[TrialRecord] = deque()
        while True:
            while len(under_way) < workers:
                paused = self.study.next_to_promote(len(EPOCHS), 2)
                if paused is None and self.study.distinct == trials:
                    break
                if paused is None:
                    record = self.propose()
                    paused = record.model_copy(update={"rungs": ()})
                else:
                    record = self.judged(paused.number, paused.candidate, paused.rungs)
                self.study.running(paused)
                under_way.append(record)
            if not under_way:
                return
            self.study.tell(under_way.popleft())
