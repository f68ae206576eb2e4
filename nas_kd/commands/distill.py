"""One student, no search: teacher -> student in full, exported, verified and measured."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext, dataset_record
from nas_kd.context.run_folder import RunFolder, locked, package_versions
from nas_kd.context.run_log import LoggedCallback, run_log
from nas_kd.deployment.bundle import BundlePaths, write_bundle
from nas_kd.deployment.card import student_facts
from nas_kd.deployment.facts import StudentFacts
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import InputError
from nas_kd.export.calibrated_file import calibrate_file, decision_of_file
from nas_kd.export.verify import evidence_of_file
from nas_kd.kd.artifacts import ArtifactBuilder, ExportedFile
from nas_kd.kd.choose_recipe import ProbeBudget, choose_recipe, describe_choice, probe_method, student_recipe_key
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.load_model import load_weights, weights_file
from nas_kd.kd.network_builder import NetworkBuilder, note_start
from nas_kd.kd.own_space import with_own_space
from nas_kd.kd.ready_teacher import ReadyTeacher, evidence_on_test, tested_record
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.methods.combine import make_method
from nas_kd.methods.teaching import usable_teaching
from nas_kd.methods.teaching_choices import fixed_teaching
from nas_kd.models.search_space import SpaceOfTeacher, load_space
from nas_kd.nas.gate import Gate
from nas_kd.nas.supernet.student_friendly import prepare_student_friendly
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.latency import Latency
from nas_kd.results.limits import describe_exceeded, unmeasured_limits
from nas_kd.results.run_record import TeacherRecord
from nas_kd.scores.base import Evidence, load_score
from nas_kd.serialization import write_atomic

SIZES = 5  # of the space; the middle one is distilled if the config names none
DISTILL_SHARE = 1.5  # of the student's own training, for finding its recipe


@dataclass(frozen=True)
class DistillResult:
    """A distilled student; scores are the file's, through ONNX Runtime.

    Attributes:
        path: of the ONNX file.
        description: of the student, for people.
        method: of distillation, and how it was shown its teacher, if not as usual.
        title: name of the task's own score.
        val_accuracy: the task's own score, which is accuracy of classes, on the validation split, 0..1.
        test: the same on the test split with its interval.
        scores: further ones, such as balanced accuracy and the config's score, on the test split, by title.
        size_bytes: of the file.
        latency: of one call on the device.
        teacher: record of the first teacher, with its scores on the test split, too.
    """

    path: Path
    description: str
    method: str
    title: str
    val_accuracy: float
    test: Accuracy
    scores: Mapping[str, Accuracy]
    size_bytes: int
    latency: Latency
    teacher: TeacherRecord


def distill_one(config: SearchConfig, run_dir: Path, callback: Callback) -> DistillResult:
    """Distill the config's student with its first method, at its first precision.

    Writes `student.onnx`, `student.safetensors`, `card.json`, `README.md` and `predict.py`.

    Args:
        config: of the run; `student` is the architecture, else a middle size of the space.
        run_dir: folder to write; an interrupted training in it goes on.
        callback: receives what happens.

    Raises:
        InputError: something given is not usable.
        TrialError: the student cannot be trained or exported.
    """
    config = checked_config(config)
    _check_student_space(config)
    folder, callback = RunFolder(run_dir), LoggedCallback(callback)
    with locked(folder, config, is_search=False) as resumed, run_log(folder):
        callback.on_start(str(run_dir), resumed)
        context = RunContext.prepare(config, folder, callback)
        with training_threads(context.threads):
            return _distill(context)


def _distill(context: RunContext) -> DistillResult:
    context, teachers = _with_teachers(context)
    config, folder, callback = context.config, context.folder, context.callback
    builder = NetworkBuilder.for_run(context)
    gate = Gate(context, builder)
    candidate = _candidate(config, context, builder)
    builder.parameters(candidate.student)
    if left_out := _left_out(config, candidate):
        callback.on_note(f"of no use to method {candidate.recipe.method_name}, and left out: {left_out}")
    recipe = choose_recipe(
        context,
        builder,
        [t.teaching for t in teachers],
        key=student_recipe_key(context, [t.teaching for t in teachers]),
        network=lambda: candidate.student,
        method=probe_method([candidate.recipe.method]),
        budget=_probe_budget(context),
    )
    callback.on_note(f"training recipe: {describe_choice(recipe)}")
    context = context.with_recipe(recipe.recipe)
    callback.on_stage("distilling the student")
    distiller = Distiller.for_run(context, builder, [t.teaching for t in teachers])
    method, teaching = candidate.recipe.method, candidate.recipe.teaching
    distiller.check([method], builder.smallest(), config.search.precisions, [teaching.progression])
    trained = distiller.distill(candidate, context.seed, context.recipe.epochs)
    file = ArtifactBuilder.for_run(context).verified_file(trained, candidate.precision)
    callback.on_stage("reading the test split")  # once, with nothing left to choose
    tested = evidence_of_file(file.onnx, context.data.test, context.data.task)
    teacher = tested_record(teachers[0].record, evidence_on_test(teachers[0], context), context)
    facts = replace(
        _facts(context, builder, candidate, file, tested),
        scores_over_seeds=_further_scores(context, tested),
        costs=gate.of_file(file.onnx, builder.counted([candidate.student])),
        notes=gate.notes(candidate.student, precision=candidate.precision),
        teacher=teacher,
        recipe=recipe.recipe.to_json(),
        details={
            "losses": trained.losses,
            "calibration": trained.calibration,
            "grad_ratios": trained.grad_ratios,
        },
    )
    for note in _misses_of_budget(facts, file.val_score, config.budget):
        callback.on_note(note)
    paths = BundlePaths.in_folder(folder.path)
    write_bundle(paths, file.onnx, facts)
    weights = load_weights(context.store, file.weights_key)
    write_atomic(folder.path / "student.safetensors", weights_file(weights, student_facts(facts)))
    return DistillResult(
        path=paths.onnx,
        description=facts.description,
        method=", ".join(filter(None, [method, teaching.describe()])),
        title=context.data.task.headline_score.title,
        val_accuracy=file.val_accuracy,
        test=facts.test,
        scores=facts.scores_over_seeds,
        size_bytes=facts.costs.require_size(),
        latency=facts.costs.require_latency(),
        teacher=teacher,
    )


def _with_teachers(context: RunContext) -> tuple[RunContext, list[ReadyTeacher]]:
    """Prepare the teachers; the context then has the space that students come from."""
    config, builder = context.config, NetworkBuilder.for_run(context)
    if not isinstance(context.space, SpaceOfTeacher):  # a wrong student is found before the teacher is trained
        note_start(builder, context.callback)
        builder.parameters(_candidate(config, context, builder).student)
    context.callback.on_stage("preparing the teacher" if len(config.teacher) == 1 else "preparing the teachers")
    teachers = prepare_teachers(context, Gate(context, builder).of_file)
    return prepare_student_friendly(with_own_space(context, [t.teacher for t in teachers]), teachers)


def _facts(
    context: RunContext, builder: NetworkBuilder, candidate: Candidate, file: ExportedFile, tested: Evidence
) -> StudentFacts:
    """What is known of the file, its costs apart."""
    data, score = context.data, context.data.task.headline_score
    validated = evidence_of_file(file.onnx, data.val, data.task)
    return StudentFacts(
        candidate=candidate,
        description=builder.description(candidate.student),
        data=dataset_record(data),
        val=score.of(validated),
        test=score.of(tested),
        val_over_seeds=score.over_seeds([validated]),
        test_over_seeds=score.over_seeds([tested]),
        seed=context.seed,
        parity=file.parity,
        agreement=file.agreement,
        costs=builder.counted([candidate.student]),
        calibration=calibrate_file(file.onnx, data),
        decision=decision_of_file(file.onnx, data),
        device=context.device.describe(context.batch_size),
        versions=package_versions(),
        decoding_ms=data.task.details([tested], tested).get("decoding_ms"),
        card=context.config.card,
    )


def _further_scores(context: RunContext, tested: Evidence) -> dict[str, Accuracy]:
    """By title, the score that shows knowledge and the one that decides, where they are not the task's own."""
    task = context.data.task
    further = {
        load_score(name).title: value for name, value in task.details([tested], tested).get("further", {}).items()
    }
    return further | {s.title: s.of(tested) for s in (task.knowledge_score, context.score) if s.name != task.headline}


def _misses_of_budget(facts: StudentFacts, val_score: float, budget: Budget) -> list[str]:
    """What the student lacks of the config's budget, which nothing here was chosen by."""
    missed = [*describe_exceeded(facts.costs, budget)]
    unknown = [limit.noun for limit in unmeasured_limits(facts.costs, budget)]
    if budget.least_score is not None and val_score < budget.least_score:
        missed.append(f"score on validation {val_score:.2%} < {budget.least_score * 100:.6g}%")
    notes = [f"the student does not meet the budget: {', '.join(missed)}"] if missed else []
    if unknown:
        notes.append(f"not measured here, so that its limit is not checked: {', '.join(unknown)}")
    return notes


def _probe_budget(context: RunContext) -> ProbeBudget:
    """As many epochs as the student's own training has, unless the user limits the time: a tenth would show nothing."""
    minutes = context.config.distill.probe_minutes
    if minutes is None:
        return ProbeBudget(DISTILL_SHARE * context.recipe.epochs)
    return ProbeBudget(inf, time.monotonic() + 60 * minutes)


def _candidate(config: SearchConfig, context: RunContext, builder: NetworkBuilder) -> Candidate:
    if config.student is None:
        sizes = builder.size_ladder(SIZES)
        built = [size for size in sizes if builder.can_build(size)] or [builder.smallest()]
        middle = sizes[len(sizes) // 2]
        student = middle if middle in built else built[len(built) // 2]
    else:
        student = Architecture(context.space.name, _choices(config.student))
    name = config.distill.methods[0]
    teaching = usable_teaching(fixed_teaching(config), make_method(name))
    return Candidate(student, (), Recipe(name, teaching=teaching), config.search.precisions[0])


def _left_out(config: SearchConfig, candidate: Candidate) -> str:
    """What the config asks for in teaching that the student's method cannot use, for people."""
    asked, used = fixed_teaching(config), candidate.recipe.teaching
    return replace(
        asked,
        standardize=asked.standardize and not used.standardize,
        checkpoint=None if asked.checkpoint == used.checkpoint else asked.checkpoint,
        progression="none" if asked.progression == used.progression else asked.progression,
    ).describe()


def _check_student_space(config: SearchConfig) -> None:
    """Refuse a student of another space than the config's, before the data are read.

    Raises:
        InputError: names both.
    """
    if config.student is None or "space" not in config.student:
        return
    given, space = config.student["space"], load_space(config.space.name)
    if given != space.name:
        raise InputError(f"student.space is {given!r}, but space.name is {space.name!r}")


def _choices(student: dict[str, int | float | str]) -> dict[str, int | float | str]:
    return {k: v for k, v in student.items() if k != "space"}
