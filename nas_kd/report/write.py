"""Writes a run's report: page, Markdown, CSV and the two pictures."""

from pathlib import Path

from nas_kd.report.candidates import candidates_csv
from nas_kd.report.content import content
from nas_kd.report.markdown import markdown
from nas_kd.report.page import page
from nas_kd.report.png_plots import png
from nas_kd.results.records import RunRecord
from nas_kd.serialization import write_atomic


def write_report(run: RunRecord, out: Path, command: str = "", file_sha256: str = "") -> Path:
    """Write the report of `run`, finished or not, into the folder `out`; returns the path of its index.html.

    Equal runs give equal files. `command`: how to run it again, where the run does not say. `file_sha256`: of the
    winner's file, which carries metadata that the record's own sum is without.

    Raises:
        OSError: the folder cannot be written, or the disk is full; each file is then old or new, never half.
    """
    said = content(run, command, file_sha256)
    files: dict[str, str | bytes] = {
        "pareto_size.png": png(said, said.pictures[0]),
        "pareto_latency.png": png(said, said.pictures[1]),
        "candidates.csv": candidates_csv(said.context),
        "report.md": markdown(said),
        "index.html": page(said),
    }
    for name, data in files.items():
        write_atomic(out / name, data)
    return out / "index.html"
