"""A small search for networks that embed two-digit numbers: what it decides by, what it writes, and that it goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_curve
from sklearn.neighbors import NearestNeighbors

from nas_kd.api.run import Run
from nas_kd.commands.distill import distill_one
from nas_kd.commands.evaluate import evaluate
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.loading import load_config
from nas_kd.config.options import DataOptions, SearchConfig
from nas_kd.context.callbacks import Callback, StopRun
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.dataset import Split
from nas_kd.data.digit_numbers import PLUGIN
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.plugins import remember
from nas_kd.report import write_report
from tests.small_runs import SMALL_TEACHER, MakeOnce, StopsAfter, assert_same_run, small_config

WIDTH = 16
DEMO = Path("nas_kd/config/demos/embedding.toml")
DATA = {"source": "digit_numbers", "task": "embedding", "embedding_width": WIDTH, "train_rows": None}


def config(**sections: object) -> SearchConfig:
    options = {
        "data": DATA,
        "teacher": SMALL_TEACHER | {"epochs": 14},
        "chain": {"max_assistants": 1, "method": "embedding"},
        "distill": {"methods": ["embedding", "rkd"], "epochs": 6, "batch_size": 32},
        "budget": {"max_latency_ms": None},
        "search": {"trials": 2, "rungs": 1, "sampler": "random", "precisions": ["fp32", "int8"]},
        "finalists": {"max": 1, "seeds": 2, "max_control_epochs": 1.0, "baselines": ["quantization"]},
    }
    return small_config(**options | sections)


@pytest.fixture(scope="module")
def folder(make_once: MakeOnce) -> Path:
    return make_once("numbers", lambda path: search(config(), path))


@pytest.fixture(scope="module")
def split_for_test() -> Split:
    return load_dataset(DataOptions.model_validate(DATA), 0).test


def vectors(folder: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(folder / "winner" / "student.onnx")
    (output,) = session.get_outputs()
    assert output.name == "embedding"
    return np.asarray(session.run(None, {"input": x})[0])


def samples(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return split.x[:].numpy().astype(np.float32), split.y.numpy()


def test_reported_scores_are_the_exported_file_s(folder: Path, split_for_test: Split) -> None:
    run, (x, y) = read_run(RunFolder(folder)), samples(split_for_test)
    found = vectors(folder, x)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(x)), abs=1e-5)
    _, nearest = NearestNeighbors(n_neighbors=2, metric="cosine").fit(found).kneighbors(found)
    (best,) = run.finalists
    assert best.deployed_test is not None
    assert best.deployed_test.mean == pytest.approx((y[nearest[:, 1]] == y).mean(), abs=1e-6)
    assert run.metric is not None
    assert run.metric.name == "recall_at_1"
    assert run.teacher is not None
    assert run.teacher.val is not None
    assert run.teacher.val.mean > run.metric.chance + 0.2
    assert best.test.mean > run.metric.chance + 0.1
    assert set(best.further) == set(run.teacher.further) == {"tar_at_far", "tar_at_far_1e3"}
    assert {c.kind for c in best.controls} >= {"no_distillation"}
    assert run.baselines


def test_the_card_states_a_threshold_that_was_found_on_validation(folder: Path) -> None:
    card = json.loads((folder / "winner" / "card.json").read_text())
    output = card["nas_kd.output"]
    assert (output["kind"], output["shape"], output["similarity"]) == ("embedding", ["batch", WIDTH], "cosine")
    assert card["nas_kd.classes"] == []
    x, y = samples(load_dataset(DataOptions.model_validate(DATA), 0).val)
    found = vectors(folder, x)
    first, second = np.triu_indices(len(x), 1)
    false, _, thresholds = roc_curve(y[first] == y[second], (found @ found.T)[first, second], drop_intermediate=False)
    assert false[thresholds >= output["threshold"]].max() <= output["false_alarms"] + 1e-9
    assert false[thresholds >= output["threshold"]].max() > 0.5 * output["false_alarms"]
    assert "Two samples are taken for one identity" in (folder / "winner" / "README.md").read_text()


def test_predict_py_prints_vectors_and_compares_samples(folder: Path, split_for_test: Split, tmp_path: Path) -> None:
    x, _ = samples(split_for_test)
    np.save(tmp_path / "x.npy", x[:3])
    program = [sys.executable, "-I", str(folder / "winner" / "predict.py"), str(tmp_path / "x.npy")]

    def printed(*options: str) -> str:
        return subprocess.run([*program, *options], check=True, capture_output=True, text=True).stdout

    found, expected = json.loads(printed("--json")), vectors(folder, x[:3])
    assert np.array([row["embedding"] for row in found]) == pytest.approx(expected, abs=1e-6)
    compared = json.loads(printed("--compare", "--json"))
    assert [row["cosine"] for row in compared] == pytest.approx([expected[0] @ expected[1], expected[0] @ expected[2]])
    threshold = json.loads((folder / "winner" / "card.json").read_text())["nas_kd.output"]["threshold"]
    assert [row["same"] for row in compared] == [row["cosine"] >= threshold for row in compared]
    assert printed("--compare").count("cosine") == 2
    assert len(printed().splitlines()) == 3


def test_words_are_the_task_s(folder: Path, tmp_path: Path) -> None:
    run = read_run(RunFolder(folder))
    write_report(run, tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "recall@1" in page
    assert "accuracy" not in page.lower()
    front = json.loads((folder / "front.json").read_text())
    assert (front["schema"], front["metric"]["name"]) == (2, "recall_at_1")
    assert front["candidates"][0]["tar_at_far"]["test"] == pytest.approx(
        run.finalists[0].further["tar_at_far"].mean, abs=1e-5
    )


def test_the_student_is_a_module_again_and_is_evaluated(folder: Path, split_for_test: Split) -> None:
    best, (x, _) = Run.read(folder).finalists[0], samples(split_for_test)
    assert best.load_model()(torch.from_numpy(x[:4])).norm(dim=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    result = evaluate(folder / "winner" / "student.onnx", config())
    assert best.record.deployed_test is not None
    assert result.accuracy.mean == pytest.approx(best.record.deployed_test.mean, abs=1e-6)


def test_an_interrupted_run_ends_like_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StopRun):
        search(config(), tmp_path, StopsAfter(17))  # the teacher has 14 epochs
    search(config(), tmp_path)
    assert_same_run(folder, tmp_path)


class Blurred(torch.nn.Module):
    """Gives the picture itself, blurred, as a vector of 32 numbers of any length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 2).flatten(1) - 60


class Heard(Callback):
    """Keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def test_a_student_of_another_width_learns_by_a_projection(tmp_path: Path) -> None:
    given, heard = config(teacher=[{"factory": remember("teacher", "blurred", Blurred())}]), Heard()
    found = distill_one(given, tmp_path, heard)
    assert [note for note in heard.notes if "returns 32 numbers a sample, students 16" in note]
    assert found.title == "recall@1"
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["nas_kd.output"]["shape"] == ["batch", WIDTH]


class Plain(torch.nn.Module):
    """A small network with vectors of 24 numbers, of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, 2, 1), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(32 * 2 * 4, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x / 255).flatten(1))  # type: ignore[no-any-return]


def test_students_cut_out_of_a_teacher_keep_its_width(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = [{"factory": remember("teacher", "plain", Plain())}]
    own: dict[str, object] = {"teacher": teacher, "space": {"name": "own"}, "chain": {"max_assistants": 0}}
    with pytest.raises(InputError, match=r"the teacher, 24, and 16 are asked for: set data.embedding_width = 24"):
        distill_one(config(**own), tmp_path / "other", Callback())
    distill_one(config(**own, data=DATA | {"embedding_width": 24}), tmp_path / "own", Callback())
    session = onnxruntime.InferenceSession(tmp_path / "own" / "student.onnx")
    found = session.run(None, {"input": np.zeros((2, 1, 8, 16), np.float32)})[0]
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(2), abs=1e-5)  # whatever the teacher's are
    assert found.shape == (2, 24)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"distill": {"methods": ["soft_targets"]}},
            "method 'soft_targets' is not made for embeddings; methods that are:",
        ),
        (
            {"chain": {"policy": "residual", "max_assistants": 1, "method": "embedding"}},
            "'residual' adds up what networks",
        ),
        ({"distill": {"methods": ["rkd"], "class_weights": "balanced"}}, "distill.class_weights are for data with one"),
    ],
)
def test_what_makes_no_sense_is_refused_before_data_are_read(
    sections: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        search(config(**sections, data=DATA | {"source": "nowhere:at_all"}), tmp_path)


def test_numbers_are_composed_of_handwriting_that_is_used_once() -> None:
    raw = PLUGIN.load(DataOptions())
    x, y = np.asarray(raw.train.x), np.asarray(raw.train.y)
    assert x.shape == (800, 1, 8, 16)
    assert set(np.unique(y, return_counts=True)[1].tolist()) == {8}
    halves = np.concatenate([x[..., :8], x[..., 8:]]).reshape(1600, -1)
    assert len(np.unique(halves, axis=0)) == 1600
    right = {number: x[y == number][..., 8:] for number in ("07", "17")}
    assert np.corrcoef(*(part.mean(axis=0).ravel() for part in right.values()))[0, 1] > 0.8  # both end in a 7


def test_the_demo_is_a_config_that_can_be_read() -> None:
    demo = load_config(DEMO)
    assert (demo.data.task, demo.data.source) == ("embedding", PLUGIN.name)
