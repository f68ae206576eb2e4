"""A whole search with an ONNX teacher that takes other samples than students: nothing of it is judged as they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import TrialError
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.results.trial_record import Costs
from tests.onnx_files import linear_classifier
from tests.small_runs import small_config

pytestmark = pytest.mark.usefixtures("brief_measurements")


class Notes(Callback):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def config_of(data: Dataset, path: Path) -> SearchConfig:
    """A search of two trials, with a teacher of bytes, channels last, sides open, two samples a call, probabilities."""
    x = np.concatenate([data.train.x.flatten(1).double().numpy(), np.full((len(data.train), 1), 255.0)], axis=1) / 255
    solved = np.linalg.solve(x.T @ x + np.eye(65), x.T @ (np.eye(10)[data.train.y.numpy()] * 8)).astype(np.float32)
    model = linear_classifier(
        solved[:-1] / np.float32(255),
        solved[-1],
        shape=("height", "width", 1),
        batch=2,
        channels_last=True,
        dtype=TensorProto.UINT8,
        last="Softmax",
    )
    path.write_bytes(model.SerializeToString())
    return small_config(
        teacher={"onnx": path, "space": None, "epochs": None, "architecture": None},
        distill={"methods": ["soft_targets"], "epochs": 1},
        search={"trials": 2, "rungs": 1},
        chain={"max_assistants": 0},
        finalists={"max": 1, "seeds": 1, "controls": False},
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset(small_config().data, 0)


def test_a_search(data: Dataset, tmp_path: Path) -> None:
    config, callback = config_of(data, tmp_path / "t.onnx"), Notes()
    search(config, tmp_path / "run", callback)
    run = read_run(RunFolder(tmp_path / "run"))
    assert run.teacher is not None
    assert run.teacher.test is not None
    assert min(run.teacher.test.mean, run.teacher.val.mean) > 0.85
    assert run.teacher.costs.latency_ms is not None
    front = json.loads((tmp_path / "run/front.json").read_text())
    assert front["teacher"]["accuracy"]["test"] == pytest.approx(run.teacher.test.mean, abs=1e-4)
    said = "\n".join(callback.notes)
    for text in ("channels last", "takes uint8", "exactly 2 samples a call", "gives probabilities"):
        assert text in said


def test_a_teacher_that_cannot_be_measured_teaches_all_the_same(data: Dataset, tmp_path: Path) -> None:
    callback = Notes()
    context = RunContext.prepare(config_of(data, tmp_path / "t.onnx"), RunFolder(tmp_path / "run"), callback)

    def measure(_onnx: bytes, _costs: Costs) -> Costs:
        raise TrialError("its outputs are not finite")

    (ready,) = prepare_teachers(context, measure)
    assert ready.record.costs.latency_ms is None
    assert ready.file is not None
    assert ready.record.costs.size_bytes == len(ready.file.content)
    assert ready.teacher.model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert callback.notes[-1] == (
        "teacher: its latency is unknown, as its outputs are not finite; all else goes on as usual"
    )
