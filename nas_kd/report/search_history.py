"""Section 5: how the search went - hypervolume, candidates, rungs, time, what was found in the store, choices."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nas_kd.report import number_format as numbers
from nas_kd.report.axes import Scale, linear_scale
from nas_kd.report.importances import importances
from nas_kd.report.report_context import ReportContext
from nas_kd.report.rung_correlation import RungCorrelation, once_for_all_words, rungs_foresight
from nas_kd.report.time_breakdown import Bar, CacheUse, option, stored, time_note, time_spent, worker_count
from nas_kd.report.trial_flow import Step, flow, own_trials
from nas_kd.results.fronts import hypervolume_history
from nas_kd.results.intervals import kendall_tau
from nas_kd.results.records import RunRecord, TrialRecord

MOST_POINTS = 400  # of a curve; a long search is thinned to those where it rises
MOST_CHOICES = 12


@dataclass(frozen=True)
class Curve:
    """Hypervolume against one kind of time."""

    title: str
    x_title: str
    x: Scale
    y: Scale
    points: tuple[tuple[float, float], ...]
    alternative: str


@dataclass(frozen=True)
class SearchHistory:
    """All of section 5."""

    curves: tuple[Curve, ...]
    curves_note: str
    flow: tuple[Step, ...]
    rungs: tuple[RungCorrelation, ...]
    rungs_note: str
    rungs_warning: str
    once_for_all: tuple[str, ...]
    time: tuple[Bar, ...]
    time_note: str
    stored: tuple[CacheUse, ...]
    choices: tuple[Bar, ...]
    choices_note: str
    remarks: tuple[str, ...]


def search_history(context: ReportContext) -> SearchHistory:
    """What the search did, as far as it got."""
    run = context.run
    epochs, judged = _same_epochs(run.trials)
    shares = importances([_choices(t) for t, _ in judged], [accuracy for _, accuracy in judged])
    rungs, warning = rungs_foresight(run.trials)
    after = f" after {numbers.count(epochs, 'epoch')}" if epochs else ""
    return SearchHistory(
        curves=_curves(run),
        curves_note=_curves_note(run),
        flow=flow(run),
        rungs=rungs,
        rungs_note=_rungs_note(run),
        rungs_warning=warning,
        once_for_all=once_for_all_words(run),
        time=time_spent(run.seconds),
        time_note=time_note(run),
        stored=stored(run.cache),
        choices=tuple(Bar(n, s * 100, f"{s * 100:.0f}{numbers.NBSP}%") for n, s in list(shares.items())[:MOST_CHOICES]),
        choices_note=f"validation accuracy{after} of {numbers.count(len(judged), 'candidate')}",
        remarks=(*_final_remark(run), *_chain_remark(run.trials)),
    )


def _curves(run: RunRecord) -> tuple[Curve, ...]:
    history = list(hypervolume_history(run))
    if len(history) < 2 or not any(volume for *_, volume in history):
        return ()
    names = ("wall-clock time", "training time")
    return tuple(_curve([(row[n], row[2]) for row in history], names[n]) for n in (0, 1))


def _curve(points: Sequence[tuple[float, float]], name: str) -> Curve:
    rising = [p for n, p in enumerate(points) if n in (0, len(points) - 1) or p[1] != points[n - 1][1]]
    thin = rising[:: max(1, -(-len(rising) // MOST_POINTS))]
    shown = (*thin, rising[-1]) if thin[-1] != rising[-1] else tuple(thin)
    (first, start), (last, end) = shown[0], shown[-1]
    between = f"between {numbers.duration(first)} and {numbers.duration(last)}"
    alternative = f"Hypervolume rose from {start:.3f} to {end:.3f} {between}."
    return Curve(
        title=f"Hypervolume against {name}",
        x_title=name,
        x=linear_scale([0.0, last], "duration", floor=0.0),
        y=linear_scale([v for _, v in shown], "number"),
        points=tuple(shown),
        alternative=alternative,
    )


def _curves_note(run: RunRecord) -> str:
    """Which seconds and which candidates the curves count."""
    parts = ["assistants", "candidates that were stopped"] + ["the once-for-all network"] * (
        run.once_for_all is not None
    )
    workers = worker_count(run)
    added = f" (of all {workers} workers, added up)" if workers > 1 else ""
    return (
        "Only candidates trained to the end count, each from when it was. "
        f"Training time{added} includes {numbers.listing(parts)}; the teacher's is in neither clock."
    )


def _rungs_note(run: RunRecord) -> str:
    reduction = option(run, "reduction")
    kept = ""
    if reduction:
        kept = f"The best one in {reduction} at a rung is trained on; as the best change, more are in the end. "
    return (
        f"{kept}Kendall's tau with its 95{numbers.NBSP}% interval, over the candidates that reached both rungs: 1 is "
        "the same order, 0 is chance. Those trained on are the better ones, which tends to lower it."
    )


def _same_epochs(trials: Sequence[TrialRecord]) -> tuple[int, list[tuple[TrialRecord, float]]]:
    """The rung that most trials reached (of equals, the highest), in epochs, and their accuracies there.

    That is the first: those further up are a selection, of which shares of variance would say little.
    """
    own = own_trials(trials)
    reached = Counter(r.epochs for t in own for r in t.rungs)
    if not reached:
        return 0, []
    common = max(reached.items(), key=lambda pair: (pair[1], pair[0]))[0]
    return common, [(t, r.val_accuracy) for t in own for r in t.rungs if r.epochs == common]


def _choices(trial: TrialRecord) -> dict[str, str | float]:
    """Every choice of the candidate under its name; the chain counts as one."""
    candidate = trial.candidate
    student = {f"student: {k}": v for k, v in candidate["student"].items() if k != "space"}
    params = {f"method: {k}": v for k, v in candidate["params"].items()}
    chain = {"chain: assistants": len(candidate["assistants"])}
    return {**student, **params, **chain, "method": candidate["method"], "precision": candidate["precision"]}


def _final_remark(run: RunRecord) -> list[str]:
    """Did the search's short training rank the finalists as the full one does?"""
    early = {t.number: t.val_accuracy for t in run.trials}
    pairs = [(before, f.val.mean) for f in run.finalists if (before := early.get(f.trial)) is not None]
    if len(pairs) < 4:
        return []
    tau = kendall_tau(*zip(*pairs, strict=True))
    if tau is None:
        return []
    return [
        f"Rank correlation (Kendall's tau) of the finalists' validation accuracy in the search and after full "
        f"training: {tau:.2f}, over {len(pairs)} finalists (the best, so close to each other: expect a low figure)."
    ]


def _chain_remark(trials: Sequence[TrialRecord]) -> list[str]:
    """How many trainings of assistants the store saved."""
    links = [
        str(t.candidate["assistants"][: n + 1])
        for t in trials
        if t.rungs and t.status != "duplicate"
        for n in range(len(t.candidate["assistants"]))
    ]
    distinct = len(set(links))
    if len(links) == distinct:
        return []
    return [
        f"Assistants were used {len(links):,} times and are {distinct:,} different trainings: "
        f"the other {len(links) - distinct:,} came from the store."
    ]
