"""A teacher that passed the checks, and what is said of it: all but how it was made or trained."""

from dataclasses import dataclass

from nas_kd.config.options import TeacherOptions
from nas_kd.context.run_context import RunContext
from nas_kd.data.dataset import Dataset
from nas_kd.engine.evaluation import decisions_of, decisions_of_logits
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.export.teacher_file import TeacherFile
from nas_kd.kd.stored_outputs import from_outputs
from nas_kd.kd.teacher_check import check_knowledge
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs
from nas_kd.scores.base import DEFAULT_SCORE, Decisions, load_score

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


def decisions_on_test(teacher: ReadyTeacher, context: RunContext) -> Decisions | None:
    """Read the test split with a teacher, which is for the end of a run: nothing may be chosen by it.

    Args:
        teacher: read through its file where it has one.
        context: of the run.

    Returns:
        The classes that it gives the test samples; None if only its outputs on other splits are known, or its classes
        are not the data's.
    """
    if teacher.teacher.other_classes:
        return None
    test, stored = context.for_teacher().data.test, teacher.teacher.stored
    if stored is not None:
        return decisions_of_logits(stored["test"], test.y) if "test" in stored else None
    if teacher.file is None:
        return decisions_of(teacher.teacher.model, test, context.numerics)
    return teacher.file.decide(teacher.file.content, test)


def tested_record(record: TeacherRecord, tested: Decisions | None, context: RunContext) -> TeacherRecord:
    """Complete a teacher's record by its scores on the test split.

    Args:
        record: of the teacher.
        tested: what `decisions_on_test` returned.
        context: of the run.
    """
    if tested is None:
        return record
    update = {
        "test": load_score(DEFAULT_SCORE).of(tested.confusion),
        "test_score": context.score.of(tested.confusion),
        "balanced": load_score("balanced_accuracy").of(tested.confusion),
        "confusion": tested.confusion,
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
    confusion = decisions_of_logits(stored["val"], data.val.y).confusion
    if note := check_knowledge(confusion, CHECK_ORDER):
        context.callback.on_note(note)
    record = TeacherRecord(
        description=found.teacher.description,
        origin="outputs",
        costs=Costs(parameters=0, macs=0),
        val=load_score(DEFAULT_SCORE).of(confusion),
        val_score=context.score.of(confusion),
    )
    return ReadyTeacher(found.teacher, None, record)
