"""Renders a report's content into files: index.html, report.md, candidates.csv and the two plots as PNG."""

import base64
import hashlib
import json
import re
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from nas_kd.errors import InputError
from nas_kd.report.candidates_csv import baselines_csv, candidates_csv
from nas_kd.report.class_tables import classes_csv
from nas_kd.report.content import ReportContent, build_content
from nas_kd.report.front_plot_png import draw_front_plot, front_plot_png
from nas_kd.report.plot_points import PlotPoint
from nas_kd.report.report_context import latency_of
from nas_kd.results.fronts import Axis
from nas_kd.results.markdown import Markdown, code_block, code_span, escape_markdown
from nas_kd.results.run_record import RunRecord
from nas_kd.serialization import write_atomic

ASSETS = files("nas_kd.report") / "assets"
SCRIPTS = ("svg.js", "axes.js", "front_plot.js", "curve.js", "probe_plot.js", "selection.js", "tables.js", "main.js")
# In a script element only these can end it or begin a comment; all are legal as JSON escapes.
UNSAFE_IN_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_report(run: RunRecord, out: Path, command: str = "", file_sha256: str = "") -> Path:
    """Write the report of a run; equal runs give equal files.

    Args:
        run: finished or not.
        out: folder to write to.
        command: how to run it again; by default what the run recorded.
        file_sha256: checksum of the winner's file as written, which includes metadata; the record's own does not.

    Returns:
        The path of index.html.

    Raises:
        OSError: the folder cannot be written, or the disk is full; each file is then old or new, never half.
    """
    content = build_content(run, command, file_sha256)
    size_plot, latency_plot = content.front_plots
    rendered: dict[str, str | bytes] = {
        "pareto_size.png": front_plot_png(content, size_plot),
        "pareto_latency.png": front_plot_png(content, latency_plot),
        "candidates.csv": candidates_csv(content.context),
        "report.md": render_markdown(content),
        "index.html": render_page(content),
    }
    tables = {"classes.csv": classes_csv(content.context), "baselines.csv": baselines_csv(content.context)}
    rendered |= {name: table for name, table in tables.items() if table}
    if content.sample_pictures is not None:
        rendered |= {picture.file: picture.content for picture in content.sample_pictures.pictures}
    for name, data in rendered.items():
        write_atomic(out / name, data)
    return out / "index.html"


def front_figure(run: RunRecord, axis: Axis) -> Figure:
    """Draw the score against one cost, as in the report, as a matplotlib figure.

    Args:
        run: finished or not.
        axis: "size" or "latency".

    Raises:
        InputError: there is no such axis.
    """
    content = build_content(run)
    plots = {plot.axis: plot for plot in content.front_plots}
    if axis not in plots:
        raise InputError(f"front must be one of {', '.join(plots)}, got {axis!r}")
    return draw_front_plot(content, plots[axis])


def candidates_table(run: RunRecord) -> str:
    """Write a row for every trial with everything in it, as CSV."""
    return candidates_csv(build_content(run).context)


def render_page(content: ReportContent) -> str:
    """Render index.html: one self-contained file that opens from disk and loads nothing."""
    environment = _template_environment(autoescape=True)
    script = _script()
    # The page runs this one script, identified by its hash, and nothing that a name or a reason could inject.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("index.html").render(
        **_template_values(content),
        style=Markup((ASSETS / "style.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        data=Markup(embedded_json(_plot_data(content))),
    )


def render_markdown(content: ReportContent) -> str:
    """Render report.md: the same content, with the plots as images."""
    # Not HTML: instead of autoescaping, every value goes through `finalize`.
    environment = _template_environment(
        autoescape=False, finalize=lambda value: value if isinstance(value, Markdown) else escape_markdown(value)
    )
    environment.filters["code"] = lambda text: Markdown(code_span(text))
    environment.filters["block"] = lambda text: Markdown(code_block(text, "toml"))
    text = environment.get_template("report.md").render(**_template_values(content))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def embedded_json(value: Any) -> str:
    """Serialize to JSON that is safe inside a `<script>` element, whatever its strings contain."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(UNSAFE_IN_SCRIPT)


def _template_environment(**options: Any) -> Environment:
    loader = PackageLoader("nas_kd.report")
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)


def _template_values(content: ReportContent) -> dict[str, Any]:
    return {name: getattr(content, name) for name in content.__dataclass_fields__} | {"run": content.context.run}


def _script() -> str:
    parts = [(ASSETS / name).read_text("utf-8") for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


def _plot_data(content: ReportContent) -> dict[str, Any]:
    """What the page's script draws."""
    return {
        "points": [_point_data(point) for point in content.plot_points],
        "plots": [asdict(plot) for plot in content.front_plots if content.plot_points],
        "probe": next((asdict(choice.plot) for choice in content.search_history.recipes if choice.plot), None),
        "curves": [asdict(curve) for curve in content.search_history.curves],
    }


def _point_data(point: PlotPoint) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": point.id,
        "kind": point.kind,
        "title": point.title,
        "lines": point.lines,
        "size": point.cost("size"),
        "latency": point.cost("latency"),
        "score": point.score,
    }
    if point.interval:  # left out for the many points of trials
        data |= {"interval": point.interval, "fronts": point.fronts, "letter": point.letter, "label": point.label}
    timing = latency_of(point.costs)
    if point.interval and point.letter and timing:
        data["latency_interval"] = [timing.low, timing.high]
    return data
