"""Draws the front plots as PNG files, for report.md and for a README; they look like those of the page."""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Affine2D, Transform

from nas_kd.report.content import ReportContent
from nas_kd.report.front_plots import FrontPlot
from nas_kd.report.plot_points import CONTROL_KINDS, LEGEND_LABELS, TRIAL_KINDS, PlotPoint, PointKind
from nas_kd.report.report_context import latency_of

INK, MUTED, FAINT, GREY = "#17202b", "#566373", "#eaeef2", "#8c97a5"
BLUE, RED, ORANGE, PINK, GREEN = "#0072b2", "#d55e00", "#c98500", "#b5548c", "#008c66"
VIOLET = "#6650a4"
# Kind -> marker, size in points, colour, filled.
MARKERS: dict[PointKind, tuple[str, float, str, bool]] = {
    "winner": ("*", 15, RED, True),
    "finalist": ("o", 8, BLUE, True),
    "no_distillation": ("s", 7, ORANGE, False),
    "label_smoothing": ("p", 7, VIOLET, False),
    "no_assistants": ("^", 7, PINK, False),
    "teacher": ("D", 8, INK, True),
    "finished": ("o", 3.5, GREY, True),
    "pruned": ("v", 4.5, GREY, False),
    "failed": ("x", 5, GREY, False),
    "infeasible": ("|", 7, GREY, False),
}
# A control has the costs of its finalist; it is drawn this many points to the side.
CONTROL_OFFSETS: dict[PointKind, float] = {
    "no_distillation": -8.0,
    "label_smoothing": -16.0,
    "no_assistants": 8.0,
}
LETTER_OFFSETS = ((-12, 8), (12, 8), (-12, -9), (12, -9), (0, 15), (0, -16), (-20, 0), (20, 0))  # points
DPI = 130
PIXELS_PER_POINT = DPI / 72
MANY_TRIALS = 600  # of one kind, above which they are drawn paler


class NotebookFigure(Figure):
    """A figure that a notebook shows although it was made without pyplot."""

    def _repr_png_(self) -> bytes:
        return _png(self)


def front_plot_png(content: ReportContent, plot: FrontPlot) -> bytes:
    """Draw a front plot as a PNG of 1,040 x 720 pixels; equal runs give equal bytes."""
    return _png(draw_front_plot(content, plot))


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with _text_style():
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _text_style() -> AbstractContextManager[None]:
    return mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False})


def draw_front_plot(content: ReportContent, plot: FrontPlot) -> Figure:
    """Draw a front plot as a matplotlib figure.

    Args:
        content: of the report.
        plot: what to draw.
    """
    with _text_style():
        figure = NotebookFigure(figsize=(8, 5.54), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        points = [p for p in content.plot_points if p.cost(plot.axis) is not None]
        _draw_axes(axes, plot)
        _draw_limit(axes, plot)
        _draw_min_score(axes, plot)
        _draw_trials(axes, plot, points)
        _draw_teacher_line(axes, points)
        _draw_control_lines(axes, plot, points)
        _draw_front_line(axes, plot)
        _draw_large_points(axes, plot, points)
        _draw_legend(axes)
        figure.draw_without_rendering()  # fixes the layout, which pixel positions depend on
        _draw_letters(axes, plot, points)
    return figure


def _draw_axes(axes: Axes, plot: FrontPlot) -> None:
    axes.set_xscale("log")
    axes.set_xlim(plot.x.low, plot.x.high)
    axes.set_ylim(plot.y.low, plot.y.high)
    ticks = plot.x.ticks
    if len(ticks) > 9:
        ticks = tuple(t for t in ticks if t.level == 0)
    axes.xaxis.set_major_locator(FixedLocator([t.value for t in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([t.label for t in ticks])
    axes.yaxis.set_major_locator(FixedLocator([t.value for t in plot.y.ticks]))
    axes.set_yticklabels([t.label for t in plot.y.ticks])
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#dbe1e8")
    axes.set_xlabel("size of the ONNX file" if plot.axis == "size" else "median latency per call", color=MUTED)
    axes.set_ylabel(plot.y_title, color=MUTED)
    axes.set_title(plot.title, loc="left", color=INK, fontsize=12, fontweight="bold", pad=16)


def _draw_legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=3, frameon=False, fontsize=8.5,
            labelcolor=MUTED,
        )  # fmt: skip


def _draw_limit(axes: Axes, plot: FrontPlot) -> None:
    if plot.limit is None:
        return
    edge, outside = min(plot.limit, plot.x.high), plot.limit > plot.x.high
    axes.axvspan(plot.x.low, edge, color=GREEN, alpha=0.09, linewidth=0, label="within the budget")
    if not outside:
        axes.axvline(plot.limit, color=GREEN, linewidth=1.5)
    axes.annotate(
        f"{plot.limit_label} \u2192" if outside else plot.limit_label,
        (edge, 1), (0, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="right" if outside else "center", color=GREEN, fontweight="bold", fontsize=9,
    )  # fmt: skip


def _draw_min_score(axes: Axes, plot: FrontPlot) -> None:
    if plot.min_score is None or not plot.y.low <= plot.min_score <= plot.y.high:
        return
    axes.axhline(plot.min_score, color=GREEN, linewidth=1.5, linestyle="dashed")
    axes.annotate(
        plot.min_score_label, (0, plot.min_score), (4, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", color=GREEN, fontweight="bold", fontsize=9,
    )  # fmt: skip


def _draw_trials(axes: Axes, plot: FrontPlot, points: Sequence[PlotPoint]) -> None:
    bottom = plot.y.low + (plot.y.high - plot.y.low) * 0.012  # where trials without a score are shown
    for kind in TRIAL_KINDS:
        trials = [p for p in points if p.kind == kind]
        if not trials:
            continue
        marker, size, colour, filled = MARKERS[kind]
        axes.plot(
            [p.cost(plot.axis) or 0.0 for p in trials],
            [bottom if p.score is None else p.score for p in trials],
            marker, markersize=size, color=colour, alpha=0.25 if len(trials) > MANY_TRIALS else 0.7,
            markerfacecolor=colour if filled else "none", markeredgewidth=0 if filled else 1, label=LEGEND_LABELS[kind],
        )  # fmt: skip


def _draw_teacher_line(axes: Axes, points: Sequence[PlotPoint]) -> None:
    for teacher in (p for p in points if p.kind == "teacher"):
        axes.axhline(teacher.score or 0.0, color=INK, linewidth=1.1, linestyle=(0, (5, 4)), alpha=0.6)


def _draw_control_lines(axes: Axes, plot: FrontPlot, points: Sequence[PlotPoint]) -> None:
    """Joins each control to its finalist."""
    finalists = {p.id: p for p in points if p.letter}
    for control in (p for p in points if p.kind in CONTROL_KINDS):
        cost = control.cost(plot.axis) or 0.0
        axes.annotate(
            "", (cost, finalists[control.id].score or 0.0), (cost, control.score or 0.0),
            textcoords=_shifted(axes, control),
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}, zorder=2,
        )  # fmt: skip


def _draw_front_line(axes: Axes, plot: FrontPlot) -> None:
    if plot.front_line:
        style = ":" if plot.provisional else "-"
        axes.plot(*zip(*plot.front_line, strict=True), style, color=BLUE, linewidth=1.8, zorder=2.1, label="front")


def _draw_large_points(axes: Axes, plot: FrontPlot, points: Sequence[PlotPoint]) -> None:
    """Finalists, controls and teacher, with their error bars."""
    large = [p for p in points if p.interval]
    for point in large:
        _draw_error_bars(axes, plot, point)
        filled = MARKERS[point.kind][3] and (point.kind != "finalist" or plot.axis in point.fronts)
        cost, score = point.cost(plot.axis) or 0.0, point.score or 0.0
        axes.plot(cost, score, zorder=4, transform=_shifted(axes, point), **_marker_style(point.kind, filled))
    for kind in dict.fromkeys(p.kind for p in large):
        axes.plot([], [], label=LEGEND_LABELS[kind], **_marker_style(kind, MARKERS[kind][3]))


def _marker_style(kind: PointKind, filled: bool) -> dict[str, Any]:
    marker, size, colour, _ = MARKERS[kind]
    style = {
        "linestyle": "none",
        "marker": marker,
        "markersize": size,
        "markerfacecolor": colour if filled else "white",
    }
    return style | {"markeredgecolor": "white" if filled else colour, "markeredgewidth": 0.8 if filled else 1.5}


def _draw_error_bars(axes: Axes, plot: FrontPlot, point: PlotPoint) -> None:
    cost, score, timing = point.cost(plot.axis), point.score, latency_of(point.costs)
    if cost is None or score is None or point.interval is None:
        return
    horizontal = None
    if plot.axis == "latency" and timing and point.letter:
        horizontal = [[cost - timing.low], [timing.high - cost]]
    vertical = [[score - point.interval[0]], [point.interval[1] - score]]
    axes.errorbar(
        cost, score, vertical, horizontal, fmt="none", ecolor=MARKERS[point.kind][2], elinewidth=1.2, capsize=3,
        alpha=0.4 if point.kind in CONTROL_KINDS else 0.75, zorder=3, transform=_shifted(axes, point),
    )  # fmt: skip


def _draw_letters(axes: Axes, plot: FrontPlot, points: Sequence[PlotPoint]) -> None:
    """Each letter beside its point, where no other point or letter is."""
    pixels = {p: axes.transData.transform((p.cost(plot.axis) or 0.0, p.score or 0.0)) for p in points if p.interval}
    taken = [(x + CONTROL_OFFSETS.get(p.kind, 0.0) * PIXELS_PER_POINT, y, 12.0) for p, (x, y) in pixels.items()]
    area = axes.get_window_extent()
    for point in (p for p in points if p.letter):
        extra = len(point.label) - 1  # characters beyond the first
        scale = np.array((1 + 0.35 * extra, 1)) * PIXELS_PER_POINT
        spots = [pixels[point] + np.array(offset) * scale for offset in LETTER_OFFSETS]
        half = 10 + 4.0 * extra
        free = [s for s in spots if area.contains(*s) and all(math.dist(s, t[:2]) > t[2] + half for t in taken)]
        x, y = (free or spots)[0]
        taken.append((x, y, half))
        axes.annotate(
            point.label, (x, y), xycoords="figure pixels", color=INK, fontweight="bold", ha="center", va="center",
            zorder=5,
        )  # fmt: skip


def _shifted(axes: Axes, point: PlotPoint) -> Transform:
    """Data coordinates, shifted to the side for controls."""
    return axes.transData + Affine2D().translate(CONTROL_OFFSETS.get(point.kind, 0.0) * PIXELS_PER_POINT, 0)
