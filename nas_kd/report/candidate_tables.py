"""Section 3, finalists: the table of teachers and finalists, and the table of the search's best trials."""

from collections.abc import Iterator
from dataclasses import dataclass

from nas_kd.config.options import Budget
from nas_kd.report import number_format as fmt
from nas_kd.report.budget_text import WITHIN_BUDGET, budget_verdict, other_limited_costs
from nas_kd.report.distillation_gains import control_of
from nas_kd.report.recipe_words import grad_ratios_text, training_text
from nas_kd.report.report_context import ReportContext, chain_text, method_name, method_params
from nas_kd.results.finalist_record import Accuracy, ControlKind, FinalistRecord
from nas_kd.results.latency import Latency
from nas_kd.results.limits import describe_exceeded, unmeasured_limits
from nas_kd.results.run_record import NO_SCORE, RunRecord, TeacherRecord
from nas_kd.results.trial_record import Costs, TrialRecord

MAX_TRIAL_ROWS = 200  # of the page's table; candidates.csv has all trials
LAST = -9.0  # sort key of a missing figure


@dataclass(frozen=True)
class Column:
    """Head of a column; numeric ones are aligned right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """Text of a cell, the value that its column is sorted by, and a second line in small print."""

    text: str
    sort_key: float | str
    note: str = ""


UNKNOWN = Cell("unknown", LAST, "not exported to ONNX")


@dataclass(frozen=True)
class CandidateRow:
    """A row of figures, and `details` as (label, text) for the wide line below it.

    `kind` is "teacher", "winner", "finalist" or "trial".
    """

    id: str
    kind: str
    cells: tuple[Cell, ...]
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CandidateTable:
    """A sortable table with one row per candidate."""

    columns: tuple[Column, ...]
    rows: tuple[CandidateRow, ...]


# The figures that decide come first: a narrow window shows the first columns. Gains follow them.
FINALIST_COLUMNS = (
    Column("Candidate"),
    Column("Test", True),
    Column("Size", True),
    Column("Latency p50 (p90)", True),
    Column("In budget"),
)
GAIN_COLUMNS: dict[ControlKind, Column] = {
    "no_distillation": Column("Gain over no distillation", True),
    "label_smoothing": Column("Gain over label smoothing", True),
    "no_assistants": Column("Gain over no assistants", True),
}
TRAINING_COLUMNS = (
    Column("Validation", True),
    Column("Method"),
    Column("Precision"),
    Column("Assistants", True),
    Column("Training time", True),
)
TRIAL_COLUMNS = (
    Column("Trial"),
    Column("Validation", True),
    Column("Size", True),
    Column("Latency", True),
    Column("Status"),
    Column("Method"),
    Column("Precision"),
    Column("Assistants", True),
)


def build_finalist_table(context: ReportContext) -> CandidateTable:
    """Build the table of the teachers, then the finalists by size."""
    run = context.run
    gains = [GAIN_COLUMNS[kind] for kind in _shown_gains(context)]
    columns: tuple[Column, ...] = (*FINALIST_COLUMNS, *gains, *TRAINING_COLUMNS)
    if not run.decides_on_headline:
        scores = [Column(f"Test {title}", True) for title in (context.score, run.headline_title)]
        columns = (columns[0], *scores, *columns[2:])
    teachers = [] if run.teacher is None else [run.teacher, *run.other_teachers]
    teacher_rows = [_teacher_row(context, teacher, number) for number, teacher in enumerate(teachers, start=1)]
    return CandidateTable(columns, (*teacher_rows, *(_finalist_row(context, f) for f in context.finalists)))


def build_trial_table(context: ReportContext) -> CandidateTable:
    """Build the table of the best trials by their score on validation, at most `MAX_TRIAL_ROWS`, without duplicates."""
    trials = [t for t in context.run.trials if t.status != "duplicate"]
    trials.sort(key=lambda t: (-(t.val_score or -1.0), t.number))
    return CandidateTable(TRIAL_COLUMNS, tuple(_trial_row(context, t) for t in trials[:MAX_TRIAL_ROWS]))


def trial_table_title(run: RunRecord) -> str:
    """Name what the table of trials holds: all of them, or the best."""
    total = sum(t.status != "duplicate" for t in run.trials)
    which = f"The best {MAX_TRIAL_ROWS:,} of {total:,}" if total > MAX_TRIAL_ROWS else f"All {total:,}"
    return f"{which} trials of the search, by validation {run.score_title}"


def _finalist_row(context: ReportContext, finalist: FinalistRecord) -> CandidateRow:
    decimals, letter = context.accuracy_decimals, context.letters[finalist.id]
    verdict = budget_verdict(context, finalist)
    cells = (
        Cell(letter, letter.rjust(3), finalist.id),
        *_test_cells(context, finalist),
        _size_cell(context, finalist.costs),
        _latency_cell(finalist.costs.latency_ms),
        Cell("✓ yes", 1) if verdict == WITHIN_BUDGET else Cell("✗ no", 0, verdict),
        *(_gain_cell(finalist, kind) for kind in _shown_gains(context)),
        Cell(fmt.percent(finalist.val_score.mean, decimals), finalist.val_score.mean),
        *_recipe_cells(finalist),
        Cell(fmt.duration(finalist.training_s), finalist.training_s),
    )
    kind = "winner" if context.is_winner(finalist) else "finalist"
    return CandidateRow(finalist.id, kind, cells, tuple(_details(finalist)))


def _teacher_row(context: ReportContext, teacher: TeacherRecord, number: int) -> CandidateRow:
    name = f"Teacher {number}" if context.run.other_teachers else "Teacher"
    missing = Cell(fmt.MISSING, LAST)
    within = _within_cell(teacher.costs, context.budget)
    cells = (
        Cell(name, f"  0{number:03d}"),
        *_test_cells(context, teacher),
        _size_cell(context, teacher.costs) if teacher.costs.size_bytes else UNKNOWN,
        _latency_cell(teacher.costs.latency_ms) if teacher.costs.latency_ms else UNKNOWN,
        within,
        *(missing for _ in _shown_gains(context)),
        _validation_cell(context, teacher),
        Cell(fmt.MISSING, " "),
        Cell({"onnx": "as given", "outputs": fmt.MISSING}.get(teacher.origin, "fp32"), " "),
        missing,
        Cell(fmt.duration(teacher.training_s) if teacher.training_s else fmt.MISSING, teacher.training_s),
    )
    row_id = "teacher" if number == 1 else f"teacher {number}"
    return CandidateRow(row_id, "teacher", cells, (("Architecture", teacher.description),))


def _validation_cell(context: ReportContext, teacher: TeacherRecord) -> Cell:
    if teacher.val_score is None:
        return Cell(fmt.MISSING, LAST, NO_SCORE)
    return Cell(fmt.percent(teacher.val_score.mean, context.accuracy_decimals), teacher.val_score.mean)


def _trial_row(context: ReportContext, trial: TrialRecord) -> CandidateRow:
    score, letter = trial.val_score, context.letters.get(trial.id)
    judged = fmt.MISSING if score is None else fmt.percent(score)
    without = "without assistants" if trial.without_assistants else ""
    cells = (
        Cell(f"{trial.number}" + (f" ({letter})" if letter else ""), trial.number),
        Cell(judged, LAST if score is None else score, without),
        _size_cell(context, trial.costs),
        Cell(fmt.latency(trial.median_ms), trial.median_ms or 0.0),
        Cell(trial.status, trial.status),
        *_recipe_cells(trial),
    )
    reason = [("Reason", trial.reason)] if trial.reason else []
    return CandidateRow(trial.id, "trial", cells, (*_details(trial), *reason))


def _recipe_cells(record: FinalistRecord | TrialRecord) -> tuple[Cell, Cell, Cell]:
    method, precision = method_name(record.candidate), str(record.candidate.precision)
    assistants = len(record.candidate.assistants)
    return Cell(method, method), Cell(precision, precision), Cell(str(assistants), assistants)


def _details(record: FinalistRecord | TrialRecord) -> Iterator[tuple[str, str]]:
    yield "Architecture", record.description
    if record.candidate.assistants:
        yield "Chain", chain_text(record)
    if params := method_params(record.candidate):
        yield "Parameters", params
    if isinstance(record, FinalistRecord) and (ratios := grad_ratios_text(record)):
        yield "Gradients", ratios
    if teaching := record.candidate.recipe.teaching.describe():
        yield "Teaching", teaching
    if training := training_text(record.candidate):
        yield "Training", training


def _test_cells(context: ReportContext, network: FinalistRecord | TeacherRecord) -> Iterator[Cell]:
    """The task's own score on test; before it the score that decides, where that is another."""
    if not context.run.decides_on_headline:
        yield _test_cell(context, network.test_score)
    yield _test_cell(context, network.test)


def _test_cell(context: ReportContext, test: Accuracy | None) -> Cell:
    if test is None:
        return Cell(fmt.MISSING, LAST, "measured at the end")
    decimals = context.accuracy_decimals
    return Cell(fmt.percent(test.mean, decimals), test.mean, fmt.accuracy_interval(test, decimals))


def _within_cell(costs: Costs, budget: Budget) -> Cell:
    """Whether costs are within the budget, as far as that is known."""
    if describe_exceeded(costs, budget):
        return Cell("✗ no", 0)
    if unmeasured_limits(costs, budget):
        return UNKNOWN
    return Cell("✓ yes", 1)


def _size_cell(context: ReportContext, costs: Costs | None) -> Cell:
    """The size, and below it the other costs that the budget limits."""
    size_bytes = costs.size_bytes if costs else None
    notes = [] if costs is None else other_limited_costs(context, costs)
    return Cell(fmt.size(size_bytes), size_bytes or 0.0, "\n".join(notes))


def _latency_cell(timing: Latency | None) -> Cell:
    if timing is None:
        return Cell(fmt.MISSING, 0.0, "not measured")
    unstable = "\nunstable" if timing.unstable else ""
    return Cell(fmt.latency(timing.p50), timing.p50, f"p90 {fmt.latency(timing.p90)}{unstable}")


def _shown_gains(context: ReportContext) -> list[ControlKind]:
    """The controls that have a column: label smoothing only if some finalist has it."""
    smoothed = any(control_of(f, "label_smoothing") for f in context.finalists)
    return [kind for kind in GAIN_COLUMNS if kind != "label_smoothing" or smoothed]


def _gain_cell(finalist: FinalistRecord, kind: ControlKind) -> Cell:
    control = control_of(finalist, kind)
    if control is None:
        return Cell(fmt.MISSING, LAST, _why_no_control(finalist, kind))
    gain = control.score_gain
    decimals = fmt.justified_decimals(gain.low, gain.high)
    interval = f"{fmt.percentage_points(gain.low, decimals)} to {fmt.percentage_points(gain.high, decimals)}"
    return Cell(fmt.percentage_points(gain.mean, decimals), gain.mean, interval)


def _why_no_control(finalist: FinalistRecord, kind: ControlKind) -> str:
    if not finalist.candidate.recipe.distills:
        return "not distilled"
    return "no assistants" if kind == "no_assistants" and not finalist.candidate.assistants else "not trained"
