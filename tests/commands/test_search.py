"""A whole search on real data, and what it leaves."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import optuna
import pytest
from optuna.trial import TrialState

from nas_kd.commands.search import search
from nas_kd.commands.write_winner import export_winner
from nas_kd.config.options import Budget
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import BudgetError, InputError
from nas_kd.nas.feasibility import log_excess
from nas_kd.results.limits import within_budget
from nas_kd.results.run_record import RunRecord
from nas_kd.serialization import sha256
from tests.nas.gated import Machine
from tests.small_runs import (
    SMALL_TEACHER,
    Seed,
    small_config,
)


def test_every_trial_says_what_became_of_it(finished: RunRecord) -> None:
    assert finished.state == "finished"
    distinct = [t for t in finished.trials if t.status != "duplicate"]
    assert len(distinct) == 7
    assert len({t.id for t in distinct}) == 7
    for trial in distinct:
        assert trial.status in {"finished", "pruned", "infeasible"}
        assert trial.costs is not None
        if trial.status == "infeasible":
            assert trial.reason is not None
            assert "kB >" in trial.reason or "ms >" in trial.reason
        else:
            assert trial.val_accuracy is not None
            assert trial.costs.latency_ms is not None
            assert [r.epochs for r in trial.rungs] == ([2, 4] if trial.status == "finished" else [2])


def test_rejected_candidates_cost_no_training(finished: RunRecord) -> None:
    rejected = [t for t in finished.trials if t.status == "infeasible"]
    assert rejected
    assert all("distill" not in t.seconds and t.val_accuracy is None for t in rejected)
    assert all(
        t.costs is not None and log_excess(t.costs, Budget(max_latency_ms=5, max_size_kb=60)) > 0 for t in rejected
    )


def test_finalists_have_seeds_that_the_search_did_not_use_controls_and_intervals(finished: RunRecord) -> None:
    assert finished.dataset is not None
    assert 1 <= len(finished.finalists) <= 2
    for finalist in finished.finalists:
        assert [s.seed for s in finalist.seeds] == [1, 2]
        assert finalist.test.low <= finalist.test.mean <= finalist.test.high
        assert finalist.test.samples == finished.dataset.n_test
        distilled = finalist.candidate.recipe.method != "none"
        kinds = [c.kind for c in finalist.controls]
        expected = ["no_distillation"] if distilled else []
        assert kinds == [*expected, *(["no_assistants"] if finalist.candidate.assistants else [])]
        for control in finalist.controls:
            mine = [s.test_accuracy for s in finalist.seeds]
            theirs = [s.test_accuracy for s in control.seeds]
            assert control.gain.mean == pytest.approx(np.mean(mine) - np.mean(theirs))
        assert all(s.parity <= 1e-4 and s.agreement >= 0.999 for s in finalist.seeds)


def test_front_json_keeps_its_contract(run_dir: Path, finished: RunRecord) -> None:
    front = json.loads((run_dir / "front.json").read_text())
    assert front["schema"] == 1
    assert front["budget"] == {"max_latency_ms": 5.0, "max_size_bytes": 60_000}
    assert set(front["teacher"]) >= {"accuracy", "size_bytes", "latency_ms"}
    ids = {c["id"] for c in front["candidates"]}
    assert front["winner"] in ids
    assert ids == {f.id for f in finished.finalists}
    fields = {
        "id",
        "trial",
        "student",
        "assistants",
        "method",
        "params",
        "precision",
        "seeds",
        "accuracy",
        "size_bytes",
    }
    for candidate in front["candidates"]:
        assert set(candidate) >= fields | {"latency_ms", "on_front", "within_budget", "controls"}
        assert set(candidate["on_front"]) == {"size", "latency", "joint"}


def test_the_winners_file_stands_alone_and_says_what_it_is(run_dir: Path, finished: RunRecord) -> None:
    content = (run_dir / "winner" / "student.onnx").read_bytes()
    card = json.loads((run_dir / "winner" / "card.json").read_text())
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert not any(t.external_data for t in model.graph.initializer)
    assert card["sha256"] == sha256(content)
    assert card["size_bytes"] == len(content)
    metadata = {p.key: p.value for p in model.metadata_props}
    assert set(metadata) >= {"nas_kd.candidate", "nas_kd.classes", "nas_kd.preprocessing", "nas_kd.accuracy"}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input"]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    test = load_dataset(small_config().data, 0).test
    (logits,) = session.run(None, {"input": test.x.float().numpy()})
    stated = json.loads(metadata["nas_kd.accuracy"])["this_file"]["test"]
    assert float(np.mean(logits.argmax(1) == test.y.numpy())) == pytest.approx(stated)
    winner = next(f for f in finished.finalists if f.id == card["nas_kd.candidate"]["id"])
    assert stated in [s.test_accuracy for s in winner.seeds]


def test_export_under_another_budget_needs_no_search(run_dir: Path, finished: RunRecord, tmp_path: Path) -> None:
    smallest = min(finished.finalists, key=lambda f: f.costs.require_size())
    limit = smallest.costs.require_size() / 1000
    chosen = export_winner(run_dir, tmp_path / "small.onnx", Budget(max_size_kb=limit))
    assert chosen.id == smallest.id
    assert within_budget(chosen.costs, Budget(max_size_kb=limit))
    assert json.loads((tmp_path / "small.json").read_text())["nas_kd.candidate"]["id"] == chosen.id
    with pytest.raises(BudgetError, match="no finalist meets the budget; closest: "):
        export_winner(run_dir, tmp_path / "none.onnx", Budget(max_size_kb=0.5))
    assert not (tmp_path / "none.onnx").exists()
    with pytest.raises(InputError, match=r"trial 999 is not a finalist.*finalists: trial"):
        export_winner(run_dir, tmp_path / "none.onnx", Budget(), trial=999)


def test_export_of_the_fastest_that_is_accurate_enough(run_dir: Path, finished: RunRecord, tmp_path: Path) -> None:
    least = min(f.val.mean for f in finished.finalists)
    chosen = export_winner(run_dir, tmp_path / "fast.onnx", Budget(min_accuracy=least))
    assert chosen.costs.latency_ms is not None
    assert chosen.costs.latency_ms.p50 == min(f.costs.latency_ms.p50 for f in finished.finalists if f.costs.latency_ms)
    card = json.loads((tmp_path / "fast.json").read_text())
    assert (card["macs"], card["memory_bytes"]) == (chosen.costs.macs, chosen.costs.memory_bytes)
    with pytest.raises(InputError, match=r"budget.min_accuracy must be <= 1, got 1.1"):
        export_winner(run_dir, tmp_path / "none.onnx", Budget(min_accuracy=1.1))


def test_a_search_whose_finalists_are_not_accurate_enough_ends_with_the_closest_and_its_fronts(
    with_latencies: Seed, tmp_path: Path
) -> None:
    options = {"max": 1, "seeds": 1, "controls": False}
    config = small_config(budget={"min_accuracy": 1.0}, search={"trials": 2, "rungs": 1}, finalists=options)
    folder = with_latencies(tmp_path / "run")
    for _ in range(2):  # the second time it is finished already
        with pytest.raises(
            BudgetError, match=r"no finalist meets the budget .* on validation .* points below the minimum"
        ):
            search(config, folder)
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    assert (front["state"], front["winner"]) == ("finished", None)
    assert front["budget"]["min_accuracy"] == 1.0
    assert [c["reaches_accuracy"] for c in front["candidates"]] == [False]
    assert not (tmp_path / "run" / "winner").exists()


@pytest.fixture
def copy(run_dir: Path, tmp_path: Path) -> Path:
    """The finished run elsewhere, to be worked on."""
    return Path(shutil.copytree(run_dir, tmp_path / "copy"))


def test_a_finished_run_is_not_searched_again(copy: Path, finished: RunRecord) -> None:
    before = (copy / "front.json").read_bytes()
    again = search(small_config(), copy)
    assert (again.trials, again.finalists) == (finished.trials, finished.finalists)
    assert (copy / "front.json").read_bytes() == before


def test_another_config_is_refused(copy: Path) -> None:
    with pytest.raises(InputError, match=r"holds a run with another config \(differs in distill.epochs\)"):
        search(small_config(distill={"epochs": 5}), copy)


def test_a_deleted_file_of_a_finalist_is_an_error(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "store" / "file")
    with pytest.raises(InputError, match="the finalist's file is gone"):
        export_winner(copy, tmp_path / "x.onnx", Budget())


@pytest.mark.usefixtures("brief_measurements")
def test_several_teachers_are_trained_apart_and_all_recorded(with_latencies: Seed, tmp_path: Path) -> None:
    config = small_config(
        teacher=[SMALL_TEACHER, SMALL_TEACHER],
        chain={"max_assistants": 1, "assistant_sizes": 2, "policy": ["sequential", "dense", "residual"]},
        distill={"methods": ["average_teachers", "dml", "soft_targets"], "epochs": 2},
        search={"trials": 5},
        finalists={"max": 1, "seeds": 1},
    )
    run = search(config, with_latencies(tmp_path / "run"))
    assert run.state == "finished"
    assert run.teacher is not None
    assert len(run.other_teachers) == 1
    assert run.other_teachers[0].val != run.teacher.val or run.other_teachers[0].test != run.teacher.test
    assert all(t.test is not None for t in (run.teacher, *run.other_teachers))
    policies = {t.candidate.policy for t in run.trials}
    assert policies <= {"sequential", "dense", "residual"}


@pytest.mark.usefixtures("brief_measurements")
def test_only_full_trainings_are_complete_in_the_study(with_latencies: Seed, tmp_path: Path) -> None:
    config = small_config(
        search={"trials": 16, "rungs": 3, "reduction": 2}, finalists={"max": 1, "seeds": 1, "controls": False}
    )
    run = search(config, with_latencies(tmp_path / "run"))
    reached = Counter(t.rungs[-1].epochs for t in run.trials if t.rungs and t.status != "duplicate")
    assert set(reached) == {1, 2, 4}
    assert all(
        (t.status == "finished") == (t.rungs[-1].epochs == 4) for t in run.trials if t.status in {"finished", "pruned"}
    )
    assert {t.status for t in run.trials} <= {"finished", "pruned", "infeasible", "duplicate"}
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'run/study.db'}")
    records = {t.number: t for t in run.trials}
    for trial in study.trials:
        complete = trial.state == TrialState.COMPLETE
        last = records[trial.number].rungs[-1:] if trial.number in records else ()
        assert complete == bool(last and last[0].epochs == 4)
        if complete:
            assert trial.values[0] == last[0].val_accuracy
    assert not any(s == TrialState.RUNNING for s in (t.state for t in study.trials))


@pytest.mark.parametrize(
    ("limit", "closest"),
    [(0.5, r"the smallest network of space 'resnet' has .*, 1 ms \(2 times the limit, unstable\)"), (0.7, "trial ")],
)
def test_a_search_is_not_given_up_for_a_latency_that_a_busy_neighbour_may_have_caused(
    limit: float, closest: str, tmp_path: Path
) -> None:
    config = small_config(budget={"max_latency_ms": limit}, search={"trials": 2}, teacher={"epochs": 1})
    with pytest.MonkeyPatch.context() as patch:
        Machine(patch).speed = 0.7
        with pytest.raises(BudgetError, match=f"no candidate can meet the budget; closest: {closest}"):
            search(config, tmp_path)
