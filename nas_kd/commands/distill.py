"""One student, no search: teacher -> student in full, exported, verified and measured."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder, locked
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import InputError
from nas_kd.export.verify import decisions
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.choose_recipe import ProbeBudget, choose_recipe, describe_choice, probe_method, student_recipe_key
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import TeacherRecord
from nas_kd.scores.base import DEFAULT_SCORE, load_score
from nas_kd.serialization import write_atomic

DISTILL_SHARE = 1.5  # of the student's own training, for finding its recipe


@dataclass(frozen=True)
class DistillResult:
    """A distilled student; accuracies are the file's, through ONNX Runtime.

    Attributes:
        path: of the ONNX file.
        description: of the student, for people.
        method: of distillation.
        val_accuracy: on the validation split, 0..1.
        test: accuracy on the test split with its interval.
        scores: balanced accuracy, and the config's score, on the test split, by title.
        size_bytes: of the file.
        latency: of one call on the device.
        teacher: record of the first teacher.
    """

    path: Path
    description: str
    method: str
    val_accuracy: float
    test: Accuracy
    scores: Mapping[str, Accuracy]
    size_bytes: int
    latency: Latency
    teacher: TeacherRecord


def distill_one(config: SearchConfig, run_dir: Path, callback: Callback) -> DistillResult:
    """Distill the config's student with its first method, at its first precision; writes `student.onnx` and a card.

    Args:
        config: of the run; `student` is the architecture, else a middle size of the space.
        run_dir: folder to write; an interrupted training in it goes on.
        callback: receives what happens.

    Raises:
        InputError: something given is not usable.
        TrialError: the student cannot be trained or exported.
    """
    folder = RunFolder(run_dir)
    with locked(folder, config) as resumed:
        callback.on_start(str(run_dir), resumed)
        context = RunContext.prepare(config, folder, callback)
        with training_threads(context.threads):
            return _distill(context)


def _distill(context: RunContext) -> DistillResult:
    config, folder, callback = context.config, context.folder, context.callback
    builder = NetworkBuilder(context.data, context.space)
    gate = Gate(context, builder)
    candidate = _candidate(config, context)
    builder.parameters(candidate.student)
    callback.on_stage("preparing the teacher" if len(config.teacher) == 1 else "preparing the teachers")
    teachers = prepare_teachers(context, gate.of_file)
    recipe = choose_recipe(
        context,
        builder,
        [t.teacher for t in teachers],
        key=student_recipe_key(context, [t.teacher for t in teachers]),
        network=lambda: candidate.student,
        method=probe_method([candidate.recipe.method]),
        budget=_probe_budget(context),
    )
    callback.on_note(f"training recipe: {describe_choice(recipe)}")
    context = context.with_recipe(recipe.recipe)
    callback.on_stage("distilling the student")
    distiller = Distiller.for_run(context, builder, [t.teacher for t in teachers])
    distiller.check([candidate.recipe.method], context.space.size_ladder(2)[0], config.search.precisions)
    trained = distiller.distill(candidate, context.seed, context.recipe.epochs)
    file = ArtifactBuilder.for_run(context).verified_file(trained, candidate.precision)
    onnx, test = file.onnx, context.data.test
    confusion = decisions(onnx, test).confusion
    others = {score.title: score for score in (load_score("balanced_accuracy"), context.score)}
    write_atomic(folder.path / "student.onnx", onnx)
    result = DistillResult(
        path=folder.path / "student.onnx",
        description=builder.description(candidate.student),
        method=candidate.recipe.method,
        val_accuracy=file.val_accuracy,
        test=load_score(DEFAULT_SCORE).of(confusion),
        scores={title: score.of(confusion) for title, score in others.items() if score.name != DEFAULT_SCORE},
        size_bytes=len(onnx),
        latency=gate.latency(onnx),
        teacher=teachers[0].record,
    )
    card = {
        "schema": 1,
        "candidate": candidate.to_json(),
        "classes": list(context.data.classes),
        "losses": trained.losses,
        "calibration": trained.calibration,
        "recipe": recipe.recipe.to_json(),
        "notes": gate.notes(candidate.student, precision=candidate.precision),
        "sha256": file.sha256,
        "accuracy": {"val": result.val_accuracy, "test": result.test.model_dump()},
        "latency_ms": result.latency.figures(),
        "parity": {"max_abs_difference": file.parity, "top1_agreement": file.agreement},
    }
    write_atomic(folder.path / "card.json", json.dumps(card, indent=1, allow_nan=False))
    return result


def _probe_budget(context: RunContext) -> ProbeBudget:
    """As many epochs as the student's own training has, unless the user limits the time: a tenth would show nothing."""
    minutes = context.config.distill.probe_minutes
    if minutes is None:
        return ProbeBudget(DISTILL_SHARE * context.recipe.epochs)
    return ProbeBudget(inf, time.monotonic() + 60 * minutes)


def _candidate(config: SearchConfig, context: RunContext) -> Candidate:
    student = context.space.size_ladder(5)[2]
    if config.student is not None:
        student = Architecture(config.student.get("space", context.space.name), _choices(config.student))
        if student.space != context.space.name:
            raise InputError(f"student.space is {student.space!r}, but space.name is {context.space.name!r}")
    return Candidate(student, (), Recipe(config.distill.methods[0]), config.search.precisions[0])


def _choices(student: dict[str, int | float | str]) -> dict[str, int | float | str]:
    return {k: v for k, v in student.items() if k != "space"}
