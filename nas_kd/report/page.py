"""index.html: one self-contained file that opens from disk and loads nothing."""

import base64
import hashlib
import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nas_kd.report.content import ReportContent
from nas_kd.report.finalists import COLUMNS
from nas_kd.report.plot_points import PlotPoint
from nas_kd.report.report_context import timing_of

ASSETS = files("nas_kd.report") / "assets"
SCRIPTS = ("svg.js", "frame.js", "picture.js", "curve.js", "follow.js", "tables.js", "main.js")
# In a script element only these can end it or begin a comment; all are legal as JSON escapes.
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def page(content: ReportContent) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=PackageLoader("nas_kd.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _script()
    # The page runs this one script, known by its hash, and nothing that a name or a reason could smuggle in.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("index.html").render(
        **{name: getattr(content, name) for name in content.__dataclass_fields__},
        run=content.context.run,
        columns=COLUMNS,
        style=Markup((ASSETS / "style.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        data=Markup(embedded_json(_data(content))),
    )


def embedded_json(value: Any) -> str:
    """JSON that is safe inside a `<script>` element, whatever its strings hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(UNSAFE)


def _script() -> str:
    parts = [(ASSETS / name).read_text("utf-8") for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


def _data(content: ReportContent) -> dict[str, Any]:
    return {
        "marks": [_mark(mark) for mark in content.plot_points],
        "pictures": [asdict(picture) for picture in content.pictures if content.plot_points],
        "curves": [asdict(curve) for curve in content.search_history.curves],
    }


def _mark(mark: PlotPoint) -> dict[str, Any]:
    timing = timing_of(mark.costs)
    spread = {"spread": [timing.low, timing.high]} if mark.letter and timing else {}
    solid = (
        {"interval": mark.interval, "fronts": mark.fronts, "letter": mark.letter, "label": mark.label, **spread}
        if mark.interval
        else {}
    )
    return {
        "id": mark.id,
        "kind": mark.kind,
        "title": mark.title,
        "lines": mark.lines,
        "size": mark.at("size"),
        "latency": mark.at("latency"),
        "accuracy": mark.accuracy,
        **solid,
    }
