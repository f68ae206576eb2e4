"""The step of a search that compresses its teacher in other ways, to compare finalists with."""

from collections.abc import Callable, Iterator

from nas_kd.commands.trained_files import MeasuredBaseline, TrainedFile, best_file
from nas_kd.context.run_context import RunContext
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder, ExportedFile
from nas_kd.kd.baselines.base import Baseline, BaselineInputs, CompressedFile, CompressedNetwork, load_baseline
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.nas.gate import Gate
from nas_kd.scores.base import Evidence
from nas_kd.serialization import sha256


def compress_teacher(context: RunContext, teacher: ReadyTeacher, gate: Gate, seeds: int) -> list[MeasuredBaseline]:
    """Make, verify, measure and judge on validation what `finalists.baselines` names; what fails is left out.

    Args:
        context: of the run.
        teacher: that students are compared with.
        gate: measures files.
        seeds: trainings of each network, where a baseline trains any.
    """
    names = context.config.finalists.baselines
    if not names or teacher.teacher.other_classes or teacher.teacher.stored is not None:
        return []
    context.callback.on_stage("compressing the teacher in other ways")
    seen = context.for_teacher()
    artifacts = ArtifactBuilder.for_run(seen)
    inputs = BaselineInputs(seen, teacher, artifacts, tuple(context.seed + n for n in range(1, seeds + 1)))
    return [found for name in names for found in _measured(load_baseline(name), inputs, gate)]


def _measured(baseline: Baseline, inputs: BaselineInputs, gate: Gate) -> Iterator[MeasuredBaseline]:
    for make in _variants(baseline, inputs):
        try:
            with as_trial_error():
                network = make()
                judged = [_judged(file, network, inputs.context) for file in network.files]
            files = tuple(file for file, _ in judged)
            costs = gate.of_file(best_file(files).file.onnx, network.counts)
        except TrialError as error:
            inputs.context.callback.on_note(f"baseline {baseline.name} left out: {error}")
            continue
        yield MeasuredBaseline(baseline, network, files, tuple(val for _, val in judged), costs)


def _variants(baseline: Baseline, inputs: BaselineInputs) -> list[Callable[[], CompressedNetwork]]:
    try:
        with as_trial_error():
            return list(baseline.variants(inputs))
    except TrialError as error:
        inputs.context.callback.on_note(f"baseline {baseline.name} left out: {error}")
        return []


def _judged(made: CompressedFile, network: CompressedNetwork, context: RunContext) -> tuple[TrainedFile, Evidence]:
    task, split = context.data.task, context.data.val
    val = task.evidence(network.run(made.onnx, split.x), split.y.numpy())
    file = ExportedFile(
        onnx=made.onnx,
        sha256=sha256(made.onnx),
        val_accuracy=task.first_score(val),
        val_score=context.score.value(val),
        parity=made.parity.max_abs_difference,
        agreement=made.parity.agreement,
        seconds=made.seconds,
    )
    return TrainedFile(made.seed, made.epochs, file), val
