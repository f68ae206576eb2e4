"""Sections 3 and 4: the finalists' table, and what distillation and the chain bought, in paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from nas_kd.report import number_format as numbers
from nas_kd.report.report_context import ReportContext
from nas_kd.results.intervals import t_quantile
from nas_kd.results.records import Accuracy, ControlRecord, FinalistRecord

ControlKind = Literal["no_distillation", "no_assistants"]
QUESTIONS: dict[ControlKind, str] = {
    "no_distillation": "Distilled, against the same student without distillation",
    "no_assistants": "Through the chain, against straight from the teacher",
}


@dataclass(frozen=True)
class Gain:
    """One row of the forest picture; `place` are left end, middle and right end in percent of its width."""

    name: str
    gain: Accuracy
    text: str
    verdict: str
    note: str
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pooled: bool = False


@dataclass(frozen=True)
class GainTable:
    """All finalists' gains over one kind of control."""

    kind: ControlKind
    question: str
    rows: tuple[Gain, ...]
    summary: str
    zero: float  # where "no difference" lies, percent of the width
    ends: tuple[str, str]


def gain_tables(context: ReportContext) -> tuple[GainTable, ...]:
    """One table a kind of control that was trained."""
    return tuple(table for kind in QUESTIONS if (table := _table(context, kind)) is not None)


def control_of(finalist: FinalistRecord, kind: ControlKind) -> ControlRecord | None:
    """The finalist's control of this kind."""
    return next((c for c in finalist.controls if c.kind == kind), None)


def verdict(gain: Accuracy) -> str:
    """What the interval allows to say."""
    if gain.low > 0:
        return "measurable gain"
    return "measurable loss" if gain.high < 0 else "no measurable gain"


def pooled(gains: Sequence[Accuracy]) -> Accuracy | None:
    """The mean of the finalists' gains with its 95 % interval; None below two finalists.

    A finalist is one observation: Student's t over finalists. Where their gains happen to agree, the interval is not
    narrower than their own intervals allow, taken as independent (the square root of the sum of squares, over n).
    """
    if len(gains) < 2:
        return None
    n, mean = len(gains), fmean(g.mean for g in gains)
    over_finalists = t_quantile(n - 1) * stdev([g.mean for g in gains]) / math.sqrt(n)
    half = max(over_finalists, math.hypot(*((g.high - g.low) / 2 for g in gains)) / n)
    seeds = min(g.seeds for g in gains)
    return Accuracy(mean=mean, low=mean - half, high=mean + half, samples=gains[0].samples, seeds=seeds)


def _table(context: ReportContext, kind: ControlKind) -> GainTable | None:
    pairs = [(f, c) for f in context.finalists if (c := control_of(f, kind)) is not None]
    if not pairs:
        return None
    rows = [
        _row(
            f"{context.letters[f.id]} ({f.id})",
            c.gain,
            f"control trained at {c.cost_ratio:.2f}{numbers.TIMES} the cost",
        )
        for f, c in pairs
    ]
    whole = pooled([c.gain for _, c in pairs])
    if whole is not None:
        rows.append(_row("All finalists", whole, f"mean of {len(pairs)}; interval over finalists", is_pooled=True))
    low, high = min(0.0, *(r.gain.low for r in rows)), max(0.0, *(r.gain.high for r in rows))
    span = (high - low) * 1.1 or 1.0
    start = (high + low) / 2 - span / 2
    at = [tuple((v - start) / span * 100 for v in (r.gain.low, r.gain.mean, r.gain.high)) for r in rows]
    placed = tuple(
        Gain(r.name, r.gain, r.text, r.verdict, r.note, (a[0], a[1], a[2]), r.pooled)
        for r, a in zip(rows, at, strict=True)
    )
    ends = (numbers.points(start), numbers.points(start + span))
    return GainTable(kind, QUESTIONS[kind], placed, _summary(rows, whole), -start / span * 100, ends)


def _row(name: str, gain: Accuracy, note: str, is_pooled: bool = False) -> Gain:
    return Gain(name, gain, numbers.gain(gain), verdict(gain), note, pooled=is_pooled)


def _summary(rows: Sequence[Gain], whole: Accuracy | None) -> str:
    single = [r for r in rows if not r.pooled]
    better = sum(r.gain.low > 0 for r in single)
    worse = sum(r.gain.high < 0 for r in single)
    text = f"Measurable gain in {better} of {numbers.count(len(single), 'finalist')}"
    text += f", measurable loss in {worse}." if worse else "."
    if better == 0 and worse == 0:
        text = "No measurable gain: every interval includes 0."
    if whole is not None:
        text += f" Over all finalists: {numbers.gain(whole)} points, {verdict(whole)}."
    return text
