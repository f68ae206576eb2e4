"""A teacher that passed the checks, and what is said of it: all but how it was made or trained."""

from dataclasses import dataclass

from nas_kd.config.options import TeacherOptions
from nas_kd.context.run_context import RunContext
from nas_kd.data.dataset import Dataset
from nas_kd.engine.evaluation import outputs_of
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.export.teacher_file import TeacherFile
from nas_kd.kd.stored_outputs import from_outputs
from nas_kd.kd.teacher_check import check_knowledge
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs
from nas_kd.scores.base import Evidence

MAY_HAVE_SEEN_VALIDATION = (
    "validation was drawn from the training samples: if it was trained on them, it looks too good"
)
CHECK_ORDER = (
    "check that its rows are in the order of the samples, of which broken ones that were left out have none, and its "
    "columns in the order of the classes: docs/how-to/own-teacher.md says which order that is"
)


@dataclass(frozen=True)
class ReadyTeacher:
    """A teacher that passed the checks.

    Attributes:
        teacher: the network, which students are compared with.
        file: its ONNX file; None: there is none.
        record: what the run keeps of it.
        adjusted: the network as it was made student-friendly, which teaches in its place; None: it teaches itself.
    """

    teacher: Teacher
    file: TeacherFile | None
    record: TeacherRecord
    adjusted: Teacher | None = None

    @property
    def teaching(self) -> Teacher:
        """The network that students learn from, and are cut out of."""
        return self.adjusted or self.teacher


def evidence_on_test(teacher: ReadyTeacher, context: RunContext) -> Evidence | None:
    """Read the test split with a teacher, which is for the end of a run: nothing may be chosen by it.

    Args:
        teacher: read through its file where it has one.
        context: of the run.

    Returns:
        What it does with the test samples; None if only its outputs on other splits are known, or its classes are not
        the data's.
    """
    if teacher.teacher.other_classes:
        return None
    test, stored = context.for_teacher().data.test, teacher.teacher.stored
    if stored is not None and "test" not in stored:
        return None
    if stored is not None:
        outputs = stored["test"].numpy()
    elif teacher.file is None:
        outputs = outputs_of(teacher.teacher.model, test.x, context.numerics)
    else:
        outputs = teacher.file.run(teacher.file.content, test.x)
    return context.data.task.evidence(outputs, test.y.numpy())


def tested_record(record: TeacherRecord, tested: Evidence | None, context: RunContext) -> TeacherRecord:
    """Complete a teacher's record by its scores on the test split.

    Args:
        record: of the teacher.
        tested: what `evidence_on_test` returned.
        context: of the run.
    """
    if tested is None:
        return record
    task = context.data.task
    update = {
        "test": task.headline_score.of(tested),
        "test_score": context.score.of(tested),
        **task.details([tested], tested),
    }
    return record.model_copy(update=update)


def ready_from_outputs(options: TeacherOptions, context: RunContext, data: Dataset, name: str) -> ReadyTeacher:
    """Read and check a teacher that is known by its outputs alone: judged by these, its size and latency unknown.

    Args:
        options: of the teacher.
        context: of the run, as teachers see it.
        data: as students see them.
        name: what notes about it begin with.

    Raises:
        InputError: the outputs do not fit the data, or are no better than chance.
    """
    found = from_outputs(options, data)
    stored = found.teacher.stored or {}
    for note in (*found.notes, "its size and latency are unknown, as it is known by its outputs alone"):
        context.callback.on_note(f"{name} {note}")
    if "val" in data.about.carved:
        context.callback.on_note(f"{name} {MAY_HAVE_SEEN_VALIDATION}")
    evidence = data.task.evidence(stored["val"].numpy(), data.val.y.numpy())
    chance = data.guessing(data.task.knowledge_score)
    if note := check_knowledge(evidence, data.task, chance, CHECK_ORDER):
        context.callback.on_note(note)
    record = TeacherRecord(
        description=found.teacher.description,
        origin="outputs",
        costs=Costs(parameters=0, macs=0),
        val=data.task.headline_score.of(evidence),
        val_score=context.score.of(evidence),
    )
    return ReadyTeacher(found.teacher, None, record)
