"""One student without a search; and what the other commands say of its space and its file."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from nas_kd.cli.app import app
from nas_kd.cli.printed_results import print_distilled
from nas_kd.commands.distill import DistillResult, distill_one
from nas_kd.commands.search import search
from nas_kd.config.loading import dump_config
from nas_kd.config.options import SearchConfig, SearchSection
from nas_kd.context.callbacks import Callback
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.search_space import SearchSpace, load_space
from nas_kd.serialization import sha256
from tests.small_runs import SMALL_TEACHER, Seed, small_config

pytestmark = pytest.mark.usefixtures("brief_measurements")


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("resnet")


class Notes(Callback):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def with_student(space: SearchSpace, rung: int) -> SearchConfig:
    return small_config().model_copy(update={"student": space.size_ladder(6)[rung].to_json()})


def test_distill_then_measure_its_file(space: SearchSpace, with_teachers: Seed, tmp_path: Path) -> None:
    done = distill_one(with_student(space, 1), with_teachers(tmp_path / "run"), Callback())
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert done.method == "soft_targets"
    assert done.test.low <= done.test.mean <= done.test.high
    assert done.size_bytes == card["size_bytes"] == done.path.stat().st_size
    assert card["sha256"] == sha256(done.path.read_bytes())
    assert card["candidate"]["student"] == space.size_ladder(6)[1].to_json()
    check_teacher_beside_student(done, card, (tmp_path / "run/README.md").read_text())
    said = CliRunner().invoke(app, ["measure", str(done.path)])
    assert said.exit_code == 0, said.output
    assert f"{done.size_bytes / 1000:.1f} kB" in said.output
    assert "samples/s" in said.output


def check_teacher_beside_student(done: DistillResult, card: dict[str, Any], readme: str) -> None:
    """Both have a score on test, with its interval, of the same samples."""
    teacher = done.teacher
    assert teacher.test is not None
    assert teacher.balanced is not None
    assert teacher.test.samples == done.test.samples
    assert teacher.test.low < teacher.test.mean < teacher.test.high
    assert card["teacher"]["test"] == teacher.test.model_dump()
    assert f"test accuracy {teacher.test.mean * 100:.1f} % ({teacher.test.low * 100:.1f} to" in readme.replace("\\", "")
    with redirect_stdout(StringIO()) as printed:
        print_distilled(done)
    line = printed.getvalue()
    for title, mine, theirs in (
        ("test accuracy", done.test, teacher.test),
        ("balanced accuracy", done.scores["balanced accuracy"], teacher.balanced),
    ):
        student, its_teacher = (f"{a.mean:.1%} [{a.low * 100:.1f}, {a.high * 100:.1f}]" for a in (mine, theirs))
        assert f"{title} {student} (teacher {its_teacher})" in line
    assert "validation" not in line


def test_a_student_of_another_space_or_out_of_range_is_refused(space: SearchSpace, tmp_path: Path) -> None:
    config = small_config().model_copy(update={"student": {"space": "mobilenet"}})
    with pytest.raises(InputError, match=r"student.space is 'mobilenet', but space.name is 'resnet'"):
        distill_one(config, tmp_path / "a", Callback())
    config = small_config().model_copy(update={"student": {**space.size_ladder(2)[0].choices, "width_1": 5}})
    with pytest.raises(InputError, match="width_1 must be one of"):
        distill_one(config, tmp_path / "b", Callback())


def test_a_search_out_of_time_still_has_a_result(with_latencies: Seed, tmp_path: Path) -> None:
    config = small_config(search={"max_minutes": 1e-6, "trials": 50}, finalists={"seeds": 1, "controls": False})
    run = search(config, with_latencies(tmp_path / "run"))
    assert [t.status for t in run.trials] == ["finished"]
    assert len(run.finalists) == 1


def test_a_teacher_whose_training_diverges_is_said(tmp_path: Path) -> None:
    config = small_config(distill={"learning_rate": 1e30, "clip_norm": 1e30})
    with pytest.raises(InputError, match="teacher: its training failed: the loss became"):
        search(config, tmp_path / "run")


FAMILIES = ["dist", "fsp", "crd", "dml", "okddip", "byot", "born_again", "adversarial_logits", "dafl", "random_teacher"]


@pytest.mark.parametrize("method", FAMILIES)
def test_every_family_from_a_short_config(method: str, space: SearchSpace, with_teachers: Seed, tmp_path: Path) -> None:
    several = [SMALL_TEACHER] * (2 if method == "random_teacher" else 1)
    path = tmp_path / "config.toml"
    config = small_config(distill={"methods": [method], "epochs": 2}, teacher=several)
    path.write_text(dump_config(config.model_copy(update={"search": SearchSection()})))
    said = CliRunner().invoke(app, ["distill", str(path), "--run-dir", str(with_teachers(tmp_path / "run"))])
    assert said.exit_code == 0, said.output
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert card["candidate"]["method"] == method
    assert all(np.isfinite(value) for value in card["losses"].values())
    student = space.size_ladder(5)[2]
    plain = export_onnx(space.build(student, (1, 8, 8), 10), (1, 8, 8))
    nodes = [n.op_type for n in onnx.load_from_string(plain).graph.node]
    deployed = [n.op_type for n in onnx.load(tmp_path / "run/student.onnx").graph.node]
    assert deployed == ["Mul", "Add", *nodes]  # normalisation, then the student and nothing else


def test_a_student_learns_from_a_teacher_that_sees_something_else(tmp_path: Path) -> None:
    data = load_dataset(small_config().data, 0)
    arrays = {}
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        clean = split.x.float().numpy()
        arrays |= {f"x_teacher_{name}": clean, f"y_{name}": split.y.numpy()}
        arrays[f"x_{name}"] = clean.reshape(-1, 1, 4, 2, 4, 2).mean(axis=(3, 5))  # half the resolution
    np.savez(tmp_path / "pairs.npz", **arrays)
    config = small_config(
        data={"source": "npz", "path": tmp_path / "pairs.npz"},
        distill={"methods": ["cross_modal"], "epochs": 2},
        budget={"max_size_kb": 1, "min_score": 1.0},
    )
    notes = Notes()
    done = distill_one(config, tmp_path / "run", notes)
    assert done.method == "cross_modal"
    assert done.teacher.test is not None
    assert done.teacher.test.mean > 0.8  # on its own view of the test split
    size = f"{done.size_bytes / 1000:.1f} kB > 1 kB"
    missed = f"the student does not meet the budget: {size}, score on validation {done.val_accuracy:.2%} < 100%"
    assert notes.notes[-1] == missed
    (shape,) = (i.type.tensor_type.shape for i in onnx.load(done.path).graph.input)
    assert [d.dim_value for d in shape.dim][1:] == [1, 4, 4]
    assert done.teacher.val.mean > 0.8
