"""What lies beside an exported file: one card for all commands, its metadata, and no foreign file overwritten."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import optuna
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from nas_kd.cli.app import app
from nas_kd.commands.distill import distill_one
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.commands.write_winner import export_winner, write_results
from nas_kd.config.loading import dump_config, load_config
from nas_kd.config.options import Budget
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.prepare import load_dataset
from nas_kd.deployment.bundle import PROGRAM
from nas_kd.results.calibration import expected_calibration_error, fit_temperature
from nas_kd.serialization import sha256

DETAILS = {"losses", "calibration"}  # of `nas-kd distill` alone


def card_of(folder: Path, name: str = "card.json") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / name).read_text())
    return value


def properties(file: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(file).metadata_props}


def test_search_export_and_distill_write_the_same(run_dir: Path, distilled_dir: Path, tmp_path: Path) -> None:
    export_winner(run_dir, tmp_path / "small.onnx")
    searched, exported = card_of(run_dir / "winner"), card_of(tmp_path, "small.json")
    distilled = card_of(distilled_dir)
    assert exported == searched | {"file": "small.onnx"}
    assert set(distilled) - DETAILS == set(searched)
    for name in searched:
        if isinstance(searched[name], dict) and name.startswith("nas_kd.") and name != "nas_kd.candidate":
            assert set(distilled[name]) == set(searched[name]), name
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "predict.py",
        "small.README.md",
        "small.json",
        "small.onnx",
    ]
    files = {"README.md", "card.json", "predict.py", "student.onnx", "student.safetensors"}
    assert {p.name for p in (run_dir / "winner").iterdir()} == files
    assert {p.name for p in distilled_dir.iterdir() if p.is_file()} - {".lock", "config.toml", "run.log"} == files


def repeats(card: Any, stated: Any) -> bool:
    """Whether a card has all that a file states, whose numbers may be rounded."""
    if isinstance(stated, dict):
        return all(repeats(card.get(name), value) for name, value in stated.items())
    if isinstance(stated, list):
        return len(card) == len(stated) and all(map(repeats, card, stated))
    return bool(card == (pytest.approx(stated, rel=1e-3) if isinstance(stated, float) else stated))


def test_the_metadata_are_a_selection_of_the_card(run_dir: Path, distilled_dir: Path) -> None:
    for folder in (run_dir / "winner", distilled_dir):
        card, stated = card_of(folder), properties(folder / "student.onnx")
        for name, text in stated.items():
            assert repeats(card[name], text if name == "nas_kd.preprocessing" else json.loads(text)), name
        assert json.loads(stated["nas_kd.accuracy"])["this_file"]["test"] == card["accuracy"]["test"]["mean"]
        assert json.loads(stated["nas_kd.output"])["temperature"] == card["nas_kd.output"]["temperature"]
        assert card["sha256"] == sha256((folder / "student.onnx").read_bytes())
        with safe_open(folder / "student.safetensors", "pt") as file:
            assert json.loads(file.metadata()["nas_kd.card"])["nas_kd.classes"] == card["nas_kd.classes"]


def test_the_card_says_what_the_file_takes(distilled_dir: Path) -> None:
    card = card_of(distilled_dir)
    session = onnxruntime.InferenceSession(distilled_dir / "student.onnx", providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (card["nas_kd.input"]["name"], card["nas_kd.input"]["shape"]) == (given.name, given.shape)
    assert (card["nas_kd.output"]["name"], card["nas_kd.output"]["shape"]) == (returned.name, returned.shape)
    assert card["nas_kd.input"]["picture"] == {
        "image_size": [16, 16],
        "resize": "crop",
        "colour": "rgb",
        "interpolation": "bicubic",
        "fill": 0,
        "orientation": "EXIF orientation applied",
        "convert": "8-bit RGB; a grey picture gives three equal channels",
        "as_in_training": True,
    }
    data = load_dataset(load_config(distilled_dir / "config.toml").data, 0)
    assert card["nas_kd.normalization"]["mean"] == data.mean.tolist()
    assert card["nas_kd.about"] == {
        "license": "cc-by-4.0",
        "author": "A | B",
        "description": None,
        "dataset_license": "cc0-1.0",
        "tags": ["photos: all"],
    }
    assert card["nas_kd.dataset"]["samples"] == {"train": 80, "val": 60, "test": 50}
    assert r"- Author: A \| B" in (distilled_dir / "README.md").read_text()


def test_the_temperature_is_that_of_the_validation_split(run_dir: Path, distilled_dir: Path) -> None:
    for folder, run in ((run_dir / "winner", run_dir), (distilled_dir, distilled_dir)):
        card = card_of(folder)
        data = load_dataset(load_config(run / "config.toml").data, 0)
        session = onnxruntime.InferenceSession(folder / "student.onnx", providers=["CPUExecutionProvider"])
        (val,), (test,) = (session.run(None, {"input": s.x.float().numpy()}) for s in (data.val, data.test))
        fitted = fit_temperature(val, data.val.y.numpy()) or 1.0
        assert abs(card["nas_kd.output"]["temperature"] - fitted) < 1e-3
        stated = card["nas_kd.calibration"]
        assert stated["samples"] == len(data.val)
        for temperature, when in ((1.0, "before"), (fitted, "after")):
            error = expected_calibration_error(test, data.test.y.numpy(), temperature)
            assert abs(stated["ece"]["test"][when] - error) < 1e-3


def test_reported_sizes_are_those_of_the_written_files(run_dir: Path, distilled_dir: Path, tmp_path: Path) -> None:
    run, front = read_run(RunFolder(run_dir)), json.loads((run_dir / "front.json").read_text())
    sizes = {t.number: t.costs.size_bytes for t in run.trials if t.costs}
    entries = {e["trial"]: e for e in front["candidates"]}
    assert len(entries) == len(run.finalists)
    for finalist in run.finalists:
        export_winner(run_dir, tmp_path / "a.onnx", trial=finalist.trial)
        written = (tmp_path / "a.onnx").stat().st_size
        assert sizes[finalist.trial] == entries[finalist.trial]["size_bytes"] == written
        assert finalist.costs.size_bytes == written
        assert card_of(tmp_path, "a.json")["size_bytes"] == written
        licences = {"license": "mit", "dataset_license": "a licence whose name is long " * 9}
        export_winner(run_dir, tmp_path / "b.onnx", trial=finalist.trial, card=licences)
        assert (tmp_path / "b.onnx").stat().st_size == written
    for folder in (run_dir / "winner", distilled_dir):
        written = (folder / "student.onnx").stat().st_size
        assert card_of(folder)["size_bytes"] == written
        assert f"- Size: {written / 1000:.4g} kB" in (folder / "README.md").read_text()


def test_foreign_files_are_left_alone(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text("print('mine')\n")
    (tmp_path / "README.md").write_text("mine\n")
    export_winner(run_dir, tmp_path / "a.onnx")
    assert (tmp_path / "predict.py").read_text() == "print('mine')\n"
    assert (tmp_path / "README.md").read_text() == "mine\n"
    (tmp_path / "predict.py").write_text(PROGRAM.replace("256", "1"))  # of another version
    export_winner(run_dir, tmp_path / "a.onnx")
    assert (tmp_path / "predict.py").read_text() == PROGRAM


def test_an_export_may_have_a_licence_of_its_own(run_dir: Path, tmp_path: Path) -> None:
    command = ["export", str(run_dir), "--out", str(tmp_path / "a.onnx"), "--set"]
    done = CliRunner().invoke(app, [*command, "card.license=mit"])
    assert done.exit_code == 0, done.output
    assert card_of(tmp_path, "a.json")["nas_kd.about"]["license"] == "mit"
    for wrong, message in (
        ("search.trials=3", "error: search.trials: an export only takes options of [card], such as card.license=mit"),
        ("card.licence=mit", "error: card.licence: unknown key; did you mean 'license'?"),
    ):
        done = CliRunner().invoke(app, [*command, wrong])
        assert (done.exit_code, done.output.strip()) == (2, message)


def test_the_card_s_options_may_change_after_the_run(run_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    config = load_config(folder / "config.toml")
    search(config.model_copy(update={"card": config.card.model_copy(update={"license": "mit"})}), folder)
    assert card_of(folder / "winner")["nas_kd.about"]["license"] == "mit"
    assert 'license: "mit"' in (folder / "winner" / "README.md").read_text()


def test_a_run_of_an_older_version_is_exported(run_dir: Path, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(run_dir, tmp_path / "run")))
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.study}")
    (number,) = (s._study_id for s in storage.get_all_studies())
    for name, value in storage.get_study_user_attrs(number).items():
        lacks = {"finalist": {"calibration"}, "dataset": {"value_range", "mean", "std", "picture_steps"}}
        missing = lacks.get(name.partition("/")[0], set())
        if missing:
            assert missing <= set(value)
            storage.set_study_user_attr(number, name, {k: v for k, v in value.items() if k not in missing})
    text = dump_config(load_config(folder.config)).replace("[card]\ntags = []\n", "")
    assert "card" not in text
    folder.config.write_text(text)
    run = read_run(folder)
    assert all(f.calibration is None for f in run.finalists)
    write_results(folder, run)
    export_winner(folder.path, tmp_path / "old.onnx", Budget())
    card = card_of(tmp_path, "old.json")
    assert card["nas_kd.output"]["temperature"] == 1.0
    assert card["nas_kd.calibration"]["note"] == "not fitted: an older version trained it"
    assert card["nas_kd.accuracy"] == card_of(run_dir / "winner")["nas_kd.accuracy"]


def test_a_distilled_student_is_the_same_again(distilled_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(distilled_dir, tmp_path / "again"))
    for file in ("student.onnx", "card.json"):
        (folder / file).unlink()
    distill_one(load_config(distilled_dir / "config.toml"), folder, Callback())
    assert (folder / "student.onnx").read_bytes() == (distilled_dir / "student.onnx").read_bytes()
    again, before = card_of(folder), card_of(distilled_dir)
    assert again.pop("device")["name"] == before.pop("device")["name"]  # the machine's load is another one
    assert again == before
