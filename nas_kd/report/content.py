"""Builds everything that a report states, once; page, Markdown, plots and CSV only lay it out."""

from collections.abc import Mapping
from dataclasses import dataclass

from nas_kd.report import number_format as fmt
from nas_kd.report.candidate_tables import CandidateTable, build_finalist_table, build_trial_table, trial_table_title
from nas_kd.report.class_tables import ClassTables, build_class_tables
from nas_kd.report.compression_tables import CompressionTables, build_compression_tables
from nas_kd.report.distillation_gains import GainTable, build_gain_tables
from nas_kd.report.front_plots import FrontPlot, build_front_plots, indistinguishable_groups
from nas_kd.report.methodology import Methodology, build_methodology
from nas_kd.report.plot_points import LEGEND_LABELS, PlotPoint, PointKind, build_plot_points
from nas_kd.report.report_context import AXES, ReportContext, build_context
from nas_kd.report.sample_pictures import SamplePictures, build_sample_pictures
from nas_kd.report.search_history import SearchHistory, build_search_history
from nas_kd.report.summary import Summary, build_summary
from nas_kd.results.run_record import RunRecord


@dataclass(frozen=True)
class ReportContent:
    """The six sections of a report, and the texts around them.

    Attributes:
        context: the run.
        summary: section 1.
        front_plots: section 2, the score against size and against latency; `plot_points` are the points of both.
        finalist_table: section 3; `trial_table` holds the search's best trials under `trial_table_title`.
        class_tables: figures by class, in section 3.
        sample_pictures: scores by class and pictures of samples there, of tasks that have them.
        gain_tables: section 4, against controls; `compression_tables`: against other compression.
        search_history: section 5.
        methodology: section 6.
        captions: texts below plots and charts, by name; those below a front plot by its axis.
        legend: kinds of points that the plots have, with their labels.
        has_limit: whether a plot shows a limit.
        no_finalists: why there are no finalists; `no_gains`: why there are no gains.
    """

    context: ReportContext
    summary: Summary
    plot_points: tuple[PlotPoint, ...]
    front_plots: tuple[FrontPlot, ...]
    finalist_table: CandidateTable
    trial_table: CandidateTable
    trial_table_title: str
    class_tables: ClassTables | None
    sample_pictures: SamplePictures | None
    gain_tables: tuple[GainTable, ...]
    compression_tables: CompressionTables
    search_history: SearchHistory
    methodology: Methodology
    captions: Mapping[str, str]
    legend: tuple[tuple[PointKind, str], ...]
    has_limit: bool
    no_finalists: str
    no_gains: str


def build_content(run: RunRecord, command: str = "", file_sha256: str = "") -> ReportContent:
    """Build the content of a run's report.

    Args:
        run: finished or not.
        command: how to run it again; by default what the run recorded.
        file_sha256: checksum of the winner's file as written.
    """
    context = build_context(run)
    points = build_plot_points(context)
    plots = build_front_plots(context, points)
    history = build_search_history(context)
    kinds = {point.kind for point in points}
    return ReportContent(
        context=context,
        summary=build_summary(context, file_sha256),
        plot_points=points,
        front_plots=plots,
        finalist_table=build_finalist_table(context),
        trial_table=build_trial_table(context),
        trial_table_title=trial_table_title(run),
        class_tables=build_class_tables(context),
        sample_pictures=build_sample_pictures(context),
        gain_tables=build_gain_tables(context),
        compression_tables=build_compression_tables(context),
        search_history=history,
        methodology=build_methodology(context, command),
        captions=_captions(context, plots, history),
        legend=tuple((kind, label) for kind, label in LEGEND_LABELS.items() if kind in kinds),
        has_limit=any(context.limit(axis) is not None for axis in AXES),
        no_finalists=_no_finalists(run),
        no_gains=_no_gains(run),
    )


def _no_finalists(run: RunRecord) -> str:
    if run.state in ("unreachable", "finished"):
        return "No finalists: no candidate of the search could be trained within the budget."
    return "No finalists yet: after the search, they are trained in full and evaluated on the test split."


def _no_gains(run: RunRecord) -> str:
    if not run.finalists and run.state in ("unreachable", "finished"):
        return "Unknown: there are no finalists."
    if not run.finalists:
        return "Unknown so far: controls are trained with the finalists."
    if run.state != "finished":
        return "Unknown so far: no control has been trained yet."
    if not any(f.candidate.recipe.distills for f in run.finalists):
        return "Nothing to compare: no finalist is distilled."
    return "Unknown: this run trained no controls (finalists.controls)."


def _captions(context: ReportContext, plots: tuple[FrontPlot, ...], history: SearchHistory) -> dict[str, str]:
    return {
        "how_to_read": _how_to_read(context),
        "figures": _figures_caption(context),
        "front": _front_caption(context, any(plot.front_line for plot in plots)),
        **{plot.axis: _plot_caption(context, plot) for plot in plots},
        "hypervolume": (
            "Hypervolume is one number for what the candidates found so far gain over the teacher: the volume that "
            f"they dominate, in retained {context.score}, decades of size and decades of latency. A candidate with the "
            f"teacher's {context.score} at a tenth of its size and latency gives 1. If the curve has been flat for "
            f"long, more trials would probably have found little. {history.curves_note}"
        ),
        "choices": (
            f"Share of the variance in {history.choices_note} that each choice explains alone, less what it would by "
            "chance (epsilon squared). The sampler does not draw evenly and choices are correlated, so this is a hint, "
            "not a proof."
        ),
    }


def _figures_caption(context: ReportContext) -> str:
    """Begins the sentence below the finalists' table."""
    if context.run.decides_on_accuracy:
        return "Accuracies in percent of samples"
    if context.run.decides_on_headline:
        return "Scores in percent"
    return f"{fmt.capital(context.score)} decides; scores in percent"


def _how_to_read(context: ReportContext) -> str:
    score = context.score
    if context.run.finalists:
        return (
            f"Up and to the left is better. Large marks are finalists at their test {score}, with 95 % intervals, "
            "hollow if they are not on this front; a thin line joins each to its controls, which are drawn slightly to "
            f"the side. Small grey marks are trials of the search at their validation {score}, after shorter training; "
            "ticks at the bottom are trials without one."
        )
    return (
        f"Up and to the left is better. Grey marks are trials of the search at their validation {score}; ticks at the "
        f"bottom are trials without one. Test {score} is measured on the finalists, after the search."
    )


def _front_caption(context: ReportContext, has_front: bool) -> str:
    score = context.score
    if context.run.finalists:
        return (
            f"Members of a front and the winner are chosen on validation {score}, never on test {score}; the line is "
            f"the running best of the members' test {score}."
        )
    return f"The dotted line is the front so far, on validation {score}." if has_front else ""


def _plot_caption(context: ReportContext, plot: FrontPlot) -> str:
    """Names finalists that cannot be distinguished in their score, and counts the points that are not shown."""
    sentences = []
    groups = indistinguishable_groups(context, plot.axis)
    if groups:
        names = "; ".join(fmt.join_with_and(letters) for letters in groups)
        sentences.append(f"Not distinguishable in {context.score}, as their intervals overlap: {names}.")
    if plot.n_below_view:
        sentences.append(f"{fmt.count(plot.n_below_view, 'point')} of lower {context.score} not in this view.")
    if plot.n_unmeasured:
        sentences.append(f"{fmt.count(plot.n_unmeasured, 'candidate')} without a measured {plot.axis} not shown.")
    return " ".join(sentences)
