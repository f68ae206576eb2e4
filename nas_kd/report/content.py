"""All that a report says, worked out once; the page, the Markdown, the pictures and the CSV only lay it out."""

from collections.abc import Mapping
from dataclasses import dataclass

from nas_kd.report import number_format as numbers
from nas_kd.report.candidates import MOST_ROWS, CandidateRow, candidate_rows
from nas_kd.report.finalists import Row, finalist_rows
from nas_kd.report.front_plots import Picture, indistinguishable, pictures
from nas_kd.report.gains import GainTable, gain_tables
from nas_kd.report.methodology import Methodology, methodology
from nas_kd.report.plot_points import LEGEND, Kind, PlotPoint, plot_points
from nas_kd.report.report_context import AXES, ReportContext, context
from nas_kd.report.search_history import SearchHistory, search_history
from nas_kd.report.summary import Summary, summary
from nas_kd.results.records import RunRecord


@dataclass(frozen=True)
class ReportContent:
    """The six sections, with their captions."""

    context: ReportContext
    summary: Summary
    plot_points: tuple[PlotPoint, ...]
    pictures: tuple[Picture, ...]
    rows: tuple[Row, ...]
    candidate_rows: tuple[CandidateRow, ...]
    candidate_rows_title: str
    gains: tuple[GainTable, ...]
    no_finalists: str
    no_gains: str
    search_history: SearchHistory
    methodology: Methodology
    caption: Mapping[str, str]
    legend: tuple[tuple[Kind, str], ...]
    limited: bool


def content(run: RunRecord, command: str = "", file_sha256: str = "") -> ReportContent:
    """What the report of `run` says."""
    about = context(run)
    drawn = plot_points(about)
    shown = pictures(about, drawn)
    went = search_history(about)
    kinds = {mark.kind for mark in drawn}
    rows = candidate_rows(about)
    own = sum(t.status != "duplicate" for t in run.trials)
    best = f"The best {MOST_ROWS:,} of {own:,} candidates" if own > MOST_ROWS else f"All {own:,} candidates"
    return ReportContent(
        context=about,
        summary=summary(about, file_sha256),
        plot_points=drawn,
        pictures=shown,
        rows=finalist_rows(about),
        candidate_rows=rows,
        candidate_rows_title=f"{best} of the search, by validation accuracy",
        gains=gain_tables(about),
        no_finalists=_no_finalists(run),
        no_gains=_no_gains(run),
        search_history=went,
        methodology=methodology(about, command),
        caption=_captions(about, shown, went),
        legend=tuple((kind, description) for kind, description in LEGEND.items() if kind in kinds),
        limited=any(about.limit(axis) is not None for axis in AXES),
    )


def _no_finalists(run: RunRecord) -> str:
    if run.state in ("unreachable", "finished"):
        return "There are none: no candidate of the search could be trained within the budget."
    return "There are none yet: finalists are trained in full, and judged on the test split, after the search."


def _no_gains(run: RunRecord) -> str:
    if not run.finalists and run.state in ("unreachable", "finished"):
        return "Not known: there are no finalists."
    if not run.finalists:
        return "Not known yet: controls are trained with the finalists."
    if run.state != "finished":
        return "Not known yet: no control has been trained so far."
    return "Not known: this run trained no controls (finalists.controls)."


def _captions(about: ReportContext, shown: tuple[Picture, ...], went: SearchHistory) -> dict[str, str]:
    finalists = bool(about.run.finalists)
    read = "Up and to the left is better. "
    if finalists:
        read += (
            "Solid marks are finalists at their test accuracy, with 95 % intervals; a thin line joins each to its "
            "controls, drawn a little aside. Small grey marks are candidates of the search at their validation "
            "accuracy, after shorter training; "
            "ticks along the bottom were never trained to a judgement."
        )
    else:
        read += (
            "Grey marks are candidates of the search at their validation accuracy; ticks along the bottom were never "
            "trained to a judgement. Test accuracy comes with the finalists."
        )
    so_far = "The dotted line is the front so far, on validation accuracy." if any(p.step for p in shown) else ""
    what = "Members of a front and the winner are chosen on validation accuracy, so that test never chooses; "
    what += "the line is the running best of the members' test accuracy."
    return {
        "how_to_read": read,
        "what": what if finalists else so_far,
        **{picture.axis: _below(about, picture) for picture in shown},
        "hypervolume": (
            "The volume that the candidates found so far dominate, counting retained accuracy, decades of size and "
            "decades of latency against the teacher. A curve that has long been flat suggests that more trials would "
            f"have found little. {went.curves_note}"
        ),
        "choices": (
            f"Share of the variance in {went.choices_note} that each choice explains alone, less what it would by "
            "chance (epsilon squared). The sampler does not draw evenly and choices go together: a hint, not a proof."
        ),
    }


def _below(about: ReportContext, picture: Picture) -> str:
    """The caption under one picture: ties, and what it does not show."""
    groups = indistinguishable(about, picture.axis)
    said = []
    if groups:
        names = "; ".join(numbers.listing(letters) for letters in groups)
        said.append(f"Not distinguishable in accuracy, as their intervals overlap: {names}.")
    if picture.hidden:
        said.append(f"{numbers.count(picture.hidden, 'mark')} of lower accuracy left out of this view.")
    if picture.unplaced:
        said.append(f"{numbers.count(picture.unplaced, 'candidate')} without a measured {picture.axis} not shown.")
    return " ".join(said)
