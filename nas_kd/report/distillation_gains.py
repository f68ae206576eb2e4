"""Section 4, what distillation gained: finalists against their controls, in paired differences with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from nas_kd.report import number_format as fmt
from nas_kd.report.report_context import ReportContext
from nas_kd.results.finalist_record import Accuracy, ControlKind, ControlRecord, FinalistRecord
from nas_kd.results.intervals import t_quantile

CONTROL_TITLES: dict[ControlKind, str] = {
    "no_distillation": "Distilled, against the same student without distillation",
    "label_smoothing": "Distilled, against the same student with label smoothing",
    "no_assistants": "Through the assistants, against distilled directly from the teacher",
}


@dataclass(frozen=True)
class GainRow:
    """One row of the forest plot.

    Attributes:
        name: of the finalist, or of the mean over all.
        gain: in the score (-1..1), with its interval.
        text: the gain in points.
        verdict: whether the gain is measurable.
        note: how the control was trained.
        position: left end, middle and right end of the interval, in percent of the plot's width.
        is_mean: whether it is the mean over all finalists.
    """

    name: str
    gain: Accuracy
    text: str
    verdict: str
    note: str
    position: tuple[float, float, float]
    is_mean: bool


@dataclass(frozen=True)
class GainTable:
    """Gains of all finalists over one kind of control. `zero`: where no difference lies, in percent of the width."""

    title: str
    rows: tuple[GainRow, ...]
    summary: str
    zero: float


def build_gain_tables(context: ReportContext) -> tuple[GainTable, ...]:
    """Build one table for each kind of control that was trained."""
    return tuple(table for kind in CONTROL_TITLES if (table := _gain_table(context, kind)) is not None)


def control_of(finalist: FinalistRecord, kind: ControlKind) -> ControlRecord | None:
    """Return the finalist's control of this kind, if it was trained."""
    return next((c for c in finalist.controls if c.kind == kind), None)


def gain_verdict(gain: Accuracy) -> str:
    """State whether a gain is measurable: whether its interval excludes 0."""
    if gain.low > 0:
        return "measurable gain"
    return "measurable loss" if gain.high < 0 else "no measurable gain"


def mean_gain(gains: Sequence[Accuracy]) -> Accuracy | None:
    """Compute the mean of the finalists' gains with its 95 % interval.

    A finalist is one observation: Student's t over finalists. If their gains happen to agree, the interval is still not
    narrower than their own intervals allow, taken as independent (root of the sum of squares, over n).

    Args:
        gains: one per finalist.

    Returns:
        The mean gain, or None for fewer than two finalists.
    """
    if len(gains) < 2:
        return None
    n, mean = len(gains), fmean(g.mean for g in gains)
    over_finalists = t_quantile(n - 1) * stdev([g.mean for g in gains]) / math.sqrt(n)
    half = max(over_finalists, math.hypot(*((g.high - g.low) / 2 for g in gains)) / n)
    seeds = min(g.seeds for g in gains)
    return Accuracy(mean=mean, low=mean - half, high=mean + half, samples=gains[0].samples, seeds=seeds)


def _gain_table(context: ReportContext, kind: ControlKind) -> GainTable | None:
    pairs = [(f, c) for f in context.finalists if (c := control_of(f, kind)) is not None]
    if not pairs:
        return None
    gains = [control.score_gain for _, control in pairs]
    mean = mean_gain(gains)
    shown = [*gains, mean] if mean is not None else gains
    low, high = min(0.0, *(g.low for g in shown)), max(0.0, *(g.high for g in shown))
    span = (high - low) * 1.1 or 1.0
    start = (high + low) / 2 - span / 2

    def row(name: str, gain: Accuracy, note: str, is_mean: bool = False) -> GainRow:
        left, middle, right = ((v - start) / span * 100 for v in (gain.low, gain.mean, gain.high))
        text = fmt.gain_with_interval(gain)
        return GainRow(name, gain, text, gain_verdict(gain), note, (left, middle, right), is_mean)

    rows = [
        row(
            f"{context.letters[f.id]} ({f.id})",
            c.score_gain,
            f"control trained at {c.cost_ratio:.2f}{fmt.TIMES} the cost",
        )
        for f, c in pairs
    ]
    if mean is not None:
        rows.append(row("All finalists", mean, f"mean of {len(pairs)}; interval over finalists", is_mean=True))
    verdict = _verdict_on_smoothing(gains) if kind == "label_smoothing" else ""
    return GainTable(CONTROL_TITLES[kind], tuple(rows), f"{verdict}{_summary(gains, mean)}", -start / span * 100)


def _verdict_on_smoothing(gains: Sequence[Accuracy]) -> str:
    """Say whether the teacher's knowledge is worth more than smoothing, which needs no teacher."""
    better, by = sum(g.low > 0 for g in gains), ""
    if len(gains) == 1:
        by = f" ({fmt.gain_with_interval(gains[0])} points)"
    if better == len(gains):
        return f"Distillation beat label smoothing, which needs no teacher{by}. "
    if better:
        return f"Distillation beat label smoothing, which needs no teacher, for {better} of {len(gains)} finalists. "
    if all(g.high < 0 for g in gains):
        return f"Label smoothing, which needs no teacher, beat distillation{by}. "
    return f"Distillation is not shown to beat label smoothing, which needs no teacher{by}. "


def _summary(gains: Sequence[Accuracy], mean: Accuracy | None) -> str:
    better, worse = sum(g.low > 0 for g in gains), sum(g.high < 0 for g in gains)
    text = f"Measurable gain for {better} of {fmt.count(len(gains), 'finalist')}"
    text += f", measurable loss for {worse}." if worse else "."
    if better == 0 and worse == 0:
        text = "No measurable gain: every interval includes 0."
    if mean is not None:
        text += f" Over all finalists: {fmt.gain_with_interval(mean)} points, {gain_verdict(mean)}."
    return text
