"""The teacher: trained by the tool, or the user's own; checked before anything is built on it."""

from collections.abc import Callable
from dataclasses import replace

from nas_kd.config.options import TeacherOptions
from nas_kd.context.recipe_rules import schedule_note
from nas_kd.context.run_context import RunContext
from nas_kd.engine.evaluation import outputs_of
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError, TrialError
from nas_kd.export.teacher_file import TeacherFile, export_teacher
from nas_kd.kd.choose_recipe import describe_choice
from nas_kd.kd.config_checks import ordinal
from nas_kd.kd.fine_tuning import describe_fine_tuning
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.onnx_teacher import from_onnx
from nas_kd.kd.preprocessing_check import CLEAR_GAIN, N_SAMPLES, CheckedSamples, better_preprocessing
from nas_kd.kd.ready_teacher import MAY_HAVE_SEEN_VALIDATION, ReadyTeacher, ready_from_outputs
from nas_kd.kd.stored_outputs import from_outputs
from nas_kd.kd.teacher_check import check_knowledge
from nas_kd.kd.teacher_checkpoints import judged_checkpoints
from nas_kd.kd.teacher_loading import LoadedTeacher, open_teacher, trained_architecture
from nas_kd.kd.user_teachers import UserTeacher, from_factory
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.recipe_record import RecipeRecord
from nas_kd.results.run_record import TeacherRecord, is_under_trained
from nas_kd.results.trial_record import Costs
from nas_kd.serialization import fingerprint

MeasureFile = Callable[[bytes, Costs], Costs]  # all costs of an exported file, from what was counted of the network


def prepare_teachers(context: RunContext, measure: MeasureFile) -> list[ReadyTeacher]:
    """Train or load the config's teachers, measure them, and refuse those that are shown to be no better than chance.

    Args:
        context: of the run.
        measure: measures an exported file on the run's device.

    Raises:
        InputError: one cannot be loaded, does not fit the data, or is no better than chance.
    """
    data, context = context.data, context.for_teacher()
    teachers = []
    for place, options in enumerate(context.config.teacher):
        try:
            if options.outputs is not None:
                teacher = ready_from_outputs(options, context, data, _name(context, place))
            else:
                teacher = _prepare(options, context, measure, place)
        except InputError as error:
            several = len(context.config.teacher) > 1
            raise InputError(f"{ordinal(place)} {error}" if several else str(error)) from error
        if data.unlabelled is not None:  # else what is said of the run's schedule is true of the teacher's, too
            _note_schedule(teacher.record.recipe, _name(context, place), context)
        context.callback.on_teacher(teacher.record)
        teachers.append(teacher)
    keys = [t.teacher.key for t in teachers]
    if len(set(keys)) < len(keys):
        raise InputError("two of the teachers are the same network: give them different seeds or weights")
    return teachers


def load_teachers(context: RunContext) -> list[Teacher]:
    """Load the teachers of a run that has prepared them: nothing is judged or measured again.

    Raises:
        InputError: one cannot be loaded.
    """
    data, context = context.data, context.for_teacher()
    return [
        open_teacher(options, context, place).teacher
        if options.outputs is None
        else from_outputs(options, data).teacher
        for place, options in enumerate(context.config.teacher)
    ]


def untrained_teachers(context: RunContext) -> list[Teacher]:
    """Build the config's teachers without any training: a space's network has its first weights, others are as given.

    Raises:
        InputError: one cannot be loaded, or does not fit the data.
    """
    data, context, found = context.data, context.for_teacher(), []
    for place, options in enumerate(context.config.teacher):
        if options.outputs is not None:
            found.append(from_outputs(options, data).teacher)
        elif options.onnx is not None:
            found.append(from_onnx(options, context.data).teacher)
        elif options.factory is not None:
            found.append(from_factory(options, context.data).teacher)
        else:
            space, architecture = trained_architecture(options, context)
            builder = NetworkBuilder.for_run(context, space)
            key = fingerprint(["untrained", architecture.to_json(), place])
            description, parameters = builder.description(architecture), builder.parameters(architecture)
            model, macs = builder.build(architecture, place), builder.macs(architecture)
            found.append(Teacher(model.eval(), key, description, parameters, macs))
    return [replace(teacher, paired=True) for teacher in found]


def _prepare(options: TeacherOptions, context: RunContext, measure: MeasureFile, place: int) -> ReadyTeacher:
    found = open_teacher(options, context, place)
    teacher = found.teacher
    name = _name(context, place)
    for note in found.own.notes if found.own else ():
        context.callback.on_note(f"{name} {note}")
    if found.keeps_its_head and not teacher.other_classes and "val" in context.data.about.carved:
        context.callback.on_note(f"{name} {MAY_HAVE_SEEN_VALIDATION}")
    file, costs = _file_and_costs(found, context, measure, name)
    if teacher.other_classes:
        return _of_other_classes(found, file, costs, context, name)
    task = context.data.task
    outputs = outputs_of(teacher.model, context.data.val.x, context.numerics)
    if fault := task.fault_of_outputs(outputs):
        raise InputError(f"teacher: {fault}")
    if task.any_width and (width := outputs.shape[1]) != (wanted := context.data.n_classes):
        context.callback.on_note(
            f"{name} returns {width} numbers a sample, students {wanted}: they cannot be compared with each other; "
            f"data.embedding_width = {width} makes them alike"
        )
    evidence = task.evidence(outputs, context.data.val.y.numpy())
    val, chance = task.headline_score.of(evidence), context.data.guessing(task.knowledge_score)
    unchecked = found.own is None or found.fine_tuning or not task.one_class
    advice = None if unchecked or found.own is None else _advice(found.own, context, val)
    hint = advice or (_CHECK_IT if found.recipe is None and found.fine_tuning is None else _TRAIN_LONGER)
    for note in filter(None, [check_knowledge(evidence, task, chance, hint), advice and f"{name} {advice}"]):
        context.callback.on_note(note)
    val_score = context.score.of(evidence)
    _note_training(found, val_score, context)
    record = TeacherRecord.model_validate(
        {
            "description": teacher.description,
            "origin": found.origin,
            "costs": costs,
            "val": val,
            "val_score": val_score,
            "training_s": round(found.seconds, 3),
            "recipe": found.recipe,
            "fine_tuning": found.fine_tuning,
            "late_gain": found.late_gain,
            "advice": advice,
            "checkpoints": judged_checkpoints(teacher.checkpoints, context),
        }
    )
    return ReadyTeacher(teacher, file, record)


def _of_other_classes(
    found: LoadedTeacher, file: TeacherFile | None, costs: Costs, context: RunContext, name: str
) -> ReadyTeacher:
    """A teacher whose classes are not the data's: nothing can be said of how good it is, or of its preprocessing."""
    context.callback.on_note(
        f"{name} its classes are not the data's (label_set): its accuracy and its preprocessing cannot be checked; "
        "methods that read its logits train a head of the student for its classes, which is dropped"
    )
    record = TeacherRecord(description=found.teacher.description, origin=found.origin, costs=costs)
    return ReadyTeacher(found.teacher, file, record)


def _name(context: RunContext, place: int) -> str:
    """What notes about a teacher begin with."""
    return ordinal(place) if len(context.config.teacher) > 1 else "teacher:"


def _file_and_costs(
    found: LoadedTeacher, context: RunContext, measure: MeasureFile, name: str
) -> tuple[TeacherFile | None, Costs]:
    """The teacher's file and what it costs, both as far as there are any: nothing else depends on them."""
    counted = Costs(parameters=found.teacher.parameters, macs=found.teacher.macs)
    given = None if found.own is None else found.own.file
    file, costs = given, counted
    try:
        exported = given or export_teacher(found.teacher.model, context.data)
        file, costs = exported, measure(exported.content, counted)
    except TrialError as error:
        unknown = "size and latency are" if given is None else "latency is"
        context.callback.on_note(f"{name} its {unknown} unknown, as {error}; all else goes on as usual")
    # A given file is deployed as it is, one that is exported here with its metadata.
    return file, costs if given is None else costs.model_copy(update={"size_bytes": len(given.content)})


def _note_schedule(recipe: RecipeRecord | None, name: str, context: RunContext) -> None:
    """Say what is odd about the schedule of a teacher that is trained here, on the labelled samples alone."""
    odd = None if recipe is None else schedule_note(recipe.recipe, len(context.data.train), teacher=True)
    if odd is not None:
        context.callback.on_note(f"{name} {odd}")


def _note_training(found: LoadedTeacher, val_score: Accuracy, context: RunContext) -> None:
    """Say how the tool trained a teacher, and whether it needs more training."""
    if found.fine_tuning is not None:
        said = describe_fine_tuning(found.fine_tuning, context.data.n_classes, context.score.title)
        context.callback.on_note(f"teacher: {said}")
    if found.recipe is not None:
        context.callback.on_note(f"teacher: {describe_choice(found.recipe)}")
    if found.late_gain is not None and is_under_trained(found.late_gain, val_score):
        context.callback.on_note(
            f"teacher: under-trained: its {context.score.title} on validation still rose by "
            f"{100 * found.late_gain:.1f} points in the last fifth of its epochs; set teacher.epochs higher"
        )


_CHECK_IT = "check its weights, the order of the classes, and teacher.preprocessing, mean and std"
_TRAIN_LONGER = "train it for longer (teacher.epochs), or check the labels"


def _advice(own: UserTeacher, context: RunContext, val: Accuracy) -> str | None:
    """Which preprocessing fits the teacher better; found once, then read from the store."""
    if val.samples >= N_SAMPLES and val.mean > 1 - CLEAR_GAIN:  # large teachers take long
        return None
    filled_up = ["train"] if val.samples < N_SAMPLES else []
    key = fingerprint([own.teacher.key, context.data.key, *filled_up])
    stored = context.store.load_json("preprocessing", key)
    if stored is None:
        stored = [better_preprocessing(own.options, own.behind, CheckedSamples.of(context.data))]
        context.store.save_json("preprocessing", key, stored)
    return None if stored[0] is None else str(stored[0])
