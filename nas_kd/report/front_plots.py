"""Section 2: the two fronts as data (scales, step line, budget, captions); the page and the PNGs draw from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_kd.report import number_format as numbers
from nas_kd.report.axes import Scale, cost_scale, linear_scale
from nas_kd.report.budget import least_words
from nas_kd.report.plot_points import CONTROLS, SEARCH, PlotPoint
from nas_kd.report.report_context import Axis, ReportContext, timing_of
from nas_kd.results.pareto import non_dominated
from nas_kd.results.records import FinalistRecord

WIDEST = 1.8  # the near view is at most this many times as high as what the finalists span


@dataclass(frozen=True)
class Picture:
    """One front. `near` shows finalists and teacher well, `whole` every candidate; `hidden` marks lie below `near`.

    `close` leaves the teacher's point out, for a look at the finalists: its scales of cost and of accuracy.
    `least` is the validation accuracy that the budget asks for.
    """

    axis: Axis
    title: str
    x: Scale
    near: Scale
    whole: Scale
    close: tuple[Scale, Scale] | None
    step: tuple[tuple[float, float], ...]
    provisional: bool
    limit: float | None
    limit_label: str
    least: float | None
    least_label: str
    hidden: int
    unplaced: int
    alternative: str


def pictures(context: ReportContext, plot_points: Sequence[PlotPoint]) -> tuple[Picture, Picture]:
    """Accuracy against size, and against latency."""
    return _picture(context, plot_points, "size"), _picture(context, plot_points, "latency")


def _picture(context: ReportContext, plot_points: Sequence[PlotPoint], axis: Axis) -> Picture:
    limit = context.limit(axis)
    placed = [m for m in plot_points if m.at(axis) is not None]
    costs = [at for m in placed if (at := m.at(axis))]
    spread = [end for m in placed if m.kind not in SEARCH for end in _latency_ends(m, axis)]
    whole = [v for m in placed for v in _heights(m)]
    near = _near(placed)
    members = [m for m in placed if axis in m.fronts]
    step = _step_line(members or _provisional(placed, axis), axis)
    near_scale = linear_scale(near)
    write = numbers.size if axis == "size" else numbers.latency
    return Picture(
        axis=axis,
        title="Accuracy against size" if axis == "size" else "Accuracy against latency",
        x=cost_scale([*costs, *spread, *_if_near(limit, costs)], axis),
        near=near_scale,
        whole=linear_scale(whole),
        close=_close(placed, axis, limit),
        step=step,
        provisional=not members,
        limit=limit,
        limit_label=f"budget {numbers.trimmed(write(limit))}" if limit else "",
        least=context.budget.min_accuracy,
        least_label=least_words(context),
        hidden=sum(m.accuracy is not None and m.accuracy < near_scale.low for m in placed),
        unplaced=len(plot_points) - len(placed),
        alternative=_alternative(context, members, axis, limit),
    )


def _if_near(limit: float | None, costs: Sequence[float], factor: float = 4) -> list[float]:
    """A limit far to the right would squeeze all that is to be seen; its label then says that it lies there."""
    return [limit] if limit and (not costs or limit < factor * max(costs)) else []


def _latency_ends(mark: PlotPoint, axis: Axis) -> tuple[float, ...]:
    timing = timing_of(mark.costs)
    return (timing.low, timing.high) if axis == "latency" and timing else ()


def _heights(mark: PlotPoint) -> list[float]:
    return [*([mark.accuracy] if mark.accuracy is not None else []), *(mark.interval or ())]


def _near(placed: Sequence[PlotPoint]) -> list[float]:
    """What the near view must hold: solid marks whole, and of the search as much as leaves those readable."""
    solid = [v for m in placed if m.kind not in SEARCH for v in _heights(m)]
    grey = sorted(m.accuracy for m in placed if m.kind in SEARCH and m.accuracy is not None)
    if not any(m.kind not in (*SEARCH, "teacher") for m in placed):
        return [*solid, *grey[len(grey) // 10 :]]
    floor = max(solid) - WIDEST * (max(solid) - min(solid))
    return [*solid, *(v for v in grey if v >= floor)]


def _close(placed: Sequence[PlotPoint], axis: Axis, limit: float | None) -> tuple[Scale, Scale] | None:
    solid = [m for m in placed if m.kind not in (*SEARCH, "teacher")]
    if not solid:
        return None
    ends = [e for m in solid for e in ((m.at(axis) or 0.0), *_latency_ends(m, axis))]
    heights = [v for m in placed if m.kind not in SEARCH for v in _heights(m)]
    return cost_scale([*ends, *_if_near(limit, ends, 2)], axis), linear_scale(heights)


def _provisional(placed: Sequence[PlotPoint], axis: Axis) -> list[PlotPoint]:
    """Before there are finalists: the front of the search, on validation accuracy."""
    done = [m for m in placed if m.kind == "finished" and m.accuracy is not None]
    if any(m.kind not in (*SEARCH, *CONTROLS, "teacher") for m in placed) or not done:
        return []
    table = np.array([[m.at(axis) or 0.0, -(m.accuracy or 0.0)] for m in done])
    return [m for m, member in zip(done, non_dominated(table), strict=True) if member]


def _step_line(members: Sequence[PlotPoint], axis: Axis) -> tuple[tuple[float, float], ...]:
    """Corners of the running best of `members` by rising cost."""
    corners: list[tuple[float, float]] = []
    for cost, height in sorted((m.at(axis) or 0.0, m.accuracy or 0.0) for m in members):
        if not corners:
            corners.append((cost, height))
        elif height > corners[-1][1]:
            corners += [(cost, corners[-1][1]), (cost, height)]
    if members and corners:
        corners.append((max(m.at(axis) or 0.0 for m in members), corners[-1][1]))
    return tuple(corners)


def _alternative(context: ReportContext, members: Sequence[PlotPoint], axis: Axis, limit: float | None) -> str:
    """What a reader who cannot see the picture is told."""
    write = numbers.size if axis == "size" else numbers.latency
    ordered = sorted(members, key=lambda m: m.at(axis) or 0.0)
    points = [f"{m.label} {numbers.percent(m.accuracy or 0, context.places)} at {write(m.at(axis))}" for m in ordered]
    front = f"Front: {numbers.listing(points)}." if points else "No finalists yet."
    budget = f" Budget: {write(limit)}." if limit else ""
    winner = f" Winner: {context.letters[context.winner.id]}." if context.winner else ""
    return f"{'Test accuracy' if members else 'Validation accuracy'} against {axis}. {front}{budget}{winner}"


def indistinguishable(context: ReportContext, axis: Axis) -> tuple[tuple[str, ...], ...]:
    """Groups of letters, neighbours on the front, whose test intervals all overlap each other."""
    members = [f for f in context.finalists if context.on_front(f, axis)]
    members.sort(
        key=lambda f: (
            f.costs.require_size() if axis == "size" else (f.costs.latency_ms.p50 if f.costs.latency_ms else 0)
        )
    )
    groups: list[tuple[int, int]] = []
    for first in range(len(members)):
        last = first
        while last + 1 < len(members) and _overlap(members[first : last + 2]):
            last += 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return tuple(tuple(context.letters[f.id] for f in members[a : b + 1]) for a, b in groups)


def _overlap(finalists: Sequence[FinalistRecord]) -> bool:
    tests = [f.test for f in finalists]
    return max(t.low for t in tests) <= min(t.high for t in tests)
