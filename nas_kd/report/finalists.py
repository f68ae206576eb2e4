"""Section 3: the finalists' table."""

from dataclasses import dataclass

from nas_kd.report import number_format as numbers
from nas_kd.report.budget import WITHIN, extra_costs, verdict
from nas_kd.report.gains import control_of
from nas_kd.report.report_context import ReportContext, assistant_descriptions, method_name, method_words
from nas_kd.results.latency import Latency
from nas_kd.results.limits import describe_exceeded
from nas_kd.results.records import Costs, FinalistRecord, TeacherRecord


@dataclass(frozen=True)
class Cell:
    """What a cell says, and what it is sorted by."""

    text: str
    key: float | str
    small: str = ""


@dataclass(frozen=True)
class Column:
    """A column's head; `number` ones are aligned right."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Row:
    """A finalist, or the teacher."""

    id: str
    kind: str
    letter: str
    cells: tuple[Cell, ...]


COLUMNS = (
    Column("Candidate"),
    Column("Architecture"),
    Column("Chain"),
    Column("Method"),
    Column("Precision"),
    Column("Validation", True),
    Column("Test", True),
    Column("Size", True),
    Column("Latency p50 (p90)", True),
    Column("In budget"),
    Column("Gain over no distillation", True),
    Column("Gain over no assistants", True),
    Column("Training", True),
)


def finalist_rows(context: ReportContext) -> tuple[Row, ...]:
    """The teachers, then the finalists by size."""
    first, others = context.run.teacher, context.run.other_teachers
    teachers = [] if first is None else [_teacher(context, t, n) for n, t in enumerate((first, *others), start=1)]
    return (*teachers, *(_finalist(context, letter_id) for letter_id in context.letters))


def _finalist(context: ReportContext, candidate_id: str) -> Row:
    one = next(f for f in context.run.finalists if f.id == candidate_id)
    places = context.places
    letter = context.letters[one.id]
    won = context.winner is not None and context.winner.id == one.id
    cells = (
        Cell(letter, letter.rjust(3), one.id),
        Cell(one.description, one.description),
        Cell(assistant_descriptions(one) if one.assistant_descriptions else "none", len(one.assistant_descriptions)),
        Cell(method_name(one.candidate), method_name(one.candidate), _params(method_words(one.candidate))),
        Cell(one.candidate["precision"], one.candidate["precision"]),
        Cell(numbers.percent(one.val.mean, places), one.val.mean),
        Cell(numbers.percent(one.test.mean, places), one.test.mean, numbers.interval(one.test, places)),
        _size(context, one.costs),
        _latency(one.costs.latency_ms),
        Cell("✓ yes", 1) if verdict(context, one) == WITHIN else Cell("✗ no", 0, verdict(context, one)),
        *(_gain(context, candidate_id, kind) for kind in ("no_distillation", "no_assistants")),
        Cell(numbers.duration(one.training_s), one.training_s),
    )
    return Row(one.id, "winner" if won else "finalist", letter, cells)


def _why_none(finalist: FinalistRecord, kind: str) -> str:
    """Why there is no such control."""
    if finalist.candidate["method"] == "none":
        return "not distilled"
    return "has none" if kind == "no_assistants" and not finalist.assistant_descriptions else "not trained"


def _size(context: ReportContext, costs: Costs) -> Cell:
    """With what else is limited."""
    return Cell(numbers.size(costs.size_bytes), costs.require_size(), "\n".join(extra_costs(context, costs)))


def _latency(timing: Latency | None) -> Cell:
    if timing is None:
        return Cell(numbers.NONE, 0.0, "not measured")
    unstable = "\nunstable" if timing.unstable else ""
    return Cell(numbers.latency(timing.p50), timing.p50, f"p90 {numbers.latency(timing.p90)}{unstable}")


def _params(description: str) -> str:
    _, _, params = description.partition("(")
    return params.rstrip(")")


def _gain(context: ReportContext, candidate_id: str, kind: str) -> Cell:
    one = next(f for f in context.run.finalists if f.id == candidate_id)
    control = control_of(one, "no_distillation" if kind == "no_distillation" else "no_assistants")
    if control is None:
        return Cell(numbers.NONE, -9.0, _why_none(one, kind))
    gain, places = control.gain, numbers.decimals(control.gain.low, control.gain.high)
    between = f"{numbers.points(gain.low, places)} to {numbers.points(gain.high, places)}"
    return Cell(numbers.points(gain.mean, places), gain.mean, between)


def _teacher(context: ReportContext, teacher: TeacherRecord, number: int) -> Row:
    name = f"Teacher {number}" if context.run.other_teachers else "Teacher"
    places = context.places
    test = Cell(numbers.NONE, -9.0, "read at the end")
    if teacher.test:
        test = Cell(
            numbers.percent(teacher.test.mean, places), teacher.test.mean, numbers.interval(teacher.test, places)
        )
    within = not describe_exceeded(teacher.costs, context.budget)
    none = Cell(numbers.NONE, -9.0)
    cells = (
        Cell(name, f"  0{number:03d}"),
        Cell(teacher.description, teacher.description),
        Cell(numbers.NONE, -1),
        Cell(numbers.NONE, " "),
        Cell("as given" if teacher.origin == "onnx" else "fp32", " "),
        Cell(numbers.percent(teacher.val.mean, places), teacher.val.mean),
        test,
        _size(context, teacher.costs),
        _latency(teacher.costs.latency_ms),
        Cell("✓ yes" if within else "✗ no", int(within)),
        none,
        none,
        Cell(numbers.duration(teacher.training_s) if teacher.training_s else numbers.NONE, teacher.training_s),
    )
    return Row("teacher" if number == 1 else f"teacher {number}", "teacher", "", cells)
