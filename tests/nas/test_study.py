"""The study in memory and on the disk: whenever a process dies, another goes on from what it has left."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas_kd.commands.load_run import read_run
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import load_space
from nas_kd.nas.propose import propose
from nas_kd.nas.samplers import auto
from tests.nas.searching import EPOCHS, Searching
from tests.small_runs import few_startup_trials, narrow_space, small_config

STARTUP_TRIALS = 5
TRIALS = 28  # enough for the sampler to start from the highest rung in the end
TPE_TRIALS = 14  # then auto goes on with nsga2


@pytest.fixture(autouse=True)
def _few_startup_trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(auto, "TPE_TRIALS", TPE_TRIALS)
    with few_startup_trials(STARTUP_TRIALS):
        yield


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset(small_config().data, 0)


@pytest.fixture(scope="module")
def builder(data: Dataset) -> NetworkBuilder:
    return NetworkBuilder(data, load_space("resnet"))


@pytest.mark.parametrize("sampler", ["auto", "nsga3"])
def test_a_trial_under_way_while_the_common_rung_rises_is_stored_later(
    sampler: str, builder: NetworkBuilder, tmp_path: Path
) -> None:
    """NSGA's parents are the best of the common rung, with their values."""
    search = Searching(tmp_path / "run", builder, sampler)
    search.run_beside_each_other(TRIALS, 4)
    assert sum(len(record.rungs) == len(EPOCHS) for record in search.study.records) >= STARTUP_TRIALS
    search.study.close()


@pytest.mark.parametrize("sampler", ["auto", "nsga3"])
def test_restarts_change_nothing_while_others_reach_higher_rungs(
    sampler: str, builder: NetworkBuilder, tmp_path: Path
) -> None:
    whole = Searching(tmp_path / "whole", builder, sampler)
    expected = whole.run(TRIALS, lambda: False)
    assert {rung for _, rung in expected} == {1, 2, 3}
    killed, random = Searching(tmp_path / "killed", builder, sampler), np.random.default_rng(0)
    assert killed.run(TRIALS, lambda: bool(random.random() < 0.1)) == expected
    assert sorted(r.id for r in killed.study.records) == sorted(r.id for r in whole.study.records)
    whole.study.close()
    killed.study.close()


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_temperatures_of_one_network_are_not_tried_for_ever(
    sampler: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = narrow_space()
    assert few.cardinality() == 24

    def most_of_a_kind(limit: int) -> int:
        monkeypatch.setattr("nas_kd.nas.propose.MAX_TRIALS_PER_ARCHITECTURE", limit)
        folder = tmp_path / f"up to {limit}"
        one_method = {"distill": {"methods": ["soft_targets"]}, "chain": {"max_assistants": 0}}
        search = Searching(folder, NetworkBuilder(data, few), sampler, few, **one_method)
        search.run(TRIALS, lambda: False)
        search.study.close()
        tried = [r.candidate for r in search.study.records if r.status != "duplicate"]
        kinds = Counter(candidate.kind for candidate in tried)
        return max(kinds.values())

    assert most_of_a_kind(1000) > 2  # this is what samplers come to
    assert most_of_a_kind(2) == 2


def test_killed_between_a_record_and_what_follows_from_it(builder: NetworkBuilder, tmp_path: Path) -> None:
    search = Searching(tmp_path / "run", builder, "random")
    record = search.propose().model_copy(update={"status": "failed", "rungs": ()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.study, "_store_outcome", lambda _: None)
        stored = search.study.tell(record)
    search.reopen()
    assert search.study.records == [stored]
    assert search.study.interrupted == []
    search.study.close()
    (trial,) = optuna.load_study(study_name=None, storage=f"sqlite:///{search.folder.study}").trials
    assert trial.state == TrialState.FAIL
    assert set(trial.constraints) == {"budget"}
    assert read_run(search.folder).trials == (stored,)


def test_what_is_learnt_of_a_finished_trial_is_kept(builder: NetworkBuilder, tmp_path: Path) -> None:
    search = Searching(tmp_path / "run", builder, "random")
    rungs = search.propose().rungs * (len(EPOCHS) - 1)
    first, second = (
        search.study.tell(record.model_copy(update={"status": "finished", "within_budget": True, "rungs": rungs}))
        for record in (search.propose(), search.propose())
    )
    late = first.model_copy(update={"within_budget": False, "reason": "0.02 ms > 0.01 ms"})
    search.study.correct(late)
    assert search.study.records == [late, second]
    search.reopen()
    assert search.study.records == [late, second]
    assert search.study.find(late.id) == late
    search.study.close()
    assert read_run(search.folder).trials == (late, second)


def test_killed_before_a_duplicate_was_stored(builder: NetworkBuilder, tmp_path: Path) -> None:
    search = Searching(tmp_path / "run", builder, "random")
    first = search.study.tell(search.propose())
    trial = search.study.ask("random", 1, lambda _: False)
    search.proposer.candidate(trial)
    search.study.begin(trial, first.candidate)
    search.reopen()
    assert len(search.study.interrupted) == 1
    third = search.propose()
    assert (third.number, third.id != first.id) == (2, True)
    twin = search.study.records[1]
    assert (twin.number, twin.status, twin.duplicate_of, twin.rungs) == (1, "duplicate", 0, first.rungs)
    search.study.close()


def test_the_space_stays_exhausted(builder: NetworkBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Searching(tmp_path / "run", builder, "random")
    candidate = search.study.tell(search.propose()).candidate
    monkeypatch.setattr("nas_kd.nas.propose.MAX_DUPLICATES_IN_A_ROW", 9)
    with pytest.MonkeyPatch.context() as patch:
        draw = search.proposer.candidate
        patch.setattr(search.proposer, "candidate", lambda trial: draw(trial) and candidate)
        assert propose(search.study, search.proposer, search.config) is None
    tried = len(search.study.records)
    assert tried == 10
    search.reopen()
    assert propose(search.study, search.proposer, search.config) is None
    assert len(search.study.records) == tried
    search.study.close()


def test_commits_do_not_wait_for_the_disk_and_one_file_is_left(builder: NetworkBuilder, tmp_path: Path) -> None:
    search = Searching(tmp_path / "run", builder, "random")
    search.study.tell(search.propose())
    names = {p.name for p in tmp_path.glob("run/study.db*")}
    assert names == {"study.db", "study.db-wal", "study.db-shm"}
    assert len(read_run(search.folder).trials) == 1  # while it is written
    search.study.close()
    assert [p.name for p in tmp_path.glob("run/study.db*")] == ["study.db"]
    before = search.folder.study.read_bytes()
    read_run(search.folder)
    assert search.folder.study.read_bytes() == before
    with sqlite3.connect(search.folder.study) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_a_study_of_another_version_is_refused_with_the_version_that_reads_it(
    builder: NetworkBuilder, tmp_path: Path
) -> None:
    search = Searching(tmp_path / "run", builder, "random")
    search.study.tell(search.propose())
    search.study.close()
    with sqlite3.connect(search.folder.study) as connection:  # as nas-kd 0.1 wrote it
        connection.execute("delete from study_user_attributes where key = 'schema'")
    connection.close()
    for again in (search._open, lambda: read_run(search.folder)):
        with pytest.raises(InputError, match=r"run: .* schema 1, this version reads 3; use nas-kd 0\.1") as caught:
            again()
        assert "\n" not in str(caught.value)
    with sqlite3.connect(search.folder.study) as connection:
        connection.execute("insert into study_user_attributes values (99, 1, 'schema', '2')")
    connection.close()
    with pytest.raises(InputError, match=r"schema 2, this version reads 3; use the nas-kd that began it, or begin"):
        read_run(search.folder)
    with sqlite3.connect(search.folder.study) as connection:
        connection.execute("update study_user_attributes set value_json = '4' where key = 'schema'")
    connection.close()
    with pytest.raises(InputError, match=r"schema 4, this version reads 3; use a newer nas-kd"):
        read_run(search.folder)
