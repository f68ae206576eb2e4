"""Checkpoints of a given teacher: files of the same network, known by their content; what else is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nas_kd.config.options import SearchConfig
from nas_kd.context.run_context import RunContext
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.kd.training_job import TrainedModel
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Recipe
from nas_kd.results.teaching import Teaching
from tests.small_runs import SMALL, SMALL_TEACHER, distiller_of, open_context, small_config

pytestmark = pytest.mark.usefixtures("brief_measurements")


def config_with(teacher: dict[str, Any]) -> SearchConfig:
    distill = SMALL["distill"] | {"methods": ["soft_targets"]}
    return SearchConfig(**SMALL | {"teacher": [teacher], "distill": distill})


def prepare(config: SearchConfig, folder: Path) -> tuple[RunContext, ReadyTeacher]:
    context = open_context(config, folder)
    gate = Gate(context, NetworkBuilder(context.data, context.space))
    return context, prepare_teachers(context, gate.of_file)[0]


def distill(context: RunContext, teacher: Teacher, teaching: Teaching, method: str = "soft_targets") -> TrainedModel:
    student = context.space.size_ladder(6)[0]
    return distiller_of(context, [teacher]).distill(Candidate(student, (), Recipe(method, teaching=teaching)), 0, 2)


class Mine(nn.Module):
    def __init__(self, classes: int = 10, width: int = 8) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(width * 64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.early(x).flatten(1))
        return out


def mine() -> nn.Module:
    return Mine()


FACTORY = f"{__name__}:mine"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three states of a short training."""
    data = load_dataset(small_config().data, 0)
    torch.manual_seed(0)
    model, paths = Mine(), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for n in range(3):
        for part in torch.randperm(len(data.train)).split(64):
            loss = nn.functional.cross_entropy(model(data.train.x[part].float() / 255), data.train.y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        paths.append(tmp_path / f"state{n}.safetensors")
        save_file(model.state_dict(), paths[-1])
    return paths


def given(files: list[Path], **other: Any) -> dict[str, Any]:
    own = {"factory": FACTORY, "weights": files[-1], "checkpoints": files[:-1], "preprocessing": "unit"}
    return own | other


def test_given_checkpoints_are_known_by_their_content(files: list[Path], tmp_path: Path) -> None:
    context, ready = prepare(config_with(given(files)), tmp_path / "run")
    assert [c.description for c in ready.record.checkpoints] == ["state0.safetensors", "state1.safetensors"]
    assert ready.record.checkpoints[0].val.mean < ready.record.val.mean
    moved = [f.rename(f.with_name(f"moved {f.name}")) for f in files]
    _, again = prepare(config_with(given(moved)), tmp_path / "other")
    assert [t.key for t in again.teacher.checkpoints] == [t.key for t in ready.teacher.checkpoints]
    _, swapped = prepare(config_with(given([moved[1], moved[0], moved[2]])), tmp_path / "swapped")
    assert [t.key for t in swapped.teacher.checkpoints] == [t.key for t in reversed(ready.teacher.checkpoints)]
    assert distill(context, ready.teacher, Teaching(checkpoint=2), "rkd").val_accuracy > 0


def test_checkpoints_of_an_onnx_teacher_are_onnx_files(files: list[Path], tmp_path: Path) -> None:
    paths = []
    for n, seed in enumerate((0, 1)):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"{n}.onnx")
        paths[-1].write_bytes(export_onnx(Mine().eval(), (1, 8, 8)))
    torch.manual_seed(2)
    model = Mine()
    model.load_state_dict(load_file(files[-1]))
    final = tmp_path / "final.onnx"
    final.write_bytes(export_onnx(model.eval(), (1, 8, 8)))
    teacher = {"onnx": final, "checkpoints": paths, "preprocessing": "unit"}
    context, ready = prepare(config_with(teacher), tmp_path / "run")
    assert [c.description for c in ready.record.checkpoints] == ["0.onnx", "1.onnx"]
    assert distill(context, ready.teacher, Teaching(progression="checkpoints")).val_accuracy > 0


def begin(folder: Path, teacher: dict[str, Any]) -> None:
    config = config_with(teacher)
    checked_config(config)
    prepare(config, folder)


def test_what_is_refused(files: list[Path], tmp_path: Path) -> None:
    missing, other, pickled = tmp_path / "none.safetensors", tmp_path / "other.safetensors", tmp_path / "c.pt"
    save_file(Mine(width=4).state_dict(), other)
    torch.save(Mine().state_dict(), pickled)
    onnx, eleven = tmp_path / "m.onnx", tmp_path / "eleven.onnx"
    onnx.write_bytes(export_onnx(Mine().eval(), (1, 8, 8)))
    eleven.write_bytes(export_onnx(Mine(11).eval(), (1, 8, 8)))
    first, _, last = files
    cases: list[tuple[dict[str, Any], str]] = [
        (given(files, checkpoints=[missing]), f"{missing}: no such file"),
        (given(files, checkpoints=[other]), f"{other}: does not fit the network of teacher.factory"),
        (given(files, checkpoints=[pickled]), f"{pickled}: not a safetensors file. Pickled checkpoints"),
        (given(files, checkpoints=[first, last]), "state2.safetensors: has the same content as the final teacher"),
        (given(files, checkpoints=[first, first]), "has a file twice; name each once"),
        (given(files, checkpoints=2), "a teacher that is given has a list of files, early to late"),
        (given(files, checkpoints="a.safetensors"), "must be a number >= 1, or a list of files, early to late"),
        (SMALL_TEACHER | {"checkpoints": files}, "a teacher that is trained here has a number of them, not files"),
        (SMALL_TEACHER | {"checkpoints": 12}, "must be < the epochs of the teacher's training, which are 12, got 12"),
        (SMALL_TEACHER | {"checkpoints": 0}, "must be a number >= 1, or a list of files, early to late, got 0"),
        ({"onnx": onnx, "checkpoints": [missing]}, f"{missing}: no such file"),
        ({"onnx": onnx, "checkpoints": [first]}, f"{first} is not an ONNX file"),
        ({"onnx": onnx, "checkpoints": [eleven]}, "eleven.onnx"),
        (
            {"outputs": tmp_path / "o.npz", "checkpoints": [first]},
            "means nothing to a teacher that is known by its out",
        ),
        ({"factory": "memory:teacher-0", "checkpoints": [first]}, "a module given in Python has none"),
    ]
    for n, (teacher, message) in enumerate(cases):
        with pytest.raises(InputError, match=rf"^teacher(\.|: )(.*checkpoints).*{re.escape(message)}") as caught:
            begin(tmp_path / str(n), teacher)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match=re.escape("teacher.checkpoints is for a single teacher; with several")):
        SearchConfig(teacher=[SMALL_TEACHER | {"checkpoints": 2}, SMALL_TEACHER | {"seed": 5}])
