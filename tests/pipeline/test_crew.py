"""Several workers: none waits while there is something to do, and what all of them need is made once."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from nas_kd.commands.worker_pool import WorkerPool, WorkerProcesses
from nas_kd.kd.chain import Chain

from nas_kd.commands.search import search
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import Context
from nas_kd.context.run_folder import RunFolder, locked
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.shared_outputs import SharedOutputs
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Architecture
from nas_kd.results.records import Costs

from .conftest import small_config

SHIFTED = {"source": "digits", "augment": {"crop": 1}}


@contextmanager
def crew_of(folder: Path, workers: int) -> Iterator[tuple[WorkerPool, Chain]]:
    config = small_config(data=SHIFTED, search={"workers": workers, "rungs": 1})
    run = RunFolder(folder)
    with locked(run, config):
        context = Context.prepare(config, run, Callback())
        builder = NetworkBuilder(context.data, context.space)
        gate = Gate(context, builder)
        chain = Chain(context, builder, [t.teacher for t in prepare_teachers(context, gate.of_file)])
        with closing(WorkerProcesses(config, run, context.callback)) as processes:
            yield WorkerPool(chain, gate, processes), chain


def test_each_worker_makes_a_share_of_the_outputs_that_students_learn_from(tmp_path: Path) -> None:
    with crew_of(tmp_path / "run", 2) as (pool, chain):
        pool.prepare_outputs()
        assert pool.busy == 2
        shares = [pool.wait().job["outputs"] for _ in range(2)]
        assert sorted(map(tuple, shares)) == [(0, 2), (1, 3)]
        store = chain.context.store
        before = store.counts()
        chain.outputs.prepare(range(4))
        assert store.counts(before)["logits"] == (4, 0)
        measured = list((store.root / "latency").rglob("*.json"))
        assert len(measured) == 1  # the teacher, by the coordinator: a worker on one core is no place to measure


def test_one_worker_makes_outputs_when_they_are_needed(tmp_path: Path) -> None:
    with crew_of(tmp_path / "run", 1) as (pool, chain):
        pool.prepare_outputs()
        assert pool.busy == 0
        assert "logits" not in chain.context.store.counts()


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("soft_targets", SHIFTED, range(4)),
        ("soft_targets", {"source": "digits", "augment": {"crop": 0}}, range(1)),  # the same in every epoch
        ("similarity", SHIFTED, range(0)),  # needs the live teacher's features
        ("none", SHIFTED, range(0)),
    ],
)
def test_epochs_whose_outputs_are_looked_up(
    method: str, data: dict[str, object], expected: range, tmp_path: Path
) -> None:
    config = small_config(data=data, distill={"methods": [method]})
    context = Context.prepare(config, RunFolder(tmp_path / "run"), Callback())
    assert SharedOutputs(context, ()).epochs(4) == expected


def test_the_next_candidate_is_gated_while_all_workers_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crews: list[WorkerPool] = []
    busy: list[int] = []
    begin, costs = WorkerPool.__init__, Gate.costs

    def begins(pool: WorkerPool, chain: Chain, gate: Gate, processes: WorkerProcesses) -> None:
        begin(pool, chain, gate, processes)
        crews.append(pool)

    def looks(gate: Gate, *deployed: Architecture, **options: Any) -> Costs:
        busy.extend(pool.busy for pool in crews)
        return costs(gate, *deployed, **options)

    monkeypatch.setattr(WorkerPool, "__init__", begins)
    monkeypatch.setattr(Gate, "costs", looks)
    run = search(small_config(search={"workers": 2, "trials": 6}, finalists={"controls": False}), tmp_path / "run")
    assert 2 in busy
    assert {t.status for t in run.trials} <= {"finished", "pruned", "infeasible", "duplicate"}
    assert len({t.id for t in run.trials}) == 6
