"""Several workers: none waits while there is something to do, and what all of them need is computed once."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nas_kd.commands.search import search
from nas_kd.commands.worker import TARGET, JobRunner
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder, locked
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.nas.gate import Gate
from nas_kd.nas.jobs import PrecomputeTeacher
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.results.candidate import Architecture
from nas_kd.results.trial_record import Costs
from tests.small_runs import distiller_of, open_context, small_config

SHIFTED = {"source": "digits", "augment": {"crop": 1}}
METHODS = ("soft_targets",)


@contextmanager
def pool_of(folder: Path, workers: int) -> Iterator[tuple[WorkerPool, Distiller]]:
    """The workers of a run whose teacher is ready."""
    config = small_config(data=SHIFTED, search={"workers": workers, "rungs": 1}, distill={"methods": METHODS})
    with (
        locked(RunFolder(folder), config),
        closing(WorkerPool("local", TARGET, str(folder), workers, Callback())) as pool,
    ):
        context = open_context(config, folder)
        gate = Gate(context, NetworkBuilder(context.data, context.space))
        distiller = distiller_of(context, [t.teacher for t in prepare_teachers(context, gate.of_file)])
        pool.work_here(lambda: JobRunner.for_run(context, distiller, ArtifactBuilder.for_run(context)))
        yield pool, distiller


def test_each_worker_computes_a_share_of_the_outputs_that_students_learn_from(tmp_path: Path) -> None:
    with pool_of(tmp_path / "run", 2) as (pool, distiller):
        outputs, store = distiller.trainer.outputs, distiller.trainer.cache.store
        pool.precompute_outputs(outputs.cached_epochs(METHODS, 4))
        assert pool.busy == 2
        jobs = [pool.wait().job for _ in range(2)]
        assert {job.epochs for job in jobs if isinstance(job, PrecomputeTeacher)} == {(0, 2), (1, 3)}
        assert pool.misses["logits"] == 4
        before = store.counts()
        outputs.precompute(METHODS, range(4), Callback())
        assert store.counts(before)["logits"] == (4, 0)
        measured = list((store.root / "latency").rglob("*.json"))
        assert len(measured) == 1  # the teacher, by the coordinator: a worker on one core is no place to measure


def test_one_worker_computes_outputs_when_they_are_needed(tmp_path: Path) -> None:
    with pool_of(tmp_path / "run", 1) as (pool, distiller):
        pool.precompute_outputs(distiller.trainer.outputs.cached_epochs(METHODS, 4))
        assert pool.busy == 0
        assert "logits" not in distiller.trainer.cache.store.counts()


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
    context = open_context(small_config(data=data, distill={"methods": [method]}), tmp_path / "run")
    assert distiller_of(context).trainer.outputs.cached_epochs([method], 4) == expected


def test_the_next_candidate_is_gated_while_all_workers_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[WorkerPool] = []
    busy: list[int] = []
    create, costs = WorkerPool.__init__, Gate.costs

    def created(pool: WorkerPool, *arguments: Any) -> None:
        create(pool, *arguments)
        pools.append(pool)

    def counted(gate: Gate, *deployed: Architecture, **options: Any) -> Costs:
        busy.extend(pool.busy for pool in pools)
        return costs(gate, *deployed, **options)

    monkeypatch.setattr(WorkerPool, "__init__", created)
    monkeypatch.setattr(Gate, "costs", counted)
    run = search(small_config(search={"workers": 2, "trials": 6}, finalists={"controls": False}), tmp_path / "run")
    assert 2 in busy
    assert {t.status for t in run.trials} <= {"finished", "pruned", "infeasible", "duplicate"}
    assert len({t.id for t in run.trials}) == 6
