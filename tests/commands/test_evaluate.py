"""`nas-kd evaluate`: the score of any file on a split, by the file's own classes and temperature."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

import nas_kd
from nas_kd.cli.app import app
from nas_kd.commands.evaluate import evaluate
from nas_kd.config.loading import dump_config, load_config
from nas_kd.config.options import SearchConfig
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.wrappers import Normalized
from nas_kd.results.run_record import RunRecord
from tests.small_runs import small_config


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def refused(*arguments: str | Path) -> str:
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.output.splitlines()
    return line.removeprefix("error: ")


@pytest.fixture
def winner(run_dir: Path) -> Path:
    return run_dir / "winner" / "student.onnx"


@pytest.fixture
def plain(winner: Path, tmp_path: Path) -> Path:
    """The winner's file elsewhere, without what it says of itself."""
    model = onnx.load(winner)
    del model.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    return path


def test_every_split_scores_as_the_card_says(run_dir: Path, winner: Path, finished: RunRecord) -> None:
    card = json.loads((winner.parent / "card.json").read_text())
    assert finished.dataset is not None
    for split, samples in (("val", finished.dataset.n_val), ("test", finished.dataset.n_test)):
        done = call(winner, run_dir / "config.toml", "--split", split, "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["accuracy"] == {k: v for k, v in card["accuracy_by_split"][split].items() if k != "seeds"}
        assert found["correct"] / samples == found["accuracy"]["mean"]
        assert found["ece"] == pytest.approx(card["nas_kd.calibration"]["ece"][split], abs=1e-6)
        assert (found["sha256"], found["notes"]) == (card["sha256"], [])
        assert [c["name"] for c in found["classes"]] == card["classes"]
    assert evaluate(winner, run_dir / "config.toml", split="train").accuracy.samples == finished.dataset.n_train


def test_recall_by_class_by_hand(run_dir: Path, winner: Path) -> None:
    data = load_dataset(small_config().data, 0)
    predicted = OnnxClassifier(winner).predict(data.test.x).argmax(axis=1)
    y = data.test.y.numpy()
    result = nas_kd.evaluate(winner, run_dir / "config.toml")
    for number, found in enumerate(result.classes):
        mine = predicted[y == number]
        assert found.recall is not None
        assert (found.samples, found.recall.mean) == (len(mine), np.mean(mine == number))
        wrong = mine[mine != number]
        assert found.mistakes == (np.bincount(wrong).max() if len(wrong) else 0)
        assert (found.mistaken_for is None) == (len(wrong) == 0)
    recalls = [c.recall.mean for c in result.classes if c.recall]
    assert result.scores["balanced_accuracy"].mean == pytest.approx(np.mean(recalls))


def test_the_table(run_dir: Path, winner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = call(winner, run_dir / "config.toml")
    assert said.exit_code == 0, said.output
    correct = evaluate(winner, run_dir / "config.toml").correct
    for text in (
        "digits, test split, 128 samples",
        f"{correct} of 128 right",
        "balanced accuracy",
        "calibration error",
    ):
        assert text in said.output, said.output
    rows = [line.split() for line in said.output.splitlines() if line.startswith("  ")]
    assert [row[0] for row in rows if row and row[0].isdigit()] == list("0123456789")


def test_a_file_of_another_origin(run_dir: Path, winner: Path, plain: Path) -> None:
    config = run_dir / "config.toml"
    found, ours = evaluate(plain, config), evaluate(winner, config)
    assert (found.correct, found.temperature) == (ours.correct, 1.0)
    assert found.ece.before == found.ece.after == ours.ece.before


def test_a_card_beside_the_file_stands_in_for_its_metadata(run_dir: Path, plain: Path) -> None:
    card = {"file": plain.name, "nas_kd.classes": list("0123456789"), "nas_kd.output": {"temperature": 2.0}}
    plain.with_suffix(".json").write_text(json.dumps(card))
    assert evaluate(plain, run_dir / "config.toml").temperature == 2.0
    plain.with_suffix(".json").write_text(json.dumps(card | {"file": "another.onnx"}))
    assert evaluate(plain, run_dir / "config.toml").temperature == 1.0


def with_classes(file: Path, classes: list[str], permutation: list[int], out: Path) -> Path:
    """The same network with its logits in another order and these class names."""
    model = onnx.load(file)
    (output,) = model.graph.output
    index = onnx.numpy_helper.from_array(np.array(permutation), "order")
    model.graph.initializer.append(index)
    for node in model.graph.node:
        node.output[:] = ["unordered" if name == output.name else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Gather", ["unordered", "order"], [output.name], axis=1))
    for stated in model.metadata_props:
        if stated.key == "nas_kd.classes":
            stated.value = json.dumps(classes)
    out.write_bytes(model.SerializeToString())
    return out


def test_classes_are_matched_by_name(run_dir: Path, winner: Path, tmp_path: Path) -> None:
    order = [3, 1, 2, 0, *range(4, 10)]
    config, ours = run_dir / "config.toml", evaluate(winner, run_dir / "config.toml")
    renamed = with_classes(winner, [str(n) for n in order], order, tmp_path / "a.onnx")
    found = evaluate(renamed, config)
    assert (found.correct, found.notes) == (
        ours.correct,
        ("the file has the classes in another order: matched by name",),
    )
    other = with_classes(winner, [f"n{n}" for n in range(10)], list(range(10)), tmp_path / "b.onnx")
    found = evaluate(other, config)
    assert found.correct == ours.correct
    assert found.notes == (
        "b.onnx names its classes n0, n1, n2, n3, n4, ..., the data 0, 1, 2, 3, 4, ...: matched by position",
    )


def test_what_the_file_expects(run_dir: Path, tmp_path: Path) -> None:
    finalist = nas_kd.load_run(run_dir).winner
    assert finalist is not None
    model: Any = finalist.load_model()
    assert isinstance(model, Normalized)  # what is inside takes normalised samples
    (tmp_path / "inner.onnx").write_bytes(export_onnx(model.body, (1, 8, 8)))
    (tmp_path / "unit.onnx").write_bytes(export_onnx(Normalized(model, *_times_255()), (1, 8, 8)))
    expected = evaluate(run_dir / "winner" / "student.onnx", run_dir / "config.toml").correct
    config = load_config(run_dir / "config.toml")
    assert evaluate(tmp_path / "inner.onnx", config, preprocessing="normalized").correct == expected
    assert evaluate(tmp_path / "unit.onnx", config, preprocessing="unit").correct == expected
    assert evaluate(tmp_path / "unit.onnx", config).correct < expected
    teacher: Any = {"onnx": tmp_path / "unit.onnx", "preprocessing": "unit"}
    told = SearchConfig.model_validate(config.model_dump(exclude_unset=True) | {"teacher": teacher})
    found = evaluate(tmp_path / "unit.onnx", told)
    assert (found.correct, found.preprocessing) == (expected, "unit")


def _times_255() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1), torch.full((1,), 1 / 255)


def test_what_does_not_fit_is_one_line(run_dir: Path, winner: Path, three_classes: Path, tmp_path: Path) -> None:
    config = run_dir / "config.toml"
    assert refused(three_classes, config) == f"{three_classes} has 3 classes, the data has 10: 0, 1, 2, 3, 4, ..."
    wide = tmp_path / "npz.toml"
    np.savez(tmp_path / "x.npz", x_train=np.random.default_rng(0).random((60, 5, 5)), y_train=np.arange(60) % 3)
    wide.write_text(
        dump_config(
            small_config(data={"source": "npz", "path": tmp_path / "x.npz", "layout": "hw", "train_rows": None})
        )
    )
    assert "takes samples of shape (1, 8, 8), the data's are (1, 5, 5)" in refused(winner, wide)
    photos = tmp_path / "photos.toml"
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (9, 9), 10 * i).save(tmp_path / "photos" / name / f"{i}.png")
    photos.write_text('[data]\nsource = "image_folder"\npath = "photos"\nimage_size = 9\n')
    message = "takes pictures of 8x8 pixels (height x width), the data's are 9x9; set data.image_size = 8"
    assert message in refused(winner, photos)
    resized = refused(winner, photos, "--set", "data.image_size=8")
    assert resized == f"{winner} has 10 classes, the data has 2: a, b"
    assert refused(winner, config, "--split", "tests") == "unknown split 'tests'; did you mean 'test'?"
    assert "unknown preprocessing 'units'" in refused(winner, config, "--preprocessing", "units")
    assert "cannot read the ONNX file" in refused(tmp_path / "no.onnx", config)
    assert refused(winner.parent, config).endswith(f"winner: it is a folder; is it {winner}?")
    assert "is not an ONNX file" in refused(config, config)
    assert "no such file" in refused(winner, tmp_path / "no.toml")
    with pytest.raises(InputError, match="unknown split"):
        evaluate(winner, config, split="all")


@pytest.fixture
def three_classes(tmp_path: Path) -> Path:
    """A network of three classes."""
    path = tmp_path / "three.onnx"
    path.write_bytes(export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 8, 8)))
    return path
