"""A small search for boxes, from the demo's config: what it decides by, what it writes, and that it goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from nas_kd.api.functions import read_config
from nas_kd.commands.evaluate import evaluate
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import StopRun
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.prepare import load_dataset
from nas_kd.deployment.predict_boxes import BoxPredictor
from nas_kd.errors import InputError
from nas_kd.report import write_report
from nas_kd.results.boxes import anchor_points, find_boxes
from nas_kd.scores.base import load_score
from nas_kd.scores.box_matches import FoundBoxes
from nas_kd.tasks.base import load_task
from tests.small_runs import MakeOnce, StopsAfter, assert_same_run

MARGIN = 0.1  # of mAP50-95, by which the teacher beats the best constant answer: no boxes, or the same ones everywhere
TOY: dict[str, Any] = {
    "data.train_rows": 240,
    "data.test_rows": 60,
    "teacher.epochs": 12,
    "distill.epochs": 8,
    "distill.batch_size": 16,
    "distill.methods": ["soft_targets+fitnet"],
    "search.trials": 1,
    "search.precisions": ["int8"],
    "budget.max_latency_ms": None,
    "finalists.baselines": ["quantization"],
    "engine.threads": 1,
}


def config(**overrides: Any) -> SearchConfig:
    return read_config(None, TOY | overrides, task="detection")


@pytest.fixture(scope="module")
def folder(make_once: MakeOnce) -> Path:
    return make_once("boxes", lambda path: search(config(), path))


@pytest.fixture(scope="module")
def split_for_test() -> tuple[Any, Any]:
    data = load_dataset(config().data, 0)
    return data.test.x.numpy(), data.test.y.numpy()


def outputs_of(folder: Path, x: Any) -> Any:
    session = onnxruntime.InferenceSession(folder / "winner" / "student.onnx")
    return session.run(["logits"], {"input": x.astype(np.float32)})[0]


def test_the_score_is_the_exported_file_s(folder: Path, split_for_test: tuple[Any, Any]) -> None:
    run, (x, y) = read_run(RunFolder(folder)), split_for_test
    assert run.state == "finished"
    assert run.metric is not None
    assert run.teacher is not None
    assert run.teacher.val is not None
    assert run.metric.chance == 0
    assert run.teacher.val.mean > constant_answer(y) + MARGIN
    outputs = outputs_of(folder, x)
    assert outputs.shape == (60, 80, 7)
    found = [find_boxes(raw, anchor_points(32, 32, (4, 8)), 32, 32) for raw in outputs]
    (best,) = run.finalists
    assert best.deployed_test is not None
    expected = load_score("map50_95").value(FoundBoxes(found, y, 3))
    assert best.deployed_test.mean == pytest.approx(expected, abs=1e-6)
    assert best.by_class is not None
    assert len(best.by_class.values) == 3
    assert best.decoding_ms is not None
    assert 0 < best.decoding_ms < 1000


def constant_answer(y: Any) -> float:
    """mAP50-95 of a box of the usual size in each cell of each scene, of each class."""
    cells = np.array([[c, 0.5, x, z, x + 14, z + 14] for c in range(3) for x in (1, 17) for z in (1, 17)], np.float32)
    return load_score("map50_95").value(FoundBoxes([cells] * len(y), y, 3))


def test_front_and_card_state_what_the_file_gives(folder: Path) -> None:
    front = json.loads((folder / "front.json").read_text())
    card = json.loads((folder / "winner" / "card.json").read_text())
    assert (front["schema"], front["metric"]["name"]) == (2, "map50_95")
    output = card["nas_kd.output"]
    assert (output["shape"], output["kind"], output["strides"]) == (["batch", 80, 7], "boxes", [4, 8])
    assert card["decoding_ms"] > 0
    readme = (folder / "winner" / "README.md").read_text()
    assert "Beside the graph: " in readme
    assert f"Boxes of a probability from {output['floor']:.2f} on are taken for true" in readme


def test_the_report_shows_samples_and_classes(folder: Path, tmp_path: Path) -> None:
    page = write_report(read_run(RunFolder(folder)), tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 6
    text = (tmp_path / "report.md").read_text()
    assert "average precision" in text
    assert "accuracy" not in text.lower()


def test_predict_py_finds_the_boxes(folder: Path, split_for_test: tuple[Any, Any], tmp_path: Path) -> None:
    x, _ = split_for_test
    np.save(tmp_path / "x.npy", x[:8])
    Image.fromarray(x[8, 0]).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    program = [sys.executable, "-I", str(folder / "winner" / "predict.py")]
    arguments = ["--json", "--floor", "0.1", "--draw", str(tmp_path / "out")]
    inputs = [str(tmp_path / "x.npy"), str(tmp_path / "large.png")]
    done = subprocess.run([*program, *inputs, *arguments], check=True, capture_output=True, text=True)
    rows = json.loads(done.stdout)
    assert len(rows) == 9
    for row, raw in zip(rows, outputs_of(folder, x[:8]), strict=False):
        expected = find_boxes(raw, anchor_points(32, 32, (4, 8)), 32, 32, floor=0.1)
        assert [box["index"] for box in row["boxes"]] == expected[:, 0].tolist()
        found = [[box["probability"], *box["box"]] for box in row["boxes"]]
        assert np.allclose(np.reshape(found, (-1, 5)), expected[:, 1:], atol=1e-3)
    with Image.open(tmp_path / "out" / "large.png") as drawn:
        assert drawn.size == (64, 64)
    assert any(row["boxes"] for row in rows)
    floor = json.loads((folder / "winner" / "card.json").read_text())["nas_kd.output"]["floor"]
    assert 0.02 <= floor < 1
    usual = subprocess.run([*program, *inputs, "--json"], check=True, capture_output=True, text=True)
    found = [box["probability"] for row in json.loads(usual.stdout) for box in row["boxes"]]
    assert found
    assert min(found) >= floor


def test_evaluate_gives_the_reported_score(folder: Path) -> None:
    result = evaluate(folder / "winner" / "student.onnx", config())
    deployed = read_run(RunFolder(folder)).finalists[0].deployed_test
    assert deployed is not None
    assert result.accuracy.mean == pytest.approx(deployed.mean, abs=1e-6)


def test_an_interrupted_run_ends_like_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StopRun):
        search(config(), tmp_path, StopsAfter(15))  # the teacher has 12 epochs
    search(config(), tmp_path)
    assert_same_run(folder, tmp_path)


def test_a_finished_run_is_not_done_again(folder: Path) -> None:
    before = (folder / "front.json").read_text()
    search(config(), folder)
    assert (folder / "front.json").read_text() == before


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((2, 3)), "wants boxes"),
        ([[[0.5, 1, 1, 2, 2]]], "a class that is no whole number"),
        ([[[0, 1, 1, np.inf, 2]]], "an edge that is not finite"),
        ([[[0, 3, 1, 2, 2]]], "upside down or without area"),
        ([[[1, 1, 1, 2, 2]]], "class '0' has no box in train"),
        (np.full((2, 1, 5), -1), "no picture of train has a box"),
    ],
)
def test_boxes_that_make_no_sense_are_refused(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task("detection").read_targets({"train": np.asarray(y)}, None)


def test_targets_are_those_of_the_smallest_box_around_an_anchor() -> None:
    y = np.array([[[1, 0, 0, 31, 31], [0, 1, 1, 7, 7], [-1] * 5]])
    read = load_task("detection").read_targets({"train": y}, None)
    rows = read.task.targets(torch.from_numpy(read.values["train"])).reshape(80, 6)
    points = anchor_points(32, 32, (4, 8))
    inner = ((points[:, :2] > 1) & (points[:, :2] < 7)).all(axis=1)
    outer = ~inner & (points[:, :2] < 31).all(axis=1)
    assert (inner.sum(), outer.sum()) == (5, 75)
    assert rows[inner, :2].unique(dim=0).tolist() == [[1, 0]]
    assert rows[outer, :2].unique(dim=0).tolist() == [[0, 1]]
    far = np.flatnonzero((points == [30, 14, 4]).all(axis=1))[
        0
    ]  # 30 from the left edge, of 32 that it reaches; 1, 14, 17
    assert rows[far, 2:].tolist() == [1, 0, 0, 1]


def test_boxes_are_clipped_to_their_pictures() -> None:
    task = load_task("detection")
    y = np.array([[[0, -3, 2, 5, 40], [0, 33, 0, 40, 9], [-1] * 5]])
    read = task.read_targets({"train": y}, None)
    found = read.task.fitted(read, (1, 32, 32))
    assert found.values["train"].tolist() == [[[0, 0, 2, 5, 32], [-1] * 5, [-1] * 5]]
    assert found.encoding == "1 boxes were clipped to their pictures, 1 that lie outside of them were left out"
    with pytest.raises(InputError, match="needs pictures"):
        read.task.fitted(read, (8,))


def test_rows_count_as_the_teacher_is_sure() -> None:
    read = load_task("detection").read_targets({"train": np.array([[[1, 4, 4, 20, 20], [0, 1, 1, 9, 9]]])}, None)
    raw = torch.randn(1, 80, 6, generator=torch.Generator().manual_seed(0))
    decided = read.task.decide(raw)
    counts = read.task.row_counts(torch.from_numpy(read.values["train"]), [decided])
    assert counts is not None
    assert torch.allclose(counts.reshape(1, 80, 6), raw[..., :2].sigmoid().amax(dim=2, keepdim=True).expand(1, 80, 6))


@pytest.mark.parametrize(("size", "way"), [((64, 32), "letterbox"), ((20, 50), "letterbox"), ((50, 20), "stretch")])
def test_boxes_go_back_to_the_picture(size: tuple[int, int], way: str) -> None:
    """A bright rectangle of a picture is where the program says that the sample's bright pixels come from."""
    picture = np.zeros((size[1], size[0]), dtype=np.uint8)
    picture[4:14, 6:18] = 255
    image = Image.fromarray(picture)
    predictor = BoxPredictor.__new__(BoxPredictor)
    predictor.shape = (1, 32, 32)
    predictor._input = {"picture": {"resize": way, "fill": 0, "interpolation": "bicubic"}}
    rows, columns = np.nonzero(predictor.read_picture(image)[0] > 127)
    edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    scale, start = predictor._placed(image)
    found = (edges - np.tile(start, 2)) / np.tile(scale, 2)
    assert found.tolist() == pytest.approx([6, 4, 18, 14], abs=0.8 / min(scale))
