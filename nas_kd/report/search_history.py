"""Section 5, how the search went: hypervolume, flow of trials, rungs, time, cache hits and importance of choices."""

from collections.abc import Sequence
from dataclasses import dataclass

from nas_kd.report import number_format as fmt
from nas_kd.report.axes import AxisScale, linear_scale
from nas_kd.report.choice_importance import choice_importances, choices_of, comparable_scores
from nas_kd.report.recipe_choice import RecipeChoice, build_recipe_choices
from nas_kd.report.report_context import ReportContext, search_option
from nas_kd.report.rung_correlation import RungCorrelation, build_rung_correlations, once_for_all_text
from nas_kd.report.time_breakdown import Bar, CacheUse, cache_uses, time_bars, time_note, worker_count
from nas_kd.report.trial_flow import FlowStep, build_trial_flow
from nas_kd.results.hypervolume import hypervolume_history
from nas_kd.results.intervals import kendall_tau
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import TrialRecord, without_duplicates

MAX_CURVE_POINTS = 400
MAX_CHOICES = 12


@dataclass(frozen=True)
class Curve:
    """Hypervolume against one kind of time: scales, and (seconds, hypervolume) points of a step line."""

    title: str
    x_title: str
    x: AxisScale
    y: AxisScale
    points: tuple[tuple[float, float], ...]
    alt_text: str


@dataclass(frozen=True)
class SearchHistory:
    """All of section 5; parts that a run does not have are empty."""

    curves: tuple[Curve, ...]
    curves_note: str
    trial_flow: tuple[FlowStep, ...]
    rung_correlations: tuple[RungCorrelation, ...]
    rungs_note: str
    rungs_warning: str
    once_for_all: tuple[str, ...]
    recipes: tuple[RecipeChoice, ...]
    time: tuple[Bar, ...]
    time_note: str
    cache: tuple[CacheUse, ...]
    choices: tuple[Bar, ...]
    choices_note: str
    remarks: tuple[str, ...]
    score: str


def build_search_history(context: ReportContext) -> SearchHistory:
    """Build the section on what the search did, as far as it got."""
    run = context.run
    epochs, scores = comparable_scores(without_duplicates(run.trials))
    shares = choice_importances([choices_of(t, epochs) for t, _ in scores], [score for _, score in scores])
    correlations, warning = build_rung_correlations(run.trials, run.score_title)
    after = f" after {fmt.count(epochs, 'epoch')}" if epochs else ""
    return SearchHistory(
        curves=_curves(run),
        curves_note=_curves_note(run),
        trial_flow=build_trial_flow(run),
        rung_correlations=correlations,
        rungs_note=_rungs_note(run),
        rungs_warning=warning,
        once_for_all=once_for_all_text(run),
        recipes=build_recipe_choices(run),
        time=time_bars(run.seconds),
        time_note=time_note(run),
        cache=cache_uses(run.cache),
        choices=tuple(Bar(n, s * 100, f"{s * 100:.0f}{fmt.NBSP}%") for n, s in list(shares.items())[:MAX_CHOICES]),
        choices_note=f"validation {context.score}{after} of {fmt.count(len(scores), 'candidate')}",
        score=fmt.capital(context.score),
        remarks=(*_finalist_ranking_remark(run), *_assistant_reuse_remark(run.trials)),
    )


def _curves(run: RunRecord) -> tuple[Curve, ...]:
    history = hypervolume_history(run)
    if len(history) < 2 or not any(volume for *_, volume in history):
        return ()
    names = ("wall-clock time", "training time")
    return tuple(_curve([(row[n], row[2]) for row in history], name) for n, name in enumerate(names))


def _curve(points: Sequence[tuple[float, float]], name: str) -> Curve:
    """A curve thinned to the points where it rises, at most `MAX_CURVE_POINTS` of them."""
    rising = [p for n, p in enumerate(points) if n in (0, len(points) - 1) or p[1] != points[n - 1][1]]
    thinned = rising[:: max(1, -(-len(rising) // MAX_CURVE_POINTS))]
    shown = (*thinned, rising[-1]) if thinned[-1] != rising[-1] else tuple(thinned)
    (first, start), (last, end) = shown[0], shown[-1]
    return Curve(
        title=f"Hypervolume against {name}",
        x_title=name,
        x=linear_scale([0.0, last], "duration", floor=0.0),
        y=linear_scale([v for _, v in shown], "number"),
        points=tuple(shown),
        alt_text=(
            f"Hypervolume rose from {start:.3f} to {end:.3f} between {fmt.duration(first)} and {fmt.duration(last)}."
        ),
    )


def _curves_note(run: RunRecord) -> str:
    """Which candidates the curves count, and what training time includes."""
    included = ["assistants", "pruned candidates"]
    included += ["the once-for-all network"] if run.once_for_all is not None else []
    workers = worker_count(run)
    summed = f" (summed over {workers} workers)" if workers > 1 else ""
    return (
        "Only candidates that finished the search count, each from the moment it finished. Training time"
        f"{summed} includes {fmt.join_with_and(included)}; neither clock includes training the teacher."
    )


def _rungs_note(run: RunRecord) -> str:
    reduction = search_option(run, "reduction")
    promoted = ""
    if reduction:
        promoted = (
            f"The best one in {reduction} candidates at a rung is promoted, and later a few more, as the ranking "
            "changes during the search. "
        )
    restarted = ""
    if any(r.without_assistants for t in run.trials for r in t.rungs):
        restarted = (
            " Up to the first rung, candidates with assistants are trained without them; its score is then compared "
            "with that of the whole chain."
        )
    return (
        f"{promoted}Kendall's tau with its 95{fmt.NBSP}% interval, over the candidates that reached both rungs: 1 is "
        f"the same order, 0 is chance. Promoted candidates are the better ones, which tends to lower it.{restarted}"
    )


def _finalist_ranking_remark(run: RunRecord) -> list[str]:
    """Whether the search ranked the finalists as their full training does."""
    in_search = {t.number: t.val_score for t in run.trials}
    pairs = [(early, f.val_score.mean) for f in run.finalists if (early := in_search.get(f.trial)) is not None]
    if len(pairs) < 4:
        return []
    tau = kendall_tau(*zip(*pairs, strict=True))
    if tau is None:
        return []
    return [
        f"Rank correlation (Kendall's tau) of the finalists' validation {run.score_title} in the search and after full "
        f"training: {tau:.2f}, over {len(pairs)} finalists. They are the best and close to each other, so expect a "
        "low figure."
    ]


def _assistant_reuse_remark(trials: Sequence[TrialRecord]) -> list[str]:
    """How many trainings of assistants the store saved."""
    chains = [
        t.candidate.assistants for t in without_duplicates(trials) if any(not r.without_assistants for r in t.rungs)
    ]
    uses = [str(chain[: n + 1]) for chain in chains for n in range(len(chain))]
    distinct = len(set(uses))
    if len(uses) == distinct:
        return []
    return [
        f"Assistants were used {len(uses):,} times, from {distinct:,} trainings: the other {len(uses) - distinct:,} "
        "came from the store."
    ]
