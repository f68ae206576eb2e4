"""A search among precisions: judged by their files, trained no more often than they have to be, resumed as ever."""

import json
import shutil
from collections import Counter
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
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.export.verify import accuracy
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.distiller import Distiller
from nas_kd.nas.gate import Gate
from nas_kd.nas.propose import Proposer
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.results.candidate import Architecture, Candidate, Choice, Precision
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import TrialRecord
from tests.small_runs import Seed, distiller_of, measured_briefly, open_context, plain_candidate, small_config

pytestmark = pytest.mark.xdist_group("precisions")
ALL: tuple[Precision, ...] = ("fp32", "int8", "int8-qat", "int4-weights")
AFTERWARDS: tuple[Precision, ...] = ("fp32", "int8", "int4-weights")


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
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return open_context(config(*ALL), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def distiller(context: RunContext) -> Distiller:
    return distiller_of(context)


def candidate(context: RunContext, precision: Precision) -> Candidate:
    return plain_candidate(context.space.size_ladder(5)[1], precision=precision)


def test_what_is_quantized_afterwards_is_trained_once(context: RunContext, distiller: Distiller) -> None:
    trained_models = {p: distiller.distill(candidate(context, p), 0, 2) for p in ALL}
    assert len({trained_models[p].key for p in AFTERWARDS}) == 1
    assert trained_models["int8-qat"].key != trained_models["fp32"].key
    again = distiller.distill(candidate(context, "int8-qat"), 0, 2)
    assert again.key == trained_models["int8-qat"].key
    files = ArtifactBuilder.for_run(context)
    first, second = (files.verified_file(trained, "int8-qat") for trained in (trained_models["int8-qat"], again))
    assert first.sha256 == second.sha256


def test_accuracy_is_the_files_and_the_file_is_what_the_gate_measured(
    context: RunContext, distiller: Distiller
) -> None:
    files, gate = ArtifactBuilder.for_run(context), Gate(context, distiller.builder)
    for precision in ALL:
        trained = distiller.distill(candidate(context, precision), 0, 2)
        file = files.verified_file(trained, precision)
        assert file.val_accuracy == accuracy(file.onnx, context.data.val)
        assert files.val_accuracy(trained, precision) == pytest.approx(file.val_accuracy, abs=1e-9)
        costs = gate.all_costs(candidate(context, precision).student, precision=precision)
        assert costs.size_bytes == len(file.onnx)
        assert gate.notes(candidate(context, precision).student, precision=precision) == ()


def test_other_options_of_quantizing_are_other_files(context: RunContext, distiller: Distiller, tmp_path: Path) -> None:
    trained = distiller.distill(candidate(context, "int8"), 0, 2)
    few = open_context(config(*ALL, quantization={"samples": 5}), tmp_path)
    here, there = (ArtifactBuilder.for_run(c).verified_file(trained, "int8").sha256 for c in (context, few))
    assert here != there
    early = distiller_of(open_context(config(*ALL, quantization={"qat_start": 0.2}), tmp_path))
    for precision in ("fp32", "int8-qat"):
        keys = {d.distill(candidate(context, precision), 0, 2).key for d in (early, distiller)}
        assert len(keys) == (1 if precision == "fp32" else 2)


def test_first_proposals_take_turns_up_to_the_edge_of_each_precision(context: RunContext, distiller: Distiller) -> None:
    builder = distiller.builder

    def fits(architecture: Architecture, precision: Precision) -> bool:
        return builder.parameters(architecture) < (20_000 if precision == "fp32" else 5_000)

    def initial_trials(*precisions: str) -> list[dict[str, Choice]]:
        chosen = config(*precisions)
        proposer = Proposer(chosen, context.space, builder, 10**9)
        return proposer.initial_trials(fits, SearchPlan.of(chosen, context.steps_per_epoch))

    several = initial_trials("fp32", "int8")
    assert Counter(p["precision"] for p in several) == {"fp32": 3, "int8": 3}
    choices = [{k.removeprefix("student."): v for k, v in p.items() if k != "precision"} for p in several]
    sizes = [builder.parameters(Architecture(context.space.name, c)) for c in choices]
    assert 5_000 < sizes[-1] < 20_000
    assert several[-1]["precision"] == "fp32"
    assert all(s < 5_000 for s, p in zip(sizes, several, strict=True) if p["precision"] == "int8")
    assert all("precision" not in p for p in initial_trials("int8"))


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
