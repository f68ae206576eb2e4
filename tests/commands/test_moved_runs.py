"""A run is known by its content: it goes on wherever its folder, its config, its data and its weights are moved to."""

import shutil
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tomli_w
from sklearn.datasets import load_digits

import nas_kd
from nas_kd.commands.inputs import INPUTS, InputsRecord, files_of, require_same_inputs
from nas_kd.commands.load_run import read_run
from nas_kd.config.loading import dump_config, load_config, path_options
from nas_kd.config.options import Budget
from nas_kd.context.callbacks import Callback, StopRun
from nas_kd.context.run_folder import RunFolder, locked
from nas_kd.errors import InputError
from nas_kd.nas.study import RunStudy
from tests.onnx_files import linear_classifier
from tests.small_runs import SMALL_TEACHER, MakeOnce

CONFIG: dict[str, Any] = {
    "data": {"source": "npz", "path": "data/digits.npz", "train_rows": 500, "augment": {"strength": "none"}},
    "teacher": {**SMALL_TEACHER, "epochs": 8},
    "chain": {"max_assistants": 0},
    "distill": {"methods": ["soft_targets"], "epochs": 2, "batch_size": 64, "probe_minutes": 0},
    "search": {"trials": 2, "rungs": 1},
    "finalists": {"max": 1, "seeds": 1, "controls": False},
    "engine": {"threads": 1},
}


class StopAfterOne(Callback):
    def on_trial_end(self, record: Any, trials: Any, hypervolume: float) -> None:
        raise StopRun


def write_digits(path: Path, shift: int = 0) -> None:
    digits = load_digits()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=digits.images.astype(np.float32) + shift, y_train=digits.target)


@pytest.fixture(scope="module")
def stopped(make_once: MakeOnce) -> Path:
    """A folder with a config, its data, and a run of them that was stopped after its first trial."""

    def make(folder: Path) -> None:
        write_digits(folder / "data" / "digits.npz")
        (folder / "config.toml").write_text(tomli_w.dumps(CONFIG))
        nas_kd.search(folder / "config.toml", run_dir=folder / "run", callbacks=StopAfterOne())

    return make_once("stopped-to-be-moved", make)


@pytest.fixture
def moved(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "else where" / "there"))


@pytest.mark.usefixtures("brief_measurements")
def test_a_run_goes_on_where_all_was_moved_and_is_read_when_moved_again(moved: Path, tmp_path: Path) -> None:
    before = read_run(RunFolder(moved / "run")).trials
    run = nas_kd.search(moved / "config.toml", run_dir=moved / "run")
    assert run.state == "finished"
    assert run.record.trials[: len(before)] == before
    stored = tomllib.loads((moved / "run" / "config.toml").read_text())
    assert stored["data"]["path"] == "../data/digits.npz"

    again = moved.rename(tmp_path / "again")
    found = nas_kd.load_run(again / "run")
    assert found.write_report().is_file()
    assert found.winner is not None
    assert found.winner.load_model() is not None
    notes: list[str] = []

    class Notes(Callback):
        def on_note(self, text: str) -> None:
            notes.append(text)

    assert nas_kd.search(again / "config.toml", run_dir=again / "run", callbacks=Notes()).state == "finished"
    assert any("this run is finished" in note for note in notes)


def test_data_that_moved_alone(moved: Path, tmp_path: Path) -> None:
    moved.joinpath("data", "digits.npz").rename(tmp_path / "elsewhere.npz")
    text = tomli_w.dumps({**CONFIG, "data": {**CONFIG["data"], "path": str(tmp_path / "elsewhere.npz")}})
    (moved / "renamed.toml").write_text(text)
    run = nas_kd.search(moved / "renamed.toml", run_dir=moved / "run", callbacks=StopAfterOne())
    assert len(run.record.trials) == 2


def test_other_samples_are_refused_before_anything_is_trained(moved: Path) -> None:
    write_digits(moved / "data" / "digits.npz", shift=1)
    with pytest.raises(InputError) as caught:
        nas_kd.search(moved / "config.toml", run_dir=moved / "run")
    assert str(caught.value) == (
        f"{moved / 'run'}: the content of data (other samples or labels) is not what this run was begun with; "
        "use the same to resume it, or another --run-dir"
    )


def test_another_config_is_still_refused_with_the_keys_that_differ(moved: Path) -> None:
    options = {"distill.epochs": 3, "data.path": str(moved / "x.npz"), "teacher.seed": 3}
    with pytest.raises(
        InputError, match=r"holds a run with another config \(differs in distill.epochs, teacher.seed\)"
    ):
        nas_kd.search(moved / "config.toml", run_dir=moved / "run", options=options)


def test_an_origin_that_is_new_is_another_config(moved: Path) -> None:
    config = load_config(moved / "config.toml", {"teacher": {"onnx": "t.onnx"}})
    with (
        pytest.raises(InputError, match=r"differs in teacher.architecture\S*, .*teacher.onnx"),
        locked(RunFolder(moved / "run"), config),
    ):
        pass


def test_other_weights_of_a_teacher_are_refused_and_the_same_elsewhere_are_not(moved: Path, tmp_path: Path) -> None:
    folder = RunFolder(moved / "run")
    paths = [tmp_path / name / "w.safetensors" for name in ("a", "b", "c")]
    for path, content in zip(paths, (b"1", b"1", b"2"), strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    configs = [load_config(None, {"teacher": {"factory": "a:b", "weights": str(path)}}) for path in paths]
    first, same, other = (InputsRecord(identities=files_of(config)) for config in configs)
    with closing(RunStudy(folder, "", Budget(), 2)) as study:
        study.save(INPUTS, first)
    require_same_inputs(folder, same)
    with pytest.raises(InputError, match=r"the content of teacher.weights is not what this run was begun with"):
        require_same_inputs(folder, other)


def test_lists_of_files_are_paths_like_a_single_one(tmp_path: Path) -> None:
    shards = [str(tmp_path / "a" / f"train-{n}.parquet") for n in range(2)]
    config = load_config(None, {"data.source": "parquet", "data.train": shards, "data.test": str(tmp_path / "t-*")})
    assert {"data.train", "data.test"} <= path_options(config).keys()
    near = tomllib.loads(dump_config(config, tmp_path / "run"))
    assert near["data"]["train"] == ["../a/train-0.parquet", "../a/train-1.parquet"]


def test_paths_far_from_the_run_stay_absolute(tmp_path: Path) -> None:
    config = load_config(None, {"data.path": str(tmp_path / "x.npz"), "plugin_dir": str(tmp_path / "a" / "p")})
    far = tomllib.loads(dump_config(config, tmp_path / "a" / "b" / "c" / "run"))
    assert (far["data"]["path"], far["plugin_dir"]) == (str(tmp_path / "x.npz"), str(tmp_path / "a" / "p"))
    near = tomllib.loads(dump_config(config, tmp_path / "a" / "run"))
    assert (near["data"]["path"], near["plugin_dir"]) == ("../../x.npz", "../p")


def test_an_onnx_teacher_with_several_outputs_is_identified_by_its_content(tmp_path: Path) -> None:
    weight, bias = np.zeros((64, 10), np.float32), np.zeros(10, np.float32)
    file = tmp_path / "t.onnx"
    onnx.save(linear_classifier(weight, bias, outputs=("y", "other")), file)
    found = files_of(load_config(None, {"teacher.onnx": str(file), "teacher.output": "y"}))
    assert list(found) == ["teacher.onnx"]
    onnx.save(linear_classifier(weight + 1, bias, outputs=("y", "other")), file)
    assert files_of(load_config(None, {"teacher.onnx": str(file), "teacher.output": "y"})) != found
