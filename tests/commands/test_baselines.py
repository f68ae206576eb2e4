"""Other compression of the teacher beside a search's finalists: made, measured, judged and reported with them."""

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from torch import Tensor, nn

from benchmarks.resume_kills import without_times
from nas_kd.commands.baseline_step import compress_teacher
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.commands.trained_files import MeasuredBaseline
from nas_kd.config.options import SearchConfig
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.own_space import with_own_space
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.models.derived import derived_space
from nas_kd.models.derived.derive import Derived, derive
from nas_kd.nas.gate import Gate
from nas_kd.report import write_report
from nas_kd.results.run_record import RunRecord
from tests.onnx_files import linear_classifier
from tests.small_runs import MakeOnce, Seed, open_context, small_config

NAMES = [f"quantization/{precision}" for precision in ("int2-weights", "int4-weights", "int8")]
MODULE = """
from nas_kd.errors import TrialError
from nas_kd.kd.baselines.base import Baseline
from nas_kd.kd.baselines.quantization import Quantization


class Broken(Baseline):
    name = "broken"
    summary = "one network that cannot be made, one that can"
    techniques = ("pruning",)

    def variants(self, inputs):
        yield self.fail
        yield next(Quantization().variants(inputs))

    def fail(self):
        raise ZeroDivisionError("nothing left")


PLUGIN = Broken()
"""


@pytest.fixture(scope="module")
def with_baselines(make_once: MakeOnce, run_dir: Path) -> Path:
    """The shared small run once more, with the teacher quantised; its networks are in the store."""

    def run(folder: Path) -> None:
        shutil.copytree(run_dir / "store", folder / "store")
        search(small_config(finalists={"baselines": ["quantization"]}), folder)

    return make_once("baselines", run)


@pytest.fixture(scope="module")
def record(with_baselines: Path) -> RunRecord:
    return read_run(RunFolder(with_baselines))


def test_the_teacher_is_judged_at_every_precision_that_needs_no_training(record: RunRecord) -> None:
    assert [b.id for b in record.baselines] == NAMES
    teacher = record.teacher
    assert teacher is not None
    assert teacher.test is not None
    for baseline in record.baselines:
        assert baseline.costs.require_size() < teacher.costs.require_size() / 2
        assert baseline.costs.require_latency().p50 > 0
        assert baseline.test.samples == teacher.test.samples
        assert baseline.seeds[0].sha256
        assert baseline.within_budget
    two_bits, four_bits, eight_bits = record.baselines
    assert two_bits.costs.require_size() < four_bits.costs.require_size() < eight_bits.costs.require_size()
    assert two_bits.test.mean < teacher.test.mean
    assert four_bits.test.mean == pytest.approx(teacher.test.mean, abs=0.05)
    assert eight_bits.test.mean == pytest.approx(teacher.test.mean, abs=0.03)


def test_finalists_are_those_of_a_run_without_baselines(record: RunRecord, finished: RunRecord) -> None:
    mine, theirs = (without_times([f.model_dump(mode="json") for f in run.finalists]) for run in (record, finished))
    assert mine == theirs
    assert finished.baselines == ()
    assert finished.compression is not None


def test_front_json_has_scores_families_and_their_reference(with_baselines: Path) -> None:
    front = json.loads((with_baselines / "front.json").read_text())
    assert [b["id"] for b in front["baselines"]] == NAMES
    teacher, reference = front["teacher"], front["compression"]["reference"]
    assert teacher["compression_score"]["value"] == 0
    assert (reference["retention"], reference["size_bytes"]) == (0.5, teacher["size_bytes"])
    for network in (*front["candidates"], *front["baselines"]):
        found = network["compression_score"]
        kept = (network["accuracy"]["test"] - reference["chance"]) / (reference["teacher_score"] - reference["chance"])
        times = teacher["size_bytes"] / network["size_bytes"] * reference["latency_ms"] / network["latency_ms"]["p50"]
        assert found["retention"] == pytest.approx(max(0, kept), abs=1e-4)
        assert found["value"] == pytest.approx(max(0, kept) * np.log2(times) / 2, abs=1e-2)
        assert found["low"] <= found["value"] <= found["high"]
    families = front["compression"]["families"]
    assert {"quantization"} < {f["name"] for f in families} <= {"quantization", "distillation", "training from scratch"}
    members = [m for f in families for m in f["members"]]
    assert {*NAMES, *(c["id"] for c in front["candidates"])} <= {*members}
    assert len(front["compression"]["pairs"]) == len(families) * (len(families) - 1) // 2


def test_the_report_has_a_row_for_each_family_and_baseline(record: RunRecord, tmp_path: Path) -> None:
    write_report(record, tmp_path)
    text = (tmp_path / "report.md").read_text().partition("## Beside other compression")[2].partition("\n## ")[0]
    page = (tmp_path / "index.html").read_text()
    assert record.compression is not None
    for family in record.compression.families:
        assert f"\n| {family.name} | " in text
        assert f'<th scope="row">{family.name}</th>' in page
    for name in ("int2-weights", "int4-weights", "int8"):
        assert f"| the teacher in {name} |" in text
        assert f"<td>the teacher in {name}</td>" in page
    assert text.count("; 1 network of each") + text.count(" networks of each") == len(record.compression.pairs)
    with (tmp_path / "baselines.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == NAMES
    assert all(float(row["compression_score.low"]) <= float(row["compression_score.value"]) for row in rows)
    with (tmp_path / "candidates.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["final.compression_score.value"]]
    assert {row["id"] for row in rows} == {f.id for f in record.finalists}


def test_an_unfinished_run_says_that_nothing_was_compared_yet(record: RunRecord, tmp_path: Path) -> None:
    write_report(record.model_copy(update={"compression": None, "baselines": ()}), tmp_path)
    assert "when the test split has been read" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "baselines.csv").exists()


def compressed(
    config: SearchConfig, folder: Path, changed: Callable[[ReadyTeacher], ReadyTeacher] = lambda teacher: teacher
) -> tuple[list[MeasuredBaseline], list[str]]:
    """What the step makes of a config's teacher, and what it says."""
    context, notes = open_context(config, folder), list[str]()
    context.callback.on_note = notes.append  # type: ignore[method-assign]
    gate = Gate(context, NetworkBuilder(context.data, context.space))
    (teacher,) = prepare_teachers(context, gate.of_file)
    context = with_own_space(context, [teacher.teacher])
    return compress_teacher(context, changed(teacher), gate, 2), notes


@pytest.mark.usefixtures("brief_measurements")
def test_a_teacher_given_as_onnx_is_compressed_as_it_takes_its_samples(tmp_path: Path) -> None:
    """Bytes, channels last, two samples a call, probabilities: calibrated, run and judged behind the same steps."""
    data = open_context(small_config(), tmp_path / "data").data
    x = np.concatenate([data.train.x.flatten(1).double().numpy(), np.full((len(data.train), 1), 255.0)], axis=1) / 255
    solved = np.linalg.solve(x.T @ x + np.eye(65), x.T @ (np.eye(10)[data.train.y.numpy()] * 8)).astype(np.float32)
    form = {"shape": (8, 8, 1), "batch": 2, "channels_last": True, "dtype": TensorProto.UINT8, "last": "Softmax"}
    model = linear_classifier(solved[:-1] / np.float32(255), solved[-1], **form)  # type: ignore[arg-type]
    (tmp_path / "t.onnx").write_bytes(model.SerializeToString())
    teacher = {"onnx": tmp_path / "t.onnx", "space": None, "epochs": None, "architecture": None}
    distill = {"methods": ["soft_targets"]}
    config = small_config(teacher=teacher, distill=distill, finalists={"baselines": ["quantization"]})
    found, notes = compressed(config, tmp_path / "run")
    by_name = {one.id: one for one in found}
    assert "quantization/int8" in by_name, notes
    one = by_name["quantization/int8"]
    assert one.val[0].confusion.accuracy > 0.85
    assert OnnxClassifier(one.files[0].file.onnx).file.dtype == "uint8"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_baseline.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_baseline", None)


@pytest.mark.usefixtures("own", "brief_measurements")
def test_what_fails_of_a_baseline_is_left_out_with_a_note(with_teachers: Seed, tmp_path: Path) -> None:
    config = small_config(finalists={"baselines": ["my_baseline:PLUGIN"]})
    found, notes = compressed(config, with_teachers(tmp_path / "run"))
    assert [one.id for one in found] == ["broken/int2-weights"]
    assert any("baseline broken left out" in note and "nothing left" in note for note in notes)


@pytest.mark.usefixtures("brief_measurements")
def test_the_teacher_is_pruned_and_factorised_without_training(with_teachers: Seed, tmp_path: Path) -> None:
    config = small_config(finalists={"baselines": ["pruning", "low_rank"]}, budget={"max_size_kb": 100})
    found, notes = compressed(config, with_teachers(tmp_path / "run"))
    assert [one.baseline.name for one in found] == ["pruning"] * 3 + ["low_rank"] * 2, notes
    whole = 31_000  # weights of the teacher
    pruned, factorised = found[:3], found[3:]
    for one in found:
        (file,) = one.files
        assert file.epochs == 0
        assert one.network.counts.parameters is not None
        assert 0.15 * whole < one.network.counts.parameters < 0.95 * whole
    accuracies = {one.id: one.val[0].confusion.accuracy for one in found}
    largest = max(pruned, key=lambda one: one.network.counts.parameters or 0)
    assert accuracies[largest.id] > 0.3  # four fifths of the weights, statistics estimated again
    assert accuracies["low_rank/rank 50 %"] >= accuracies["low_rank/rank 25 %"] - 0.05
    assert accuracies["low_rank/rank 50 %"] > 0.5
    assert len({one.files[0].file.sha256 for one in factorised}) == 2


@pytest.mark.usefixtures("brief_measurements")
def test_pruning_cuts_in_the_space_that_the_run_has(
    with_teachers: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived: list[nn.Module] = []

    def counted(network: nn.Module, example: Tensor) -> Derived:
        derived.append(network)
        return derive(network, example)

    monkeypatch.setattr(derived_space, "derive", counted)
    config = small_config(
        space={"name": "own", "start": ["fresh"]}, finalists={"baselines": ["pruning"]}, budget={"max_size_kb": 100}
    )
    found, notes = compressed(config, with_teachers(tmp_path / "run"))
    assert len(derived) == 1
    assert [one.baseline.name for one in found] == ["pruning"] * 3, notes
    assert max(one.val[0].confusion.accuracy for one in found) > 0.3  # of inherited weights


def without_file(teacher: ReadyTeacher) -> ReadyTeacher:
    return replace(teacher, file=None)


def of_other_classes(teacher: ReadyTeacher) -> ReadyTeacher:
    return replace(teacher, teacher=replace(teacher.teacher, other_classes=True))


@pytest.mark.usefixtures("brief_measurements")
@pytest.mark.parametrize(("changed", "said"), [(without_file, "no ONNX file to convert"), (of_other_classes, "")])
def test_a_teacher_that_cannot_be_deployed_is_not_compressed(
    changed: Callable[[ReadyTeacher], ReadyTeacher], said: str, with_teachers: Seed, tmp_path: Path
) -> None:
    config = small_config(finalists={"baselines": ["quantization"]})
    found, notes = compressed(config, with_teachers(tmp_path / "run"), changed)
    assert found == []
    assert sum("baseline" in note and said in note for note in notes) == bool(said)


def test_an_unknown_baseline_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown baseline 'quantisation'; did you mean 'quantization'"):
        search(small_config(finalists={"baselines": ["quantisation"]}), tmp_path / "run")
    assert not (tmp_path / "run" / "study.db").exists()
