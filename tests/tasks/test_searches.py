"""A small search of every task on scenes of digits: what it decides by, what it writes, and that it goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score

import nas_kd
from nas_kd.cli.printed_results import print_result
from nas_kd.commands.distill import distill_one
from nas_kd.commands.evaluate import evaluate
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.method_checks import with_usual_methods
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.kd.config_checks import checked_config
from nas_kd.report import write_report
from nas_kd.tasks.base import load_task
from tests.small_runs import SMALL_TEACHER, MakeOnce, small_config
from tests.tasks.scenes import NAMES, TARGETS, write_scenes

TASKS = ("multi_label", "regression")
METHODS = {"multi_label": "soft_targets", "regression": "logits"}


def config(data: Path, task: str) -> SearchConfig:
    return small_config(
        data={"source": "npz", "path": data, "task": task, "train_rows": None},
        teacher=SMALL_TEACHER | {"epochs": 25},
        chain={"max_assistants": 1, "method": METHODS[task]},
        distill={"methods": [METHODS[task], "similarity"], "epochs": 8, "batch_size": 32},
        budget={"max_latency_ms": None},
        search={"trials": 2, "rungs": 1, "precisions": ["fp32", "int8"]},
        finalists={"max": 1, "seeds": 2, "max_control_epochs": 1.0, "baselines": ["quantization"]},
    )


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def data(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / f"{task}.npz", task)


@pytest.fixture(scope="module")
def folder(make_once: MakeOnce, task: str, data: Path) -> Path:
    return make_once(f"scenes-{task}", lambda path: search(config(data, task), path))


def test_the_task_s_score_decides_and_is_the_exported_file_s(folder: Path, task: str, data: Path) -> None:
    run, score = read_run(RunFolder(folder)), load_task(task).headline_score
    assert run.metric is not None
    assert run.metric.name == score.name
    assert run.teacher is not None
    assert run.teacher.val is not None
    assert run.teacher.val.mean > run.metric.chance + 0.3
    (best,) = run.finalists
    with np.load(data) as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    session = onnxruntime.InferenceSession(folder / "winner" / "student.onnx")
    (output,) = session.get_outputs()
    assert output.name == load_task(task).output
    outputs = session.run(None, {"input": x.astype(np.float32)})[0]
    known = average_precision_score(y, outputs) if task == "multi_label" else r2_score(y, outputs)
    assert best.deployed_test is not None
    assert best.deployed_test.mean == pytest.approx(known, abs=1e-6)
    assert best.deployed_test.low < known < best.deployed_test.high
    assert {c.kind for c in best.controls} >= {"no_distillation"}
    assert run.baselines


def test_the_winner_is_a_module_again(folder: Path, data: Path) -> None:
    with np.load(data) as arrays:
        x = arrays["x_test"].astype(np.float32)
    session = onnxruntime.InferenceSession(folder / "winner" / "student.onnx")
    model = nas_kd.load_run(folder).winner.load_model()  # type: ignore[union-attr]
    with torch.no_grad():
        ours = model(torch.from_numpy(x)).numpy()
    theirs = session.run(None, {"input": x})[0]
    assert np.abs(ours - theirs).max() < 0.2 * theirs.std(), "an int8 file rounds, no more"


def test_front_json_speaks_the_task_s_words(folder: Path, task: str) -> None:
    front = json.loads((folder / "front.json").read_text())
    (candidate,) = front["candidates"]
    assert front["schema"] == 2
    assert front["metric"]["name"] == load_task(task).headline
    assert set(front["metric"]) == {"name", "unit", "higher_is_better", "chance"}
    for entry in (front["teacher"], candidate, *front["baselines"], *candidate["controls"].values()):
        assert "score" in entry
        assert "accuracy" not in entry


def test_report_and_console_speak_the_task_s_words(
    folder: Path, task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, title = read_run(RunFolder(folder)), load_task(task).headline_score.title
    write_report(run, tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert title in page
    assert "accuracy" not in page.lower()
    print_result(run, folder)
    assert "accuracy" not in capsys.readouterr().out


def test_predict_py_and_evaluate_give_the_reported_score(folder: Path, task: str, data: Path) -> None:
    with np.load(data) as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    np.save(folder / "x.npy", x)
    program = [sys.executable, "-I", str(folder / "winner" / "predict.py"), str(folder / "x.npy")]
    found = json.loads(subprocess.run([*program, "--json"], check=True, capture_output=True, text=True).stdout)
    run = read_run(RunFolder(folder))
    if task == "multi_label":
        told = np.array([[name in row["labels"] for name in NAMES[task]] for row in found])
        assert (told == y).mean() > 0.6
    else:
        told = np.array([[row["values"][name] for name in NAMES[task]] for row in found])
        assert r2_score(y, told) == pytest.approx(run.finalists[0].deployed_test.mean, abs=1e-6)  # type: ignore[union-attr]
    assert subprocess.run(program, check=True, capture_output=True, text=True).stdout.count("\n") == len(x)
    result = evaluate(folder / "winner" / "student.onnx", config(data, task))
    assert result.accuracy.mean == pytest.approx(run.finalists[0].deployed_test.mean, abs=1e-6)  # type: ignore[union-attr]
    assert (result.correct, result.classes, result.ece) == (None, (), None)


def test_a_finished_run_is_not_done_again(folder: Path, task: str, data: Path) -> None:
    before = (folder / "front.json").read_text()
    search(config(data, task), folder)
    assert (folder / "front.json").read_text() == before


def test_one_student_is_distilled(task: str, data: Path, folder: Path, tmp_path: Path) -> None:
    found = distill_one(config(data, task), tmp_path, Callback())
    assert found.title == load_task(task).headline_score.title
    assert found.test.low <= found.test.mean <= found.test.high
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["nas_kd.output"]["kind"] in ("labels", "values")
    assert list(NAMES[task]) == card["nas_kd.classes"]


def test_what_a_method_cannot_do_is_refused_before_the_data_are_read(task: str, tmp_path: Path) -> None:
    wrong = {"multi_label": "crd", "regression": "soft_targets"}[task]
    given = small_config(
        data={"source": "npz", "path": tmp_path / "nothing.npz", "task": task, "train_rows": None},
        distill={"methods": [wrong]},
    )
    with pytest.raises(InputError, match=f"method '{wrong}' is not made for"):
        search(given, tmp_path / "run")


def test_scenes_have_what_tasks_ask_for() -> None:
    assert set(TASKS) == set(TARGETS)


def test_numbers_of_several_networks_are_not_added_up(tmp_path: Path) -> None:
    given = small_config(
        data={"source": "npz", "path": tmp_path / "nothing.npz", "task": "regression", "train_rows": None},
        chain={"policy": "residual", "max_assistants": 1, "method": "logits"},
        distill={"methods": ["logits"]},
    )
    with pytest.raises(InputError, match="'residual' adds up what networks say of classes"):
        search(given, tmp_path / "run")


def test_methods_follow_from_task_and_teacher(tmp_path: Path) -> None:
    usual = with_usual_methods(SearchConfig())
    assert usual.distill.methods == SearchConfig().distill.methods
    numbers = with_usual_methods(SearchConfig.model_validate({"data": {"task": "regression"}}))
    assert numbers.distill.methods == ("logits", "similarity", "logits+similarity")
    assert numbers.chain.method == "logits"
    onnx = with_usual_methods(SearchConfig.model_validate({"teacher": {"onnx": tmp_path / "t.onnx"}}))
    assert onnx.distill.methods == ("soft_targets", "dkd")
    named = SearchConfig.model_validate({"data": {"task": "regression"}, "distill": {"methods": ["rkd"]}})
    assert with_usual_methods(named).distill.methods == ("rkd",)


@pytest.mark.parametrize(
    ("section", "options", "option"),
    [
        ("distill", {"standardize": [True, False]}, "distill.standardize is"),
        ("distill", {"class_weights": "balanced"}, "distill.class_weights are"),
        ("teacher", {"onnx": "t.onnx", "label_set": "other"}, "teacher.label_set is"),
        ("teacher", {"outputs": "t.npz"}, "teacher.outputs are"),
    ],
)
def test_what_is_for_one_class_is_refused(section: str, options: dict[str, Any], option: str) -> None:
    given = SearchConfig.model_validate({"data": {"task": "multi_label"}, section: options})
    with pytest.raises(InputError, match=f"{option} for data with one class a sample, and data.task is 'multi_label'"):
        checked_config(given)
