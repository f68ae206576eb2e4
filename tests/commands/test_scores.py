"""One small search on unbalanced digits for macro-F1: what it decides by, what it writes, and that it is resumed."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nas_kd.cli.printed_results import print_result
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.report import write_report
from nas_kd.results.front_document import front_document
from nas_kd.results.run_record import RunRecord
from nas_kd.scores.base import load_score
from nas_kd.scores.class_score import ClassScore
from tests.small_runs import MakeOnce, open_context, small_config

N_RARE = 24


def write_unbalanced(path: Path) -> Path:
    """Three digits with all their samples, two with a few."""
    digits = load_digits()
    kept = [np.flatnonzero(digits.target == c)[: N_RARE if c > 2 else None] for c in range(5)]
    index = np.concatenate(kept)
    images = (digits.images[index] * 16).clip(0, 255).astype(np.uint8)[:, None]
    np.savez(path, x_train=images, y_train=digits.target[index])
    return path


class Notes(Callback):
    """Keeps notes to the user."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_note(self, text: str) -> None:
        self.texts.append(text)


def config(data: Path, score: str = "macro_f1") -> SearchConfig:
    return small_config(
        data={"source": "npz", "path": data, "score": score, "train_rows": None},
        chain={"max_assistants": 0},
        distill={"methods": ["soft_targets"], "epochs": 2, "class_weights": "balanced"},
        budget={"max_latency_ms": None, "min_score": 0.01},
        search={"trials": 2, "rungs": 1},
        finalists={"max": 1, "seeds": 2, "max_control_epochs": 1.0},
    )


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unbalanced(tmp_path_factory.mktemp("data") / "unbalanced.npz")


@pytest.fixture(scope="module")
def folder(make_once: MakeOnce, unbalanced: Path) -> Path:
    return make_once("macro_f1", lambda path: search(config(unbalanced), path))


@pytest.fixture(scope="module")
def found(folder: Path) -> RunRecord:
    return read_run(RunFolder(folder))


def test_everything_on_validation_is_decided_by_the_score(found: RunRecord) -> None:
    assert found.metric is not None
    assert (found.metric.name, found.metric.title) == ("macro_f1", "macro-F1")
    assert found.teacher is not None
    assert found.teacher.val_score.mean != found.teacher.val.mean
    for trial in found.trials:
        assert trial.val_score != trial.val_accuracy
        assert trial.objectives(0)[0] == trial.val_score
    for finalist in found.finalists:
        assert finalist.val_score.mean == pytest.approx(np.mean([s.val_score for s in finalist.seeds]))
        best = max(finalist.seeds, key=lambda s: s.val_score)
        assert finalist.deployed_seed == best.seed


def test_test_figures_follow_from_the_exported_file(found: RunRecord) -> None:
    (best,) = found.finalists
    assert best.confusion is not None
    deployed = next(s for s in best.seeds if s.seed == best.deployed_seed)
    assert best.confusion.accuracy == deployed.test_accuracy
    score = load_score("macro_f1")
    assert isinstance(score, ClassScore)
    assert float(score.values(best.confusion.by_class)) == pytest.approx(deployed.test_score)
    assert best.confusion.samples == found.dataset.n_test  # type: ignore[union-attr]
    assert best.balanced is not None
    (control,) = best.controls
    assert control.score_gain.mean == pytest.approx(best.test_score.mean - control.score.mean)
    assert control.gain.mean == pytest.approx(best.test.mean - control.accuracy.mean)


def test_front_json_has_the_score_beside_accuracy(folder: Path, found: RunRecord) -> None:
    written = json.loads((folder / "front.json").read_text())
    assert written == front_document(found)
    assert written["schema"] == 1
    assert written["metric"] == {
        "name": "macro_f1",
        "unit": "mean over classes of F1, 0..1",
        "higher_is_better": True,
        "chance": pytest.approx(found.chance, abs=1e-6),
    }
    assert written["budget"]["min_score"] == 0.01
    (one,) = written["candidates"]
    assert one["accuracy"].keys() == one["score"].keys()
    assert one["accuracy"]["test"] == round(found.finalists[0].test.mean, 6)
    assert one["score"]["test"] == round(found.finalists[0].test_score.mean, 6)
    assert one["reaches_score"] is True
    assert {"score", "score_gain", "accuracy", "gain"} <= one["controls"]["no_distillation"].keys()
    assert {"score", "balanced_accuracy"} <= written["teacher"].keys()


def test_the_card_has_the_score_beside_accuracy(folder: Path, found: RunRecord) -> None:
    card = json.loads((folder / "winner" / "card.json").read_text())
    winner = next(f for f in found.finalists if f.id == card["nas_kd.candidate"]["id"])
    assert winner.balanced is not None
    assert {title: figures["test"]["mean"] for title, figures in card["nas_kd.scores"].items()} == {
        "balanced accuracy": winner.balanced.mean,
        "macro-F1": winner.test_score.mean,
    }
    assert "| test, macro-F1 |" in (folder / "winner" / "README.md").read_text()


def test_report_and_console_name_the_score(
    folder: Path, found: RunRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = write_report(found, tmp_path).read_text()
    assert "Test macro-F1" in page
    assert "Confusion matrix of" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "candidates.csv").read_text())))
    assert [float(row["val_macro_f1"]) for row in rows] == [trial.val_score for trial in found.trials]
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "classes.csv").read_text())))) == 5
    print_result(found, folder)
    shown = capsys.readouterr().out
    assert "test macro-F1" in shown
    assert "accuracy on test: winner" in shown
    assert "balanced accuracy on test: winner" in shown


def test_a_finished_run_is_found_again(folder: Path, unbalanced: Path, found: RunRecord) -> None:
    assert search(config(unbalanced), folder).finalists == found.finalists


def test_accuracy_on_unbalanced_data_gets_one_line_of_advice(unbalanced: Path, tmp_path: Path) -> None:
    for score, times in (("accuracy", 1), ("macro_f1", 0)):
        notes = Notes()
        context = open_context(config(unbalanced, score), tmp_path)
        context.prepare(context.config, RunFolder(tmp_path), notes)
        assert sum("classes are unbalanced" in text for text in notes.texts) == times
        assert any("validation split has" in text for text in notes.texts)
