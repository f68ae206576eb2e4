"""The points of the two front plots: finalists, their controls, the search's trials and the teacher."""

from dataclasses import dataclass
from typing import Literal

from nas_kd.report import number_format as fmt
from nas_kd.report.budget_text import budget_verdict, other_limited_costs
from nas_kd.report.recipe_words import training_text
from nas_kd.report.report_context import AXES, ReportContext, chain_text, cost, latency_of, method_with_params
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord
from nas_kd.results.fronts import Axis
from nas_kd.results.trial_record import Costs, TrialRecord

PointKind = Literal[
    "winner",
    "finalist",
    "no_distillation",
    "label_smoothing",
    "no_assistants",
    "teacher",
    "finished",
    "pruned",
    "failed",
    "infeasible",
]
TRIAL_KINDS: tuple[PointKind, ...] = ("finished", "pruned", "failed", "infeasible")
CONTROL_KINDS: tuple[PointKind, ...] = ("no_distillation", "label_smoothing", "no_assistants")
CONTROL_NAMES: dict[PointKind, str] = {
    "no_distillation": "without distillation",
    "label_smoothing": "with label smoothing instead of distillation",
    "no_assistants": "without assistants",
}
LEGEND_LABELS: dict[PointKind, str] = {
    "winner": "winner",
    "finalist": "finalist",
    "no_distillation": "control: no distillation",
    "label_smoothing": "control: label smoothing",
    "no_assistants": "control: no assistants",
    "teacher": "teacher",
    "finished": "trial: finished",
    "pruned": "trial: pruned or paused",
    "failed": "trial: failed",
    "infeasible": "trial: infeasible",
}


@dataclass(frozen=True)
class PlotPoint:
    """A point of the front plots, with the text that is shown when it is selected.

    Attributes:
        id: candidate id; a finalist and its controls share it, and are selected together.
        kind: decides on shape and colour.
        title: first line of its text.
        lines: further lines: architecture, chain, method, figures.
        costs: where it lies on the cost axis.
        score: on the test split; of trials and of a teacher not tested yet, on validation. None: not trained.
        interval: 95 % interval of the score; trials have none.
        letter: of a finalist.
        label: the letter, and the precision if finalists differ in it and it is not fp32.
        fronts: the axes on whose front a finalist is.
    """

    id: str
    kind: PointKind
    title: str
    lines: tuple[str, ...]
    costs: Costs
    score: float | None
    interval: tuple[float, float] | None = None
    letter: str = ""
    label: str = ""
    fronts: tuple[Axis, ...] = ()

    def cost(self, axis: Axis) -> float | None:
        """Return bytes or milliseconds; None if it was not measured."""
        return cost(self.costs, axis)


def build_plot_points(context: ReportContext) -> tuple[PlotPoint, ...]:
    """Collect all points; those to be drawn on top come last."""
    finalists = context.finalists
    finalist_ids = {f.id for f in finalists}
    trials = [t for t in context.run.trials if t.id not in finalist_ids and t.status not in ("duplicate", "running")]
    trial_points = [point for t in trials if (point := _trial_point(context, t)) is not None]
    controls = [_control_point(context, f, c) for f in finalists for c in f.controls]
    winner_last = sorted((_finalist_point(context, f) for f in finalists), key=lambda p: p.kind == "winner")
    return (*trial_points, *_teacher_points(context), *controls, *winner_last)


def _costs_text(context: ReportContext, costs: Costs) -> str:
    timing = latency_of(costs)
    speed = f", {fmt.latency(timing.p50)} (p90 {fmt.latency(timing.p90)})" if timing else ", latency not measured"
    others = "".join(f", {text}" for text in other_limited_costs(context, costs))
    return f"{fmt.size(cost(costs, 'size'))}{speed}{others}"


def _recipe_lines(record: FinalistRecord | TrialRecord) -> tuple[str, str, str]:
    parts = (method_with_params(record.candidate), str(record.candidate.precision), training_text(record.candidate))
    method = ", ".join(part for part in parts if part)
    return record.description, chain_text(record), method


def _label(context: ReportContext, finalist: FinalistRecord) -> str:
    letter, precision = context.letters[finalist.id], str(finalist.candidate.precision)
    several = len({f.candidate.precision for f in context.finalists}) > 1
    return f"{letter} {precision}" if several and precision != "fp32" else letter


def _trial_point(context: ReportContext, trial: TrialRecord) -> PlotPoint | None:
    if trial.costs is None:
        return None
    # A paused trial is drawn like a pruned one: both were trained on part of the schedule.
    kind: PointKind = next((k for k in TRIAL_KINDS if k == trial.status), "pruned")
    lines = [*_recipe_lines(trial), _costs_text(context, trial.costs)]
    if trial.val_score is not None:
        epochs = f" after {fmt.count(trial.rungs[-1].epochs, 'epoch')}" if trial.rungs else ""
        without = ", without its assistants" if trial.without_assistants else ""
        lines.append(f"{context.judged_on('validation')} {fmt.percent(trial.val_score)}{epochs}{without}")
    if trial.reason:
        lines.append(f"{trial.status}: {trial.reason}")
    title = f"Trial {trial.number}, {trial.status}"
    return PlotPoint(trial.id, kind, title, tuple(lines), trial.costs, trial.val_score)


def _finalist_point(context: ReportContext, finalist: FinalistRecord) -> PlotPoint:
    winner = context.is_winner(finalist)
    letter, decimals = context.letters[finalist.id], context.accuracy_decimals
    lines = (
        *_recipe_lines(finalist),
        _costs_text(context, finalist.costs),
        f"{context.judged_on('test')} {fmt.accuracy_with_interval(finalist.test_score, decimals)}",
        f"{context.judged_on('validation')} {fmt.accuracy_with_interval(finalist.val_score, decimals)}",
        budget_verdict(context, finalist),
    )
    return PlotPoint(
        id=finalist.id,
        kind="winner" if winner else "finalist",
        title=f"{letter}, {'the winner' if winner else 'finalist'}",
        lines=lines,
        costs=finalist.costs,
        score=finalist.test_score.mean,
        interval=_interval(finalist.test_score),
        letter=letter,
        label=_label(context, finalist),
        fronts=tuple(axis for axis in AXES if context.on_front(finalist, axis)),
    )


def _control_point(context: ReportContext, finalist: FinalistRecord, control: ControlRecord) -> PlotPoint:
    letter, decimals = context.letters[finalist.id], context.accuracy_decimals
    lines = (
        finalist.description,
        f"{context.judged_on('test')} {fmt.accuracy_with_interval(control.score, decimals)}",
        f"gain of {letter} over it: {fmt.gain_with_interval(control.score_gain, decimals)} points",
    )
    return PlotPoint(
        id=finalist.id,
        kind=control.kind,
        title=f"{letter} {CONTROL_NAMES[control.kind]}",
        lines=lines,
        costs=finalist.costs,
        score=control.score.mean,
        interval=_interval(control.score),
    )


def _teacher_points(context: ReportContext) -> list[PlotPoint]:
    teacher = context.run.teacher
    shown = None if teacher is None else teacher.test_score or teacher.val_score
    if teacher is None or shown is None:
        return []
    split = context.judged_on("test" if teacher.test else "validation")
    lines = (
        teacher.description,
        _costs_text(context, teacher.costs),
        f"{split} {fmt.accuracy_with_interval(shown, context.accuracy_decimals)}",
    )
    title = "Teacher" if teacher.test else "Teacher, on validation"
    return [PlotPoint("teacher", "teacher", title, lines, teacher.costs, shown.mean, _interval(shown))]


def _interval(value: Accuracy) -> tuple[float, float]:
    return value.low, value.high
