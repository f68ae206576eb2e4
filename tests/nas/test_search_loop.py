"""The loop of a search with several workers, when the time is over."""

from collections import deque
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nas_kd.context.callbacks import Callback
from nas_kd.data.prepare import load_dataset
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import load_space
from nas_kd.nas import search_loop
from nas_kd.nas.gate import Gate
from nas_kd.nas.jobs import Job, TrainTrial
from nas_kd.nas.propose import Proposal
from nas_kd.nas.search_loop import OUT_OF_TIME, SearchLoop
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.nas.worker_pool import PoolResult, WorkerPool
from nas_kd.results.trial_record import TrialRecord
from tests.nas.searching import EPOCHS, Searching
from tests.small_runs import small_config


@pytest.fixture(scope="module")
def builder() -> NetworkBuilder:
    return NetworkBuilder(load_dataset(small_config().data, 0), load_space("resnet"))


class TwoWorkers:
    """Workers whose trainings are made up; the one that began first ends first."""

    workers, result_ready = 2, False

    def __init__(self, searching: Searching) -> None:
        self._searching, self._under_way = searching, deque[Job]()
        self.submitted: list[int] = []

    @property
    def busy(self) -> int:
        return len(self._under_way)

    @property
    def has_room(self) -> bool:
        return self.busy < self.workers

    def submit(self, job: TrainTrial) -> None:
        self.submitted.append(job.record.number)
        self._under_way.append(job)

    def wait(self) -> PoolResult[Job]:
        job = cast(TrainTrial, self._under_way.popleft())
        reached = self._searching.judged(job.record.number, job.record.candidate, job.record.rungs)
        return PoolResult(job, reached.model_dump(mode="json"))


def searched(
    searching: Searching, builder: NetworkBuilder, plan: SearchPlan, pool: TwoWorkers, monkeypatch: pytest.MonkeyPatch
) -> list[TrialRecord]:
    """Run the loop with a gate that lets everything through; the records it reported."""

    def gated(proposal: Proposal, *_args: Any, **_facts: Any) -> TrialRecord:
        judged = searching.judged(proposal.trial.number, proposal.candidate)
        return judged.model_copy(update={"status": "running", "rungs": (), "val_accuracy": None})

    monkeypatch.setattr(search_loop, "check_feasibility", gated)
    heard = list[TrialRecord]()
    SearchLoop(
        searching.study,
        builder,
        cast(Gate, SimpleNamespace()),
        searching.proposer,
        config=searching.config,
        plan=plan,
        pool=cast(WorkerPool, pool),
        callback=Callback(),
        on_trial_end=heard.append,
    ).run()
    return heard


def test_out_of_time_what_waits_behind_the_gate_is_not_trained(
    builder: NetworkBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching = Searching(tmp_path / "run", builder, "random", distill={"epochs": EPOCHS[-1]})
    monkeypatch.setattr(searching.study, "left_s", lambda _minutes: 0.0)
    pool = TwoWorkers(searching)
    heard = searched(searching, builder, SearchPlan(20, 6, EPOCHS, 3, 0), pool, monkeypatch)
    first, second, *last = pool.submitted
    assert len(set(last)) == 1  # the more accurate one of the two, trained to the end
    assert last[0] in (first, second)
    ended = {r.number: r for r in searching.study.records}
    untrained = [r for r in ended.values() if not r.rungs]
    assert len(untrained) == 2
    assert {(r.status, r.reason) for r in untrained} == {("pruned", OUT_OF_TIME)}
    assert {r.number for r in untrained} <= {r.number for r in heard}


class MinutesAnEpoch(TwoWorkers):
    """Workers that take a minute for each rung; up to the first one students have no assistants."""

    def wait(self) -> PoolResult[Job]:
        job = cast(TrainTrial, self._under_way.popleft())
        record = self._searching.judged(job.record.number, job.record.candidate, job.record.rungs)
        last = record.rungs[-1].model_copy(update={"without_assistants": not job.record.rungs, "seconds": 60.0})
        reached = record.model_copy(update={"rungs": (*record.rungs[:-1], last)})
        return PoolResult(job, reached.model_dump(mode="json"))


@pytest.mark.parametrize("minutes", [None, 1.0, 1000.0])
def test_what_needs_too_long_assistants_is_not_promoted(
    builder: NetworkBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float | None
) -> None:
    searching = Searching(tmp_path / "run", builder, "random", distill={"epochs": EPOCHS[-1]})
    left = inf if minutes is None else 60 * minutes
    monkeypatch.setattr(searching.study, "left_s", lambda _minutes: left)
    searched(searching, builder, SearchPlan(40, 0, EPOCHS, 3, 0), MinutesAnEpoch(searching), monkeypatch)
    ended = searching.study.records
    slow = [r for r in ended if r.reason and r.reason.startswith("its assistants would take about")]
    assert bool(slow) == (minutes == 1.0)
    assert all(r.candidate.assistants and r.status == "pruned" and len(r.rungs) == 1 for r in slow)
    assert any(len(r.rungs) > 1 for r in ended)  # others are promoted in their place
