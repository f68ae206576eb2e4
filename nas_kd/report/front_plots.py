"""Section 2, Pareto fronts: the two plots as data (scales, front line, budget), which the page and the PNGs draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_kd.report import number_format as fmt
from nas_kd.report.axes import AxisScale, cost_scale, linear_scale
from nas_kd.report.budget_text import min_score_text
from nas_kd.report.plot_points import CONTROL_KINDS, TRIAL_KINDS, PlotPoint
from nas_kd.report.report_context import ReportContext, latency_of
from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.fronts import Axis
from nas_kd.results.pareto import non_dominated

MAX_HEIGHT_RATIO = 1.8  # height of the default view over the span of finalists and teacher


@dataclass(frozen=True)
class FrontPlot:
    """One front plot: the score against size or latency.

    Attributes:
        axis: which cost is on the x axis.
        title: heading of the plot.
        x: scale of the cost.
        y: scale of the score in the default view, which shows finalists and teacher well.
        y_title: name of the score, and of the split where it is validation.
        y_all: scale of the score that shows every point.
        finalists_view: (x, y) of the view without the teacher's point, for a closer look at the finalists.
        front_line: corners (cost, score) of the front, as a step line.
        provisional: the front is the search's, on validation, as there are no finalists yet.
        limit: the budget's limit in bytes or milliseconds; `limit_label` names it.
        min_score: score on validation that the budget asks for; `min_score_label` names it.
        n_below_view: points below the default view.
        n_unmeasured: points without this cost.
        alt_text: what the plot shows, for readers who cannot see it.
    """

    axis: Axis
    title: str
    x: AxisScale
    y: AxisScale
    y_title: str
    y_all: AxisScale
    finalists_view: tuple[AxisScale, AxisScale] | None
    front_line: tuple[tuple[float, float], ...]
    provisional: bool
    limit: float | None
    limit_label: str
    min_score: float | None
    min_score_label: str
    n_below_view: int
    n_unmeasured: int
    alt_text: str


def build_front_plots(context: ReportContext, points: Sequence[PlotPoint]) -> tuple[FrontPlot, FrontPlot]:
    """Build the plots of the score against size and against latency."""
    return _front_plot(context, points, "size"), _front_plot(context, points, "latency")


def _front_plot(context: ReportContext, points: Sequence[PlotPoint], axis: Axis) -> FrontPlot:
    limit = context.limit(axis)
    measured = [p for p in points if p.cost(axis) is not None]
    costs = [value for p in measured if (value := p.cost(axis))]
    latency_ends = [end for p in measured if p.kind not in TRIAL_KINDS for end in _latency_interval(p, axis)]
    members = [p for p in measured if axis in p.fronts]
    front_line = _front_line(members or _search_front(measured, axis), axis)
    y = linear_scale(_default_view(measured))
    format_cost = fmt.size if axis == "size" else fmt.latency
    return FrontPlot(
        axis=axis,
        title=f"{fmt.capital(context.score)} against {axis}",
        x=cost_scale([*costs, *latency_ends, *_limit_if_near(limit, costs)], axis),
        y=y,
        y_title=context.score if members else f"validation {context.score}",
        y_all=linear_scale([v for p in measured for v in _scores(p)]),
        finalists_view=_finalists_view(measured, axis, limit),
        front_line=front_line,
        provisional=not members,
        limit=limit,
        limit_label=f"budget {fmt.strip_trailing_zeros(format_cost(limit))}" if limit else "",
        min_score=context.budget.least_score,
        min_score_label=min_score_text(context),
        n_below_view=sum(p.score is not None and p.score < y.low for p in measured),
        n_unmeasured=len(points) - len(measured),
        alt_text=_alt_text(context, members, axis, limit),
    )


def _limit_if_near(limit: float | None, costs: Sequence[float], ratio: float = 4) -> list[float]:
    """The limit, unless it lies so far right that it would squeeze all points; its label then has an arrow instead."""
    return [limit] if limit and (not costs or limit < ratio * max(costs)) else []


def _latency_interval(point: PlotPoint, axis: Axis) -> tuple[float, ...]:
    timing = latency_of(point.costs)
    return (timing.low, timing.high) if axis == "latency" and timing else ()


def _scores(point: PlotPoint) -> list[float]:
    """Its score and the ends of the interval, as far as it has them."""
    return [*([point.score] if point.score is not None else []), *(point.interval or ())]


def _default_view(measured: Sequence[PlotPoint]) -> list[float]:
    """The scores that the default view must hold.

    Those of finalists, controls and teacher with their intervals, and as many of the trials' as leave these readable.
    Before there are finalists: all but the lowest tenth of the trials.
    """
    large = [v for p in measured if p.kind not in TRIAL_KINDS for v in _scores(p)]
    trials = sorted(p.score for p in measured if p.kind in TRIAL_KINDS and p.score is not None)
    if not any(p.kind not in (*TRIAL_KINDS, "teacher") for p in measured):
        return [*large, *trials[len(trials) // 10 :]]
    floor = max(large) - MAX_HEIGHT_RATIO * (max(large) - min(large))
    return [*large, *(v for v in trials if v >= floor)]


def _finalists_view(
    measured: Sequence[PlotPoint], axis: Axis, limit: float | None
) -> tuple[AxisScale, AxisScale] | None:
    finalists = [p for p in measured if p.kind not in (*TRIAL_KINDS, "teacher")]
    if not finalists:
        return None
    costs = [end for p in finalists for end in ((p.cost(axis) or 0.0), *_latency_interval(p, axis))]
    scores = [v for p in measured if p.kind not in TRIAL_KINDS for v in _scores(p)]
    return cost_scale([*costs, *_limit_if_near(limit, costs, 2)], axis), linear_scale(scores)


def _search_front(measured: Sequence[PlotPoint], axis: Axis) -> list[PlotPoint]:
    """The search's front on the validation score; empty once there are finalists."""
    finished = [p for p in measured if p.kind == "finished" and p.score is not None]
    if any(p.kind not in (*TRIAL_KINDS, *CONTROL_KINDS, "teacher") for p in measured) or not finished:
        return []
    table = np.array([[p.cost(axis) or 0.0, -(p.score or 0.0)] for p in finished])
    return [p for p, is_member in zip(finished, non_dominated(table), strict=True) if is_member]


def _front_line(members: Sequence[PlotPoint], axis: Axis) -> tuple[tuple[float, float], ...]:
    """Corners (cost, score) of the running best of `members` by rising cost."""
    corners: list[tuple[float, float]] = []
    for cost, score in sorted((p.cost(axis) or 0.0, p.score or 0.0) for p in members):
        if not corners:
            corners.append((cost, score))
        elif score > corners[-1][1]:
            corners += [(cost, corners[-1][1]), (cost, score)]
    if corners:
        corners.append((max(p.cost(axis) or 0.0 for p in members), corners[-1][1]))
    return tuple(corners)


def _alt_text(context: ReportContext, members: Sequence[PlotPoint], axis: Axis, limit: float | None) -> str:
    format_cost = fmt.size if axis == "size" else fmt.latency
    ordered = sorted(members, key=lambda p: p.cost(axis) or 0.0)
    decimals = context.accuracy_decimals
    points = [f"{p.label} {fmt.percent(p.score or 0, decimals)} at {format_cost(p.cost(axis))}" for p in ordered]
    front = f"Front: {fmt.join_with_and(points)}." if points else "No finalists yet."
    budget = f" Budget: {format_cost(limit)}." if limit else ""
    winner = f" Winner: {context.letters[context.winner.id]}." if context.winner else ""
    return f"{'Test' if members else 'Validation'} {context.score} against {axis}. {front}{budget}{winner}"


def indistinguishable_groups(context: ReportContext, axis: Axis) -> tuple[tuple[str, ...], ...]:
    """Group the letters of neighbours on a front whose test intervals all overlap each other."""
    members = [f for f in context.finalists if context.on_front(f, axis)]
    members.sort(
        key=lambda f: (
            f.costs.require_size() if axis == "size" else (f.costs.latency_ms.p50 if f.costs.latency_ms else 0)
        )
    )
    groups: list[tuple[int, int]] = []
    for first in range(len(members)):
        last = first
        while last + 1 < len(members) and _intervals_overlap(members[first : last + 2]):
            last += 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return tuple(tuple(context.letters[f.id] for f in members[a : b + 1]) for a, b in groups)


def _intervals_overlap(finalists: Sequence[FinalistRecord]) -> bool:
    tests = [f.test_score for f in finalists]
    return max(t.low for t in tests) <= min(t.high for t in tests)
