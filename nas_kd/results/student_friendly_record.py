"""The record of a teacher that was trained together with cuts of itself before the search. Imports no torch."""

from collections.abc import Mapping
from typing import Literal

from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.trial_record import Record

Outcome = Literal["kept", "teacher worse", "cut worse", "no cut better", "student worse", "no student better"]


class BeforeAfter(Record):
    """Scores on validation of two networks that differ by the teacher's training.

    Attributes:
        before: by the teacher as it was.
        after: by the adjusted one.
        gain: `after` minus `before`, paired by sample, with its 95 % interval (-1..1).
    """

    before: Accuracy
    after: Accuracy
    gain: Accuracy

    @property
    def is_worse(self) -> bool:
        """Whether the second is clearly worse."""
        return self.gain.high < 0

    @property
    def is_better(self) -> bool:
        """Whether the second is clearly better."""
        return self.gain.low > 0


class CutComparison(Record):
    """One cut of the teacher, compared between the teacher as it was and the adjusted one.

    Attributes:
        description: of the cut, for people.
        macs: its multiply-adds.
        cost: the same as a share of the teacher's.
        inherited: the cut with the teacher's weights, not trained itself.
        distilled: the cut as a student of either teacher; None: it was not trained, as nothing else spoke for it.
    """

    description: str
    macs: int
    cost: float
    inherited: BeforeAfter
    distilled: BeforeAfter | None = None


class StudentFriendlyRecord(Record):
    """A teacher's training together with cuts of itself, and whether it paid.

    Attributes:
        epochs: of the training.
        batch_size: samples a step.
        learning_rate: its peak.
        augment: strength of augmentation.
        networks_per_step: networks trained in every step, the teacher among them.
        macs: multiply-adds of all of them for one sample, on average.
        seconds: of training.
        compared_s: seconds of choosing cuts and of comparing, students' trainings included.
        teacher: the teacher itself.
        cuts: cuts of it, the largest first.
        student_epochs: that each cut was distilled for, from either teacher.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    augment: str
    networks_per_step: int
    macs: float
    seconds: float
    compared_s: float
    teacher: BeforeAfter
    cuts: tuple[CutComparison, ...]
    student_epochs: int

    @property
    def outcome(self) -> Outcome:
        """Whether the adjusted teacher is in use, or why not.

        It is if neither it nor an inherited cut is clearly worse than before (95 %) and an inherited cut is clearly
        better, and if the same is true of students: none of them may be worse at all, as one seed shows less.
        """
        if self.teacher.is_worse:
            return "teacher worse"
        if any(cut.inherited.is_worse for cut in self.cuts):
            return "cut worse"
        if not any(cut.inherited.is_better for cut in self.cuts):
            return "no cut better"
        students = [cut.distilled for cut in self.cuts if cut.distilled is not None]
        if any(student.gain.mean < 0 for student in students):
            return "student worse"
        return "kept" if any(student.is_better for student in students) else "no student better"

    @property
    def is_kept(self) -> bool:
        """Whether the adjusted teacher teaches, and students begin with its weights."""
        return self.outcome == "kept"

    @property
    def is_promising(self) -> bool:
        """Whether nothing but students has yet to show whether it paid."""
        return self.outcome in ("kept", "student worse", "no student better")


def describe_student_friendly(record: StudentFriendlyRecord, score: str) -> str:
    """Say in one line what the training was worth, and which teacher is in use.

    Args:
        record: of the training.
        score: what networks are judged by.
    """
    inherited = ", ".join(f"{_change(cut.inherited)} at {cut.cost:.2f} of its cost" for cut in record.cuts)
    distilled = ", ".join(_change(cut.distilled) for cut in record.cuts if cut.distilled is not None)
    students = f", distilled for {record.student_epochs} epochs {distilled}" if distilled else ""
    return (
        f"trained together with cuts of itself for {record.epochs} epochs ({record.seconds:.0f} s, comparing took "
        f"{record.compared_s:.0f} s); {score} on validation {_change(record.teacher)}, of cuts that are not trained "
        f"themselves {inherited}{students}; {_OUTCOMES[record.outcome]}"
    )


def _change(scores: BeforeAfter) -> str:
    return f"{100 * scores.before.mean:.1f} % -> {100 * scores.after.mean:.1f} %"


_AS_IT_WAS = "so the teacher stays as it was"
_OUTCOMES: Mapping[Outcome, str] = {
    "kept": "it teaches like this, and students begin with these weights",
    "teacher worse": f"it is clearly worse, {_AS_IT_WAS}",
    "cut worse": f"a cut is clearly worse, {_AS_IT_WAS}",
    "no cut better": f"no cut is clearly better, {_AS_IT_WAS}",
    "student worse": f"a student is worse, {_AS_IT_WAS}",
    "no student better": f"no student is clearly better, {_AS_IT_WAS}",
}
