"""Once for all: a small real run, what it leaves in the record, and what is not done twice."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import _open, search
from nas_kd.commands.worker import TARGET
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.nas.feasibility import log_excess
from nas_kd.nas.search_plan import SupernetPlan
from nas_kd.nas.supernet.once_for_all import OnceForAll
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.results.run_record import RunRecord
from tests.small_runs import measured_briefly, small_config

pytestmark = pytest.mark.xdist_group("once for all")
MEMBERS, EVALUATIONS = 3, 24
SMALL_PLAN = {"pool_size": 16, "ladder_size": 4, "n_sampled": 8, "population": 12}


@pytest.fixture(scope="module", autouse=True)
def _small_plan() -> Iterator[None]:
    """Fewer networks in every step, so that there is a second generation of them."""
    plan_of = SupernetPlan.of
    with pytest.MonkeyPatch.context() as patch, measured_briefly():
        patch.setattr(SupernetPlan, "of", lambda config, epochs: replace(plan_of(config, epochs), **SMALL_PLAN))
        yield


def elastic_config(**search_options: object) -> SearchConfig:
    elastic = {"epochs": 2, "evaluations": EVALUATIONS, "members": MEMBERS}
    options = {"strategy": "once-for-all", "once_for_all": elastic, "trials": 9, "rungs": 1, "inherit": True}
    finalists = {"max": 1, "seeds": 1, "controls": False}
    return small_config(search={**options, **search_options}, finalists=finalists, distill={"methods": ["none", "dkd"]})


@pytest.fixture(scope="module")
def folder(teachers_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("elastic") / "run"
    shutil.copytree(teachers_dir / "store", folder / "store")
    search(elastic_config(), folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> RunRecord:
    return read_run(RunFolder(folder))


def test_its_best_sub_networks_are_the_candidates(run: RunRecord) -> None:
    assert run.state == "finished"
    assert run.once_for_all is not None
    assert run.once_for_all.evaluated == EVALUATIONS
    assert run.once_for_all.measured >= SMALL_PLAN["n_sampled"]
    assert 0 < run.once_for_all.latency_error < 1
    assert 1 <= len(run.trials) <= MEMBERS
    assert [t.inherited_accuracy for t in run.trials] == list(run.once_for_all.inherited)
    for trial in run.trials:
        assert trial.status == "finished"
        assert trial.candidate.recipe.method == "none"
        assert trial.candidate.assistants == ()
        assert trial.costs is not None
        assert trial.costs.latency_ms is not None
        assert log_excess(trial.costs, elastic_config().budget) <= 0
    assert run.seconds["once_for_all"] >= run.once_for_all.training_s > 0


def test_a_run_opened_again_inherits_from_the_same_network(folder: Path, run: RunRecord) -> None:
    config = elastic_config()
    context = RunContext.prepare(config, RunFolder(folder), Callback())
    pool = WorkerPool("local", TARGET, str(folder), 1, context.callback)
    with closing(pool), closing(_open(context, pool)) as opened:
        assert run.once_for_all is not None
        assert opened._finalist_step().trainer()._distiller.weight_sources == (run.once_for_all.key,)


def test_what_was_trained_and_judged_is_found_again(
    folder: Path, run: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again"
    shutil.copytree(folder / "store", again / "store")
    for kind in ("file", "checkpoint"):
        shutil.rmtree(again / "store" / kind, ignore_errors=True)
    stored = {p.name: p.stat().st_ino for kind in ("weights", "inherited") for p in (again / "store" / kind).rglob("*")}
    repeated = search(elastic_config(), again)
    after = {p.name: p.stat().st_ino for kind in ("weights", "inherited") for p in (again / "store" / kind).rglob("*")}
    assert after == stored
    assert [t.id for t in repeated.trials] == [t.id for t in run.trials]
    assert [t.val_accuracy for t in repeated.trials] == [t.val_accuracy for t in run.trials]

    def searched(_self: OnceForAll) -> None:
        raise AssertionError("a finished run was searched again")

    monkeypatch.setattr(OnceForAll, "search", searched)
    assert search(elastic_config(), again).trials == repeated.trials


def test_out_of_time_it_judges_few_and_still_has_a_result(folder: Path, tmp_path: Path) -> None:
    in_a_hurry = tmp_path / "in a hurry"
    shutil.copytree(folder / "store", in_a_hurry / "store")
    run = search(elastic_config(max_minutes=1e-6), in_a_hurry)
    assert run.once_for_all is not None
    assert MEMBERS <= run.once_for_all.evaluated < EVALUATIONS
    assert [t.status for t in run.trials] == ["finished"]
    assert len(run.finalists) == 1


def test_workers_judge_what_one_would(folder: Path, run: RunRecord, tmp_path: Path) -> None:
    """The same elastic network and the same latencies; accuracies are not found in the store, but judged by workers."""
    together = tmp_path / "together"
    shutil.copytree(folder / "store", together / "store")
    shutil.rmtree(together / "store" / "inherited")
    repeated = search(elastic_config(workers=2), together)
    assert [t.candidate.student for t in repeated.trials] == [t.candidate.student for t in run.trials]
    assert repeated.once_for_all is not None
    assert run.once_for_all is not None
    assert repeated.once_for_all.evaluated == EVALUATIONS
    assert repeated.once_for_all.inherited == pytest.approx(run.once_for_all.inherited, abs=0.01)
    assert len(list((together / "store" / "inherited").rglob("*.json"))) == EVALUATIONS
