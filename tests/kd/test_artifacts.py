"""Files of every precision: each is made once, and judged as it will be deployed."""

from pathlib import Path

import pytest

from nas_kd.config.options import SearchConfig
from nas_kd.context.run_context import RunContext, dataset_record
from nas_kd.deployment.metadata import metadata_size
from nas_kd.export.verify import accuracy
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.distiller import Distiller
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Precision
from tests.small_runs import distiller_of, open_context, plain_candidate, small_config

ALL = ("fp32", "int8", "int8-qat", "int4-weights")
AFTERWARDS = ("fp32", "int8", "int4-weights")
pytestmark = pytest.mark.usefixtures("brief_measurements")


def config(**quantization: object) -> SearchConfig:
    return small_config(search={"precisions": ALL}, chain={"max_assistants": 0}, quantization=quantization)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return open_context(config(), tmp_path_factory.mktemp("run"))


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
        assert files.judge(trained, precision) == pytest.approx((file.val_accuracy, file.val_score), abs=1e-9)
        costs = gate.all_costs(candidate(context, precision).student, precision=precision)
        assert costs.size_bytes == len(file.onnx) + metadata_size(dataset_record(context.data))
        assert gate.notes(candidate(context, precision).student, precision=precision) == ()


def test_other_options_of_quantizing_are_other_files(context: RunContext, distiller: Distiller, tmp_path: Path) -> None:
    trained = distiller.distill(candidate(context, "int8"), 0, 2)
    few = open_context(config(samples=5), tmp_path)
    here, there = (ArtifactBuilder.for_run(c).verified_file(trained, "int8").sha256 for c in (context, few))
    assert here != there
    early = distiller_of(open_context(config(qat_start=0.2), tmp_path))
    for precision in ("fp32", "int8-qat"):
        keys = {d.distill(candidate(context, precision), 0, 2).key for d in (early, distiller)}
        assert len(keys) == (1 if precision == "fp32" else 2)
