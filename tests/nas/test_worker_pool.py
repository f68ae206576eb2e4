"""Several workers: none waits while there is something to do, and what all of them need is computed once."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nas_kd.commands.search import search
from nas_kd.commands.worker import TARGET
from nas_kd.context.callbacks import Callback
from nas_kd.nas.gate import Gate
from nas_kd.nas.jobs import PrecomputeTeacher
from nas_kd.nas.worker_pool import PoolResult, WorkerPool
from nas_kd.results.candidate import Architecture
from nas_kd.results.trial_record import Costs
from tests.small_runs import SMALL_TEACHER, Seed, distiller_of, open_context, small_config

SHIFTED = {"augment": {"crop": 1}}


class Watched:
    """What the pool of a search did: its jobs as they were collected, and the workers busy at each look at the gate."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pools: list[WorkerPool] = []
        self.results: list[PoolResult[Any]] = []
        self.busy: list[int] = []
        create, wait, costs = WorkerPool.__init__, WorkerPool.wait, Gate.costs

        def created(pool: WorkerPool, *arguments: Any, **options: Any) -> None:
            create(pool, *arguments, **options)
            self.pools.append(pool)

        def waited(pool: WorkerPool) -> PoolResult[Any]:
            self.results.append(wait(pool))
            return self.results[-1]

        def looked(gate: Gate, *deployed: Architecture, **options: Any) -> Costs:
            self.busy.extend(pool.busy for pool in self.pools)
            return costs(gate, *deployed, **options)

        patch.setattr(WorkerPool, "__init__", created)
        patch.setattr(WorkerPool, "wait", waited)
        patch.setattr(Gate, "costs", looked)


@pytest.mark.usefixtures("brief_measurements")
def test_two_workers_share_the_work_while_the_coordinator_looks_ahead(
    with_latencies: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    config = small_config(
        data=SHIFTED,
        teacher=SMALL_TEACHER | {"epochs": 6},
        chain={"max_assistants": 0},
        search={"workers": 2, "trials": 6, "rungs": 1},
        finalists={"max": 1, "controls": False},
    )
    run = search(config, with_latencies(tmp_path / "run"))
    assert run.state == "finished"
    shares = [result.job.epochs for result in watched.results if isinstance(result.job, PrecomputeTeacher)]
    assert sorted(shares) == [(0, 2), (1, 3)]
    assert run.cache["logits"].misses == 4  # each epoch's outputs once, by whichever worker
    assert 2 in watched.busy, "no candidate went through the gate while both workers trained"
    assert {t.status for t in run.trials} <= {"finished", "pruned", "infeasible", "duplicate"}
    assert len({t.id for t in run.trials}) == 6
    (pool,) = watched.pools
    assert "latency" not in {*pool.hits, *pool.misses}, "a worker on one core is no place to measure"
    assert run.seconds["idle"] >= 0


def test_one_worker_computes_outputs_when_they_are_needed(tmp_path: Path) -> None:
    with closing(WorkerPool("local", TARGET, str(tmp_path), 1, Callback())) as pool:
        pool.precompute_outputs(range(4))
        assert pool.busy == 0
        assert pool.has_room


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("soft_targets", SHIFTED, range(4)),
        ("soft_targets", {"augment": {"crop": 0}}, range(1)),  # the same in every epoch
        ("similarity", SHIFTED, range(0)),  # needs the live teacher's features
        ("none", SHIFTED, range(0)),
    ],
)
def test_epochs_whose_outputs_are_looked_up(
    method: str, data: dict[str, object], expected: range, tmp_path: Path
) -> None:
    context = open_context(small_config(data=data, distill={"methods": [method]}), tmp_path / "run")
    assert distiller_of(context).trainer.outputs.cached_epochs([method], 4) == expected
