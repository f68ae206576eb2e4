"""Whether early signs rank candidates as later training does: rungs, inherited weights, the number of weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from nas_kd.report import number_format as fmt
from nas_kd.report.report_context import search_option
from nas_kd.report.trial_flow import rung_names
from nas_kd.results.intervals import MIN_RANKED, KendallTau, kendall_tau_interval, tau_difference_interval
from nas_kd.results.run_record import OnceForAllRecord, RunRecord
from nas_kd.results.trial_record import TrialRecord, without_duplicates

MIN_TAU, GOOD_TAU = 0.2, 0.4  # six of ten pairs in the right order, seven of ten
ADVICE = (
    "Candidates were pruned on little evidence: longer rungs (fewer search.rungs, or a smaller search.reduction) may "
    "do better."
)


@dataclass(frozen=True)
class RungCorrelation:
    """How well an early score ranks candidates as a later one does; `tau` with its interval, as text."""

    predictor: str
    target: str
    candidates: int
    tau: str
    verdict: str


def build_rung_correlations(
    trials: Sequence[TrialRecord], score: str = "accuracy"
) -> tuple[tuple[RungCorrelation, ...], str]:
    """Compare each rung with the next, and the first with the last.

    Args:
        trials: of the run.
        score: what they are judged by, in sentences.

    Returns:
        One row per pair of rungs that at least two candidates reached, and a warning if a rung does not predict
        another, else "".
    """
    names = rung_names(trials)
    steps = list(pairwise(names))
    if len(steps) > 1:
        steps.append((steps[0][0], steps[-1][1]))
    rows: list[RungCorrelation] = []
    failures: list[str] = []
    doubts: list[str] = []
    for early, late in steps:
        both = ((_score_at(t, early), _score_at(t, late)) for t in without_duplicates(trials))
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        if len(pairs) < 2:
            continue
        tau = kendall_tau_interval([a for a, _ in pairs], [b for _, b in pairs])
        predictor = f"{score} at {names[early]}"
        rows.append(RungCorrelation(predictor, names[late], len(pairs), tau_text(tau), _verdict(tau)))
        if tau is not None and not predicts(tau):
            (doubts if _is_uncertain(tau) else failures).append(_warning(names, early, late, tau))
    return tuple(rows), " ".join([*failures, *([ADVICE] if failures else []), *doubts])


def predicts(tau: KendallTau) -> bool:
    """Return whether a rank correlation is both beyond chance and large enough to be of use."""
    return tau.low > 0 and tau.tau >= MIN_TAU


def tau_text(tau: KendallTau | None) -> str:
    """Format tau with its interval: `0.61 (0.40 to 0.75)`."""
    if tau is None:
        return fmt.MISSING
    value, low, high = (fmt.typographic_minus(f"{v:.2f}") for v in (tau.tau, tau.low, tau.high))
    return f"{value} ({low} to {high})"


def _score_at(trial: TrialRecord, epochs: int) -> float | None:
    return next((r.val_score for r in trial.rungs if r.epochs == epochs), None)


def _verdict(tau: KendallTau | None) -> str:
    if tau is None:
        return "unknown: too few candidates, or too many equal ones"
    if not predicts(tau):
        return "not shown to predict: may be chance" if _is_uncertain(tau) else "does not predict"
    return "predicts" if tau.tau >= GOOD_TAU else "predicts weakly"


def _warning(names: dict[int, str], early: int, late: int, tau: KendallTau) -> str:
    """States which rung does not predict which, and on what evidence."""
    ends = {min(names): "the first rung", max(names): "the last rung"}
    first, last = ends.get(early, names[early]), ends.get(late, names[late])
    if _is_uncertain(tau):
        statement, why = "is not shown to predict", f"over {len(tau.influence):,} candidates, its order may be chance"
    else:
        statement = "does not predict"
        order = "hardly better than chance" if tau.high >= 0 else "closer to the reverse"
        why = f"its order of the candidates is {order}"
    return f"{fmt.capital(first)} {statement} {last}: {why} (tau {tau_text(tau)})."


def _is_uncertain(tau: KendallTau) -> bool:
    """Whether tau is large enough, but measured on too few candidates."""
    return tau.low <= 0 and tau.tau >= MIN_TAU


def once_for_all_text(run: RunRecord) -> tuple[str, ...]:
    """Describe the once-for-all network, the search among its sub-networks, and what inherited weights tell."""
    sentences = []
    if run.once_for_all is not None:
        sentences.append(_elastic_training_text(run.once_for_all))
    elif search_option(run, "strategy") == "once-for-all":
        sentences.append("The once-for-all network is not trained yet.")
    return (*sentences, *_inherited_text(run.trials, run.score_title))


def _elastic_training_text(elastic: OnceForAllRecord) -> str:
    known = isfinite(elastic.latency_error)
    error = f"{elastic.latency_error * 100:.1f}{fmt.NBSP}%" if known else "unknown"
    return (
        f"One elastic network that contains every candidate was trained for {fmt.count(elastic.epochs, 'epoch')}, "
        f"{fmt.count(elastic.networks_a_step, 'sub-network')} per step, in {fmt.duration(elastic.training_s)}. With "
        f"weights inherited from it, {fmt.count(elastic.evaluated, 'sub-network')} "
        f"{'was' if elastic.evaluated == 1 else 'were'} evaluated in {fmt.duration(elastic.search_s)}, under latencies "
        f"predicted from {elastic.measured:,} measured ones. Median error of the prediction, on networks that it was "
        f"not fitted to: {error}."
    )


def _inherited_text(trials: Sequence[TrialRecord], score: str) -> list[str]:
    """Compares the inherited score with the number of weights, at the highest rung that enough candidates reached."""
    names = rung_names(trials)
    known = [t for t in without_duplicates(trials) if t.inherited_accuracy is not None and t.costs and t.rungs]
    if not known:
        return []
    reached = {e: [t for t in known if _score_at(t, e) is not None] for e in sorted(names, reverse=True)}
    epochs = next((e for e, at_rung in reached.items() if len(at_rung) >= MIN_RANKED), None)
    if epochs is None:
        count = fmt.count(len(known), "candidate")
        return [f"Too few to tell whether inherited {score} predicts the {score} after training: {count}."]
    compared = reached[epochs]
    trained = [_score_at(t, epochs) or 0.0 for t in compared]
    inherited = kendall_tau_interval([t.inherited_accuracy or 0.0 for t in compared], trained)
    weights = kendall_tau_interval([float(t.costs.parameters) for t in compared if t.costs], trained)
    return [
        f"Rank correlation (Kendall's tau, 95{fmt.NBSP}% interval) with the {score} of a candidate's own training, at "
        f"{names[epochs]}, over {len(compared):,} candidates: inherited {score} {tau_text(inherited)}, number of "
        f"weights {tau_text(weights)}. {_comparison(inherited, weights, score)}"
    ]


def _comparison(inherited: KendallTau | None, weights: KendallTau | None, score: str) -> str:
    if inherited is None:
        return f"Inherited {score} cannot be assessed: it is the same for all candidates."
    poor = "" if predicts(inherited) else f"Inherited {score} does not predict the {score} after training. "
    if weights is None:
        return poor + "The number of weights cannot be compared: it is the same for all candidates."
    if inherited.tau <= weights.tau:
        return poor + f"Inherited {score} does not predict better than the number of weights."
    if tau_difference_interval(inherited, weights)[0] <= 0:
        return poor + (
            f"Inherited {score} does not predict measurably better than the number of weights: its lead is within "
            "chance."
        )
    return poor + f"Inherited {score} predicts better than the number of weights."
