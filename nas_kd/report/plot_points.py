"""What the two pictures show: one mark a finalist, control, candidate of the search, and the teacher."""

from dataclasses import dataclass
from typing import Literal

from nas_kd.report import number_format as numbers
from nas_kd.report.budget import extra_costs, verdict
from nas_kd.report.report_context import Axis, ReportContext, assistant_descriptions, cost, method_words, timing_of
from nas_kd.results.records import Accuracy, ControlRecord, Costs, FinalistRecord, TrialRecord

Kind = Literal[
    "winner", "finalist", "no_distillation", "no_assistants", "teacher", "finished", "pruned", "failed", "infeasible"
]
SEARCH: tuple[Kind, ...] = ("finished", "pruned", "failed", "infeasible")
CONTROLS: tuple[Kind, ...] = ("no_distillation", "no_assistants")
LEGEND: dict[Kind, str] = {
    "winner": "winner",
    "finalist": "finalist (hollow: not on this front)",
    "no_distillation": "control: no distillation",
    "no_assistants": "control: no assistants",
    "teacher": "teacher",
    "finished": "search: trained to its end",
    "pruned": "search: trained in part (stopped, or waiting)",
    "failed": "search: failed",
    "infeasible": "search: rejected, over the budget",
}


@dataclass(frozen=True)
class PlotPoint:
    """`id` is what a click selects; `accuracy` is on test for solid marks, on validation for the search's."""

    id: str
    kind: Kind
    title: str
    lines: tuple[str, ...]
    costs: Costs
    accuracy: float | None
    interval: tuple[float, float] | None = None
    letter: str = ""
    label: str = ""  # the letter; where finalists differ in precision, that of the quantised ones too
    fronts: tuple[Axis, ...] = ()

    def at(self, axis: Axis) -> float | None:
        """Bytes or milliseconds; None where it was not measured."""
        return cost(self.costs, axis)


def plot_points(context: ReportContext) -> tuple[PlotPoint, ...]:
    """All marks, those to be drawn on top last."""
    finalists = context.finalists
    taken = {f.id for f in finalists}
    trials = [t for t in context.run.trials if t.id not in taken and t.status not in ("duplicate", "running")]
    search = [_trial(context, t) for t in trials]
    controls = [_control(context, f, c) for f in finalists for c in f.controls]
    members = sorted((_finalist(context, f) for f in finalists), key=lambda m: m.kind == "winner")
    return (*(m for m in search if m is not None), *_teacher(context), *controls, *members)


def _numbers(context: ReportContext, costs: Costs) -> str:
    timing = timing_of(costs)
    speed = (
        f", {numbers.latency(timing.p50)} (p90 {numbers.latency(timing.p90)})" if timing else ", latency not measured"
    )
    others = "".join(f", {text}" for text in extra_costs(context, costs))
    return f"{numbers.size(cost(costs, 'size'))}{speed}{others}"


def _how(of: FinalistRecord | TrialRecord) -> tuple[str, str, str]:
    return of.description, assistant_descriptions(of), f"{method_words(of.candidate)}, {of.candidate['precision']}"


def _label(context: ReportContext, finalist: FinalistRecord) -> str:
    letter, precision = context.letters[finalist.id], str(finalist.candidate["precision"])
    several = len({f.candidate["precision"] for f in context.finalists}) > 1
    return f"{letter} {precision}" if several and precision != "fp32" else letter


def _trial(context: ReportContext, trial: TrialRecord) -> PlotPoint | None:
    if trial.costs is None:
        return None
    kind: Kind = next((k for k in SEARCH if k == trial.status), "pruned")  # a waiting one may be trained on yet
    lines = [*_how(trial), _numbers(context, trial.costs)]
    if trial.val_accuracy is not None:
        epochs = f" after {numbers.count(trial.rungs[-1].epochs, 'epoch')}" if trial.rungs else ""
        lines.append(f"validation {numbers.percent(trial.val_accuracy)}{epochs}")
    if trial.reason:
        lines.append(f"{trial.status}: {trial.reason}")
    return PlotPoint(
        trial.id, kind, f"Trial {trial.number}, {trial.status}", tuple(lines), trial.costs, trial.val_accuracy
    )


def _finalist(context: ReportContext, finalist: FinalistRecord) -> PlotPoint:
    winner = context.winner is not None and finalist.id == context.winner.id
    letter = context.letters[finalist.id]
    lines = (
        *_how(finalist),
        _numbers(context, finalist.costs),
        f"test {numbers.accuracy(finalist.test, context.places)}",
        f"validation {numbers.accuracy(finalist.val, context.places)}",
        verdict(context, finalist),
    )
    axes: tuple[Axis, ...] = ("size", "latency")
    return PlotPoint(
        id=finalist.id,
        kind="winner" if winner else "finalist",
        title=f"{letter}, {'the winner' if winner else 'finalist'}",
        lines=lines,
        costs=finalist.costs,
        accuracy=finalist.test.mean,
        interval=_ends(finalist.test),
        letter=letter,
        label=_label(context, finalist),
        fronts=tuple(axis for axis in axes if context.on_front(finalist, axis)),
    )


def _control(context: ReportContext, finalist: FinalistRecord, control: ControlRecord) -> PlotPoint:
    how = "no distillation" if control.kind == "no_distillation" else "no assistants"
    lines = (
        finalist.description,
        f"test {numbers.accuracy(control.accuracy, context.places)}",
        f"{context.letters[finalist.id]} gains {numbers.gain(control.gain, context.places)} points over it",
    )
    return PlotPoint(
        id=finalist.id,
        kind=control.kind,
        title=f"{context.letters[finalist.id]} with {how}",
        lines=lines,
        costs=finalist.costs,
        accuracy=control.accuracy.mean,
        interval=_ends(control.accuracy),
    )


def _teacher(context: ReportContext) -> list[PlotPoint]:
    teacher = context.run.teacher
    if teacher is None:
        return []
    shown = teacher.test or teacher.val
    split = "test" if teacher.test else "validation"
    lines = (
        teacher.description,
        _numbers(context, teacher.costs),
        f"{split} {numbers.accuracy(shown, context.places)}",
    )
    return [
        PlotPoint(
            "teacher",
            "teacher",
            "Teacher" if teacher.test else "Teacher, on validation",
            lines,
            teacher.costs,
            shown.mean,
            _ends(shown),
        )
    ]


def _ends(value: Accuracy) -> tuple[float, float]:
    return value.low, value.high
