"""The fronts as PNG files, for report.md and for a README; they look like the page's."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Affine2D, Transform

from nas_kd.report.content import ReportContent
from nas_kd.report.front_plots import Picture
from nas_kd.report.plot_points import CONTROLS, LEGEND, SEARCH, Kind, PlotPoint
from nas_kd.report.report_context import timing_of

INK, SOFT, FAINT, GREY = "#17202b", "#566373", "#eaeef2", "#8c97a5"
BLUE, RED, ORANGE, PINK, GREEN = "#0072b2", "#d55e00", "#c98500", "#b5548c", "#008c66"
# Kind -> marker, size, colour, filled.
STYLES: dict[Kind, tuple[str, float, str, bool]] = {
    "winner": ("*", 15, RED, True),
    "finalist": ("o", 8, BLUE, True),
    "no_distillation": ("s", 7, ORANGE, False),
    "no_assistants": ("^", 7, PINK, False),
    "teacher": ("D", 8, INK, True),
    "finished": ("o", 3.5, GREY, True),
    "pruned": ("v", 4.5, GREY, False),
    "failed": ("x", 5, GREY, False),
    "infeasible": ("|", 7, GREY, False),
}
DPI = 130
PIXELS = DPI / 72  # of a point
BESIDE = ((-12, 8), (12, 8), (-12, -9), (12, -9), (0, 15), (0, -16), (-20, 0), (20, 0))  # points


def png(content: ReportContent, picture: Picture) -> bytes:
    """The picture as a PNG of 1,040 x 720 pixels; equal runs give equal bytes."""
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=(8, 5.54), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _frame(axes, picture)
        _budget(axes, picture)
        _least(axes, picture)
        placed = [m for m in content.plot_points if m.at(picture.axis) is not None]
        _search(axes, picture, placed)
        _solid(axes, picture, placed)
        _legend(axes)
        figure.draw_without_rendering()  # settles the layout, which pixels depend on
        _letters(axes, picture, placed)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _frame(axes: Axes, picture: Picture) -> None:
    axes.set_xscale("log")
    axes.set_xlim(picture.x.low, picture.x.high)
    axes.set_ylim(picture.near.low, picture.near.high)
    ticks = picture.x.ticks
    if len(ticks) > 9:
        ticks = tuple(t for t in ticks if t.level == 0)
    axes.xaxis.set_major_locator(FixedLocator([t.at for t in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([t.label for t in ticks])
    axes.yaxis.set_major_locator(FixedLocator([t.at for t in picture.near.ticks]))
    axes.set_yticklabels([t.label for t in picture.near.ticks])
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#dbe1e8")
    axes.set_xlabel("size of the ONNX file" if picture.axis == "size" else "median latency of one call", color=SOFT)
    axes.set_ylabel("validation accuracy" if picture.provisional else "accuracy", color=SOFT)
    axes.set_title(picture.title, loc="left", color=INK, fontsize=12, fontweight="bold", pad=16)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=3, frameon=False, fontsize=8.5,
            labelcolor=SOFT,
        )  # fmt: skip


def _budget(axes: Axes, picture: Picture) -> None:
    if picture.limit is None:
        return
    axes.axvspan(
        picture.x.low,
        min(picture.limit, picture.x.high),
        color=GREEN,
        alpha=0.09,
        linewidth=0,
        label="within the budget",
    )
    further = picture.limit > picture.x.high
    if not further:
        axes.axvline(picture.limit, color=GREEN, linewidth=1.5)
    axes.annotate(
        f"{picture.limit_label} \u2192" if further else picture.limit_label,
        (min(picture.limit, picture.x.high), 1), (0, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="right" if further else "center", color=GREEN, fontweight="bold", fontsize=9,
    )  # fmt: skip


def _least(axes: Axes, picture: Picture) -> None:
    if picture.least is None or not picture.near.low <= picture.least <= picture.near.high:
        return
    axes.axhline(picture.least, color=GREEN, linewidth=1.5, linestyle="dashed")
    axes.annotate(
        picture.least_label, (0, picture.least), (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
        color=GREEN, fontweight="bold", fontsize=9,
    )  # fmt: skip


def _search(axes: Axes, picture: Picture, placed: Sequence[PlotPoint]) -> None:
    rug = picture.near.low + (picture.near.high - picture.near.low) * 0.012
    for kind in SEARCH:
        spots = [(m.at(picture.axis), rug if m.accuracy is None else m.accuracy) for m in placed if m.kind == kind]
        if not spots:
            continue
        marker, size, colour, filled = STYLES[kind]
        alpha = 0.25 if len(spots) > 600 else 0.7
        axes.plot(
            *zip(*spots, strict=True), marker, markersize=size, color=colour, alpha=alpha,
            markerfacecolor=colour if filled else "none", markeredgewidth=0 if filled else 1, label=LEGEND[kind],
        )  # fmt: skip


def _solid(axes: Axes, picture: Picture, placed: Sequence[PlotPoint]) -> None:
    owners = {m.id: m for m in placed if m.letter}
    for teacher in (m for m in placed if m.kind == "teacher"):
        axes.axhline(teacher.accuracy or 0.0, color=INK, linewidth=1.1, linestyle=(0, (5, 4)), alpha=0.6)
    for control in (m for m in placed if m.kind in CONTROLS):
        at = control.at(picture.axis) or 0.0
        axes.annotate(
            "", (at, owners[control.id].accuracy or 0.0), (at, control.accuracy or 0.0),
            textcoords=_place(axes, control),
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}, zorder=2,
        )  # fmt: skip
    if picture.step:
        style = ":" if picture.provisional else "-"
        axes.plot(*zip(*picture.step, strict=True), style, color=BLUE, linewidth=1.8, zorder=2.1, label="front")
    for mark in (m for m in placed if m.interval):
        _bars(axes, picture, mark)
        filled = STYLES[mark.kind][3] and (mark.kind != "finalist" or picture.axis in mark.fronts)
        at, height = mark.at(picture.axis) or 0.0, mark.accuracy or 0.0
        axes.plot(at, height, zorder=4, transform=_place(axes, mark), **_look(mark.kind, filled))
    for kind in dict.fromkeys(m.kind for m in placed if m.interval):
        axes.plot([], [], label=LEGEND[kind], **_look(kind, STYLES[kind][3]))


def _look(kind: Kind, filled: bool) -> dict[str, Any]:
    marker, size, colour, _ = STYLES[kind]
    look = {"linestyle": "none", "marker": marker, "markersize": size, "markerfacecolor": colour if filled else "white"}
    return look | {"markeredgecolor": "white" if filled else colour, "markeredgewidth": 0.8 if filled else 1.5}


def _bars(axes: Axes, picture: Picture, mark: PlotPoint) -> None:
    at, height, timing = mark.at(picture.axis), mark.accuracy, timing_of(mark.costs)
    if at is None or height is None or mark.interval is None:
        return
    across = [[at - timing.low], [timing.high - at]] if picture.axis == "latency" and timing and mark.letter else None
    upright = [[height - mark.interval[0]], [mark.interval[1] - height]]
    faint = 0.4 if mark.kind in CONTROLS else 0.75
    colour = STYLES[mark.kind][2]
    axes.errorbar(
        at, height, upright, across, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3, alpha=faint, zorder=3,
        transform=_place(axes, mark),
    )  # fmt: skip


def _letters(axes: Axes, picture: Picture, placed: Sequence[PlotPoint]) -> None:
    """Each letter beside its mark, where no other mark or letter is."""
    points = {m: axes.transData.transform((m.at(picture.axis) or 0.0, m.accuracy or 0.0)) for m in placed if m.interval}
    taken = [(at[0] + _aside(m) * PIXELS, at[1], 12.0) for m, at in points.items()]
    area = axes.get_window_extent()
    for mark in (m for m in placed if m.letter):
        more = len(mark.label) - 1  # characters beside the first
        spots = [points[mark] + np.array(offset) * (1 + 0.35 * more, 1) * PIXELS for offset in BESIDE]
        half = 10 + 4.0 * more
        free = [s for s in spots if area.contains(*s) and all(math.dist(s, t[:2]) > t[2] + half for t in taken)]
        at = (free or spots)[0]
        taken.append((*at, half))
        axes.annotate(
            mark.label,
            (at[0], at[1]),
            xycoords="figure pixels",
            color=INK,
            fontweight="bold",
            ha="center",
            va="center",
            zorder=5,
        )


def _place(axes: Axes, mark: PlotPoint) -> Transform:
    """Data coordinates, moved aside for controls."""
    return axes.transData + Affine2D().translate(_aside(mark) * PIXELS, 0)


def _aside(mark: PlotPoint) -> float:
    """Points to the side that a control is drawn: its costs are its finalist's own."""
    return {"no_distillation": -8.0, "no_assistants": 8.0}.get(mark.kind, 0.0)
