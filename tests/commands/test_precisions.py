"""A search among precisions: judged by their files, trained no more often than they have to be, resumed as ever."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from benchmarks.resume_kills import differences
from nas_kd.api.run import Run
from nas_kd.commands.distill import distill_one
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.commands.write_winner import export_winner
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.results.candidate import Precision
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import TrialRecord
from tests.small_runs import Seed, measured_briefly, small_config

pytestmark = pytest.mark.xdist_group("precisions")
ALL: tuple[Precision, ...] = ("fp32", "int8", "int8-qat", "int4-weights")


@pytest.fixture(scope="module", autouse=True)
def _brief() -> Iterator[None]:
    with measured_briefly():
        yield


def config(*precisions: Precision, **sections: dict[str, object]) -> SearchConfig:
    chosen = {"precisions": list(precisions), "trials": 5, "rungs": 2, "reduction": 2, "rung_steps": 1}
    return small_config(
        search=chosen, chain={"max_assistants": 0}, finalists={"seeds": 1, "controls": False}, **sections
    )


@pytest.fixture(scope="module")
def run_dir(teachers_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs") / "precisions"
    shutil.copytree(teachers_dir / "store", folder / "store")
    search(config(*ALL), folder)
    return folder


@pytest.fixture(scope="module")
def finished(run_dir: Path) -> RunRecord:
    return read_run(RunFolder(run_dir))


def test_every_precision_is_tried(run_dir: Path, finished: RunRecord) -> None:
    assert {t.candidate.precision for t in finished.trials} == set(ALL)
    assert not [t.reason for t in finished.trials if t.status == "failed"]
    document = json.loads((run_dir / "front.json").read_text())
    for entry, finalist in zip(document["candidates"], finished.finalists, strict=True):
        assert entry["precision"] in ALL
        assert {f.id: f.candidate.precision for f in finished.finalists}[entry["id"]] == entry["precision"]
        assert finalist.notes == ()
    card = json.loads((run_dir / "winner" / "card.json").read_text())
    assert card["nas_kd.candidate"]["precision"] in ALL


def test_the_report_names_precisions(run_dir: Path, finished: RunRecord, tmp_path: Path) -> None:
    Run.read(run_dir).write_report(tmp_path)
    csv = (tmp_path / "candidates.csv").read_text().splitlines()
    assert "precision" in csv[0].split(",")
    text = (tmp_path / "report.md").read_text()
    assert all(f.candidate.precision in text for f in finished.finalists)


def test_exported_files_are_of_their_precision(run_dir: Path, finished: RunRecord, tmp_path: Path) -> None:
    kinds = {"int8": TensorProto.INT8, "int8-qat": TensorProto.INT8, "int4-weights": TensorProto.INT4}
    for finalist in finished.finalists:
        chosen = export_winner(run_dir, tmp_path / "x.onnx", {}, trial=finalist.trial)
        model = onnx.load(tmp_path / "x.onnx")
        held = {w.data_type for w in model.graph.initializer}
        assert kinds.get(chosen.candidate.precision, TensorProto.FLOAT) in held
        card = json.loads((tmp_path / "x.json").read_text())
        assert card["opset"] == model.opset_import[0].version
        assert chosen.costs.size_bytes == (tmp_path / "x.onnx").stat().st_size
        (trial,) = (t for t in finished.trials if t.number == finalist.trial)
        assert trial.costs is not None
        assert trial.costs.size_bytes == chosen.costs.size_bytes


class Killed(Exception):
    """As by the user."""


class KilledAfter(Callback):
    """Ends the search after this many trials, or rungs of trials, have ended."""

    def __init__(self, trials: int) -> None:
        self._left = trials

    def on_trial_end(self, record: TrialRecord, trials: object, hypervolume: float) -> None:
        self._left -= 1
        if not self._left:
            raise Killed


def test_a_run_that_was_killed_goes_on_as_if_it_was_not(run_dir: Path, finished: RunRecord, tmp_path: Path) -> None:
    folder = tmp_path / "precisions"
    for kind in ("export", "latency"):  # measured anew, a latency would be another one
        shutil.copytree(run_dir / "store" / kind, folder / "store" / kind)
    for trials in (3, 2):
        with pytest.raises(Killed):
            search(config(*ALL), folder, KilledAfter(trials))
    search(config(*ALL), folder)
    assert differences(run_dir, folder, workers=1) == []


def test_one_student_at_the_first_precision(with_teachers: Seed, tmp_path: Path) -> None:
    distilled = distill_one(config("int8-qat", "fp32"), with_teachers(tmp_path), Callback())
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["candidate"]["precision"] == "int8-qat"
    model = onnx.load(distilled.path)
    assert any(n.op_type == "QuantizeLinear" for n in model.graph.node)
    assert card["parity"]["top1_agreement"] >= 0.98
    assert distilled.size_bytes == card["size_bytes"] == distilled.path.stat().st_size
