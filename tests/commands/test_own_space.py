"""Searches among the smaller versions of the teacher's own network."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn

import nas_kd
from nas_kd.commands.profile import profile_space
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.kd.own_space import dimensions_of, with_own_space
from nas_kd.results.run_record import RunRecord
from nas_kd.serialization import canonical_json
from tests.small_runs import MakeOnce, Seed, open_context, small_config

pytestmark = pytest.mark.usefixtures("brief_measurements")


def config_of(**sections: Any) -> SearchConfig:
    options: dict[str, Any] = {
        "name": "own",
        "space": {"name": "own"},
        "search": {"trials": 4, "rungs": 1},
        "chain": {"max_assistants": 1, "assistant_sizes": 3},
        "distill": {"methods": ["soft_targets", "attention_transfer"], "epochs": 2},
        "finalists": {"max": 1, "seeds": 1, "max_control_epochs": 1},
    }
    return small_config(**(options | sections))


class Notes(Callback):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def own_run(make_once: MakeOnce, teachers_dir: Path) -> Path:
    """The folder of a finished search among cuts of the small teacher."""

    def run(folder: Path) -> None:
        shutil.copytree(teachers_dir / "store", folder / "store")
        search(config_of(), folder)

    return make_once("own", run)


def test_students_are_cut_out_of_the_teacher_and_leave_as_files(own_run: Path) -> None:
    record: RunRecord = nas_kd.load_run(own_run).record
    assert {trial.candidate.student.space for trial in record.trials} == {"own"}
    front = json.loads((own_run / "front.json").read_text())
    winner = next(c for c in front["candidates"] if c["id"] == front["winner"])
    assert winner["size_bytes"] <= 60_000 < front["teacher"]["size_bytes"]
    assert winner["accuracy"]["test"] > 0.8  # in two epochs, as it begins with the teacher's weights
    assert "stream" in record.finalists[0].description


def test_the_student_is_a_module_again(own_run: Path) -> None:
    finalist = nas_kd.load_run(own_run).winner
    assert finalist is not None
    model = finalist.load_model()
    x = torch.rand(5, 1, 8, 8) * 16
    session = onnxruntime.InferenceSession(own_run / "winner" / "student.onnx")
    (logits,) = session.run(None, {"input": x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(model(x), torch.from_numpy(logits), rtol=1e-4, atol=1e-4)


def test_a_run_goes_on_with_the_same_candidates(own_run: Path, tmp_path: Path, with_teachers: Seed) -> None:
    """Ended after two trials and begun again, as if it had never stopped."""

    class Stop(Callback):
        def __init__(self) -> None:
            self.seen = 0

        def on_trial_end(self, *_args: object, **_kwargs: object) -> None:
            self.seen += 1
            if self.seen == 2:
                raise KeyboardInterrupt

    folder = with_teachers(tmp_path / "run")
    for kind in ("export", "latency"):  # what is measured anew is not the same
        shutil.copytree(own_run / "store" / kind, folder / "store" / kind, dirs_exist_ok=True)
    with pytest.raises(KeyboardInterrupt):
        search(config_of(), folder, Stop())
    again = search(config_of(), folder)
    before = nas_kd.load_run(own_run).record
    assert [canonical_json(t.candidate.to_json()) for t in again.trials] == [
        canonical_json(t.candidate.to_json()) for t in before.trials
    ]
    assert [t.val_accuracy for t in again.trials] == [t.val_accuracy for t in before.trials]


def test_profile_says_what_the_dimensions_are() -> None:
    callback = Notes()
    found = profile_space(config_of(), 1, callback, max_minutes=0.5)
    assert found.cardinality > 1_000
    assert "residual stream" in found.dimensions["stream_1"]
    assert any("gives the network's outputs" in note for note in callback.notes)


@pytest.mark.parametrize(("strategy", "whole"), [("trials", False), ("once-for-all", True)])
def test_shared_weights_keep_layers_whole(tmp_path: Path, strategy: str, whole: bool) -> None:
    callback, options = Notes(), {"strategy": strategy, "trials": 4}
    context = replace(open_context(config_of(search=options), tmp_path), callback=callback)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 10))
    space = with_own_space(context, [Teacher(network.eval())]).space
    assert any(name.startswith("rank") for name in dimensions_of(space)) is not whole
    notes = [note for note in callback.notes if "keep their full rank" in note]
    assert len(notes) == int(whole)
    assert not whole or "2 large linear layers" in notes[0]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [({"onnx": "t.onnx"}, "give teacher.factory"), ({"space": "own"}, "no teacher can be trained from it")],
)
def test_teachers_that_nothing_can_be_cut_out_of(tmp_path: Path, teacher: dict[str, str], message: str) -> None:
    if "onnx" in teacher:
        (tmp_path / "t.onnx").write_bytes(b"")
        teacher = {"onnx": str(tmp_path / "t.onnx")}
    with pytest.raises(InputError, match=message):
        search(config_of(teacher=[teacher], distill={"methods": ["soft_targets"]}), tmp_path / "run")
