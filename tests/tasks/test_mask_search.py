"""A small search for masks, from the demo's config: what it decides by, what it writes, and that it goes on."""

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
from sklearn.metrics import jaccard_score
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

import nas_kd
from nas_kd.api.functions import read_config
from nas_kd.commands.evaluate import evaluate
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import StopRun
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.digit_masks import PLUGIN as DIGIT_MASKS
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.report import write_report
from nas_kd.tasks.base import load_task
from tests.small_runs import MakeOnce, StopsAfter, assert_same_run

MARGIN = 0.2  # of mean IoU, by which the teacher beats the best constant answer
TOY: dict[str, Any] = {
    "data.train_rows": 240,
    "data.test_rows": 60,
    "teacher.epochs": 12,
    "distill.epochs": 6,
    "chain.max_assistants": 1,
    "chain.assistant_sizes": 2,
    "search.precisions": ["fp32", "int8"],
    "finalists.controls": True,
    "finalists.max_control_epochs": 1.0,
    "finalists.baselines": ["quantization"],
    "engine.threads": 1,
}


def config(**overrides: Any) -> SearchConfig:
    return read_config(None, TOY | overrides, task="segmentation")


def pixels_of(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def folder(make_once: MakeOnce) -> Path:
    return make_once("masks", lambda path: search(config(), path))


@pytest.fixture(scope="module")
def split_for_test() -> tuple[Any, Any]:
    data = load_dataset(config().data, 0)
    return data.test.x.numpy(), data.test.y.numpy()


def test_the_score_is_the_exported_file_s(folder: Path, split_for_test: tuple[Any, Any]) -> None:
    run, (x, y) = read_run(RunFolder(folder)), split_for_test
    assert run.state == "finished"
    assert run.metric is not None
    assert run.teacher is not None
    assert run.teacher.val is not None
    assert run.teacher.val.mean > run.metric.chance + MARGIN
    session = onnxruntime.InferenceSession(folder / "winner" / "student.onnx")
    outputs = session.run(["logits"], {"input": x.astype(np.float32)})[0]
    assert outputs.shape[:2] == (60, 4)
    given = interpolate(torch.from_numpy(outputs), (32, 32), mode="bilinear").argmax(1).numpy()
    (best,) = run.finalists
    assert best.deployed_test is not None
    assert best.deployed_test.mean == pytest.approx(jaccard_score(y.ravel(), given.ravel(), average="macro"), abs=1e-6)
    assert {c.kind for c in best.controls} >= {"no_distillation"}
    assert run.baselines
    assert best.by_class is not None
    assert best.by_class.title == "IoU"
    assert len(best.by_class.values) == 4


def test_front_and_card_state_what_the_file_gives(folder: Path) -> None:
    front = json.loads((folder / "front.json").read_text())
    card = json.loads((folder / "winner" / "card.json").read_text())
    assert (front["schema"], front["metric"]["name"]) == (2, "mean_iou")
    assert card["nas_kd.output"]["shape"] == ["batch", 4, "h", "w"]
    assert card["nas_kd.output"]["kind"] == "masks"
    assert card["nas_kd.classes"] == ["background", "digit 0", "digit 1", "digit 7"]


def test_the_report_shows_samples_and_classes(folder: Path, tmp_path: Path) -> None:
    page = write_report(read_run(RunFolder(folder)), tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 6
    assert len(page) < 900_000
    text = (tmp_path / "report.md").read_text()
    assert "IoU, A" in text
    assert "accuracy" not in text.lower()
    for number in range(1, 7):
        assert f"(sample{number}.png)" in text
        assert pixels_of(tmp_path / f"sample{number}.png").shape == (128, 392)


def test_predict_py_writes_the_masks(folder: Path, split_for_test: tuple[Any, Any], tmp_path: Path) -> None:
    x, _ = split_for_test
    np.save(tmp_path / "x.npy", x[:20])
    Image.fromarray(x[20, 0]).save(tmp_path / "picture.png")
    program = [sys.executable, "-I", str(folder / "winner" / "predict.py")]
    arguments = ["--npy", str(tmp_path / "masks.npy"), "--masks", str(tmp_path / "out"), "--json"]
    inputs = [str(tmp_path / "x.npy"), str(tmp_path / "picture.png")]
    done = subprocess.run([*program, *inputs, *arguments], check=True, capture_output=True, text=True)
    session = onnxruntime.InferenceSession(folder / "winner" / "student.onnx")
    outputs = session.run(["logits"], {"input": x[:21].astype(np.float32)})[0]
    expected = interpolate(torch.from_numpy(outputs), (32, 32), mode="bilinear").argmax(1).numpy()
    masks = np.load(tmp_path / "masks.npy")
    assert masks.shape == (21, 32, 32)
    assert (masks == expected).mean() > 0.9999
    assert np.array_equal(pixels_of(tmp_path / "out" / "x_3.png"), masks[3])
    assert np.array_equal(pixels_of(tmp_path / "out" / "picture.png"), masks[20])
    found = json.loads(done.stdout)
    assert sum(found[0]["shares"].values()) == pytest.approx(1)
    assert found[0]["shares"].get("background") == pytest.approx(float((masks[0] == 0).mean()))
    plain = subprocess.run([*program, inputs[0]], check=True, capture_output=True, text=True).stdout
    assert plain.count("\n") == 20
    assert "background" in plain
    for asked in (
        [str(tmp_path / "none.png")],
        [inputs[0], "--masks", inputs[0]],
        [inputs[0], "--npy", str(tmp_path / "none" / "m.npy")],
    ):
        wrong = subprocess.run([*program, *asked], check=False, capture_output=True, text=True)
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr


def test_evaluate_and_load_model_give_the_same(folder: Path, split_for_test: tuple[Any, Any]) -> None:
    result = evaluate(folder / "winner" / "student.onnx", config())
    run, (x, y) = nas_kd.load_run(folder), split_for_test
    assert run.winner is not None
    assert run.winner.record.deployed_test is not None
    assert result.accuracy.mean == pytest.approx(run.winner.record.deployed_test.mean, abs=1e-6)
    assert (result.title, result.correct) == ("mean IoU", None)
    model = run.winner.load_model()
    with torch.no_grad():
        outputs = model(torch.from_numpy(x).float())
    task = load_task("segmentation").read_targets({"train": y}, None).task
    score = task.first_score(task.evidence(outputs.numpy(), y))
    assert score == pytest.approx(result.accuracy.mean, abs=0.02)  # at int8, the network rounds a little otherwise


def test_an_interrupted_run_ends_like_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StopRun):
        search(config(), tmp_path, StopsAfter(15))  # the teacher has 12 epochs
    search(config(), tmp_path)
    assert_same_run(folder, tmp_path)


def test_a_finished_run_is_not_done_again(folder: Path) -> None:
    before = (folder / "front.json").read_text()
    search(config(), folder)
    assert (folder / "front.json").read_text() == before


class Whole(nn.Module):
    """A network of the user's own, which returns logits at the pictures' size in a dictionary, as torchvision does."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        layers = [nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=4, dilation=2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8, classes, 3, padding=1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.layers(x / 64 - 1.5)}


def trained(x: Any, y: Any) -> Whole:
    """A network that tells ink from the background, and little more."""
    torch.manual_seed(0)
    network, pixels, masks = Whole(), torch.as_tensor(x).float(), torch.as_tensor(y).long()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for step in range(150):
        rows = slice(16 * (step % 10), 16 * (step % 10) + 16)
        optimizer.zero_grad()
        cross_entropy(network(pixels[rows])["out"], masks[rows], torch.tensor([0.3, 1, 1, 1])).backward()
        optimizer.step()
    return network


def test_a_teacher_of_the_user_s_own_returns_maps(tmp_path: Path) -> None:
    raw = DIGIT_MASKS.load(config().data)
    data = {"train": raw.train, "val": raw.val, "test": raw.test}
    options = {k: v for k, v in TOY.items() if not k.startswith(("data.", "teacher"))}
    options |= {"chain.max_assistants": 0, "distill.epochs": 2, "search.rungs": 1, "finalists.controls": False}
    options |= {"finalists.baselines": [], "finalists.seeds": 1, "finalists.max": 1, "search.precisions": ["fp32"]}
    run = nas_kd.search(
        teacher=trained(*raw.train),
        data={split: tuple(arrays) for split, arrays in data.items() if arrays is not None},
        task="segmentation",
        space="mobilenet+pyramid",
        methods=["soft_targets+channel_wise", "dkd"],
        budget=nas_kd.Budget(max_size_kb=60),
        trials=1,
        options=options,
        run_dir=tmp_path,
    )
    assert run.winner is not None
    assert "head" in run.winner.description
    with pytest.raises(InputError, match=r"teacher: must give an output of shape \(2, 4, any, any\), got a dict with"):
        nas_kd.search(teacher=Whole(3), data=data, task="segmentation", options=options, run_dir=tmp_path / "other")


def test_mixup_has_no_class_for_a_pixel_that_is_two(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"distill\.mix = 'mixup': a target that has a place .* use cutmix, or none"):
        search(config(**{"distill.mix": "mixup"}), tmp_path)


def test_a_task_without_a_demo_is_said() -> None:
    with pytest.raises(InputError, match="unknown task with a demo 'segmentatoin'; did you mean 'segmentation'"):
        read_config(None, task="segmentatoin")
    assert read_config(None).name == "demo" == read_config(None, task="classification").name
    assert read_config(None, task="segmentation").name == "demo-segmentation"
