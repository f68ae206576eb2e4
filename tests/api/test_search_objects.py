"""Searches with other kinds of objects: several teachers, data sets of pixels, summed students, and workers."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import nas_kd
from nas_kd.models.wrappers import ContiguousLayout
from nas_kd.nas.propose import Proposer
from nas_kd.results.candidate import Choice

from .search_toys import LogitMatching, Recorder, agrees, logits_of, splits, tiny_search
from .toys import Net

pytestmark = pytest.mark.xdist_group("tiny run")


class TwoTeachers(nas_kd.Method):
    """Mean of the teachers' probabilities as labels."""

    name = "two_teachers"
    source = "Hinton 2015, arXiv:1503.02531"
    summary = "mean of the teachers' probabilities"
    teachers = "several"

    def forward(self, student: Any, teachers: Sequence[Any], batch: Any) -> dict[str, Tensor]:
        mean = torch.stack([t.logits.softmax(dim=1) for t in teachers]).mean(dim=0)
        return {"two_teachers": cross_entropy(student.logits, mean)}


def pixels(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def pixel_run(teacher: Net, tmp_path_factory: pytest.TempPathFactory) -> nas_kd.Run:
    """Two teachers, of which one expects 0..1, data sets of pixels, and students that are summed and rounded."""
    raw = nn.Sequential(Scaled(), teacher)
    data = {split: TensorDataset(pixels(x), y) for split, (x, y) in splits().items()}
    with pytest.MonkeyPatch.context() as patch:
        chain: list[dict[str, Choice]] = [{"assistant.1": "1"}]
        patch.setattr(Proposer, "initial_trials", lambda *_: chain)  # the first would have no assistants
        return tiny_search(
            tmp_path_factory.mktemp("pixels") / "run",
            teacher,
            teacher=[{"module": teacher, "preprocessing": "unit"}, raw],
            data=data,
            methods=(TwoTeachers, LogitMatching),
            trials=1,
            options={
                "search.precisions": ["int8-qat"],
                "chain.policy": ["residual"],
                "finalists.seeds": 1,
                "finalists.controls": False,
            },
        )


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 255


def test_both_teachers_see_what_they_expect(pixel_run: nas_kd.Run) -> None:
    first, second = pixel_run.record.teacher, *pixel_run.record.other_teachers
    assert first is not None
    assert first.val == second.val
    assert first.val.mean > 0.8
    assert pixel_run.record.dataset is not None
    assert pixel_run.record.dataset.scale == 255
    assert (first.description.split(",")[0], second.description.split(",")[0]) == ("Net", "Sequential")


def test_summed_and_rounded_students_are_loaded_as_they_are_deployed(pixel_run: nas_kd.Run) -> None:
    x = pixels(splits()["test"][0]).float()
    (finalist,) = pixel_run.finalists
    assert (finalist.candidate.precision, finalist.candidate.policy) == ("int8-qat", "residual")
    agrees(finalist.load_model(), pixel_run.folder.winner / "student.onnx", x, within=0.02)  # a value between two steps


def test_predict_reads_an_image(pixel_run: nas_kd.Run, tmp_path: Path) -> None:
    x = pixels(splits()["test"][0][:1])
    Image.fromarray(x[0, 0].numpy()).save(tmp_path / "photo.png")
    np.save(tmp_path / "photo.npy", x.numpy())
    winner = pixel_run.folder.winner
    command = [sys.executable, "-I", str(winner / "predict.py"), "photo.png", "photo.npy"]
    lines = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines()
    best = int(logits_of(winner / "student.onnx", x.float()).argmax())
    assert [bool(re.match(rf"photo\.(png|npy\[0\]): {best} \(", line)) for line in lines] == [True, True]
    assert lines[0].replace("png", "npy[0]") == lines[1]
    assert json.loads((winner / "card.json").read_text())["pixels"] is True


def test_workers_receive_the_objects(teacher: Net, measured: Path, run: nas_kd.Run) -> None:
    """Also after an object that could not be sent has been given to another call of this process."""
    Local = type("Local", (LogitMatching,), {"__module__": "__main__"})
    with pytest.raises(
        nas_kd.InputError, match=r"^the method cannot be passed to several workers \(PicklingError: .*\)"
    ):
        tiny_search(measured, teacher, methods=[Local], workers=2)
    seen = Recorder()
    options = {"finalists.controls": False, "finalists.seeds": 1}
    found = tiny_search(measured, teacher, workers=2, callbacks=seen, options=options)
    assert found.state == "finished"
    assert {t.status for t in found.trials} == {"finished"}
    alike = {t.id: t.val_accuracy for t in found.trials}
    assert {t.id: t.val_accuracy for t in run.trials} == alike
    assert {t.number for t in seen.trials} == {0, 1, 2}
    assert found.winner is not None
    agrees(found.winner.load_model(), found.folder.winner / "student.onnx", splits()["val"][0])


def test_a_teacher_that_views_its_maps_keeps_its_accuracy(run: nas_kd.Run, teacher: Net) -> None:
    x, y = splits()["val"]
    with torch.no_grad():
        expected = float((teacher(x).argmax(dim=1) == y).double().mean())
    assert run.record.teacher is not None
    assert run.record.teacher.val.mean == pytest.approx(expected)
    assert all(p.is_contiguous() for p in teacher.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_views_its_maps_runs_in_any_layout(channels: int) -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(channels, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).view(len(x), -1)  # type: ignore[no-any-return]

    network, x = Viewing(), torch.rand(2, channels, 8, 8)
    expected, other = network(x), x.contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view size"):
        deepcopy(network).to(memory_format=torch.channels_last)(other)
    wrapped = ContiguousLayout(network).to(memory_format=torch.channels_last)
    assert torch.equal(wrapped(other), expected)
    assert wrapped.double()(other.double()).dtype == torch.float64
