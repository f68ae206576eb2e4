"""What can be known of a candidate early: do rungs, inherited weights or a count of weights rank as training does?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from nas_kd.report import number_format as numbers
from nas_kd.report.rank_correlation import FEWEST, Rank, lead, rank_correlation
from nas_kd.report.time_breakdown import option
from nas_kd.report.trial_flow import own_trials, rung_names
from nas_kd.results.records import RunRecord, TrialRecord

LEAST, GOOD = 0.2, 0.4  # tau: six pairs of ten in the right order, seven of ten
ADVICE = (
    "Candidates were stopped on little evidence: longer rungs (fewer search.rungs, or a smaller search.reduction) may "
    "do better."
)
Pairs = list[tuple[float, float]]


@dataclass(frozen=True)
class RungCorrelation:
    """How well an early sign ranks candidates; `tau` with its interval, as text."""

    sign: str
    ranked: str
    candidates: int
    tau: str
    verdict: str


def rungs_foresight(trials: Sequence[TrialRecord]) -> tuple[tuple[RungCorrelation, ...], str]:
    """Successive rungs, and the first against the last; a plain warning where one does not predict, else ""."""
    names = rung_names(trials)
    steps = list(pairwise(names))
    if len(steps) > 1:
        steps.append((steps[0][0], steps[-1][1]))
    rows: list[RungCorrelation] = []
    poor: list[str] = []
    unsure: list[str] = []
    for early, late in steps:
        both = ((_at(t, early), _at(t, late)) for t in own_trials(trials))
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        if len(pairs) < 2:
            continue
        rank = _rank(pairs)
        rows.append(
            RungCorrelation(f"accuracy at {names[early]}", names[late], len(pairs), tau_text(rank), _verdict(rank))
        )
        if rank is not None and not predicts(rank):
            (unsure if _is_unsure(rank) else poor).append(_failing(names, early, late, rank))
    return tuple(rows), " ".join([*poor, *([ADVICE] if poor else []), *unsure])


def predicts(rank: Rank) -> bool:
    """Whether the order is more than chance, and more than a trace."""
    return rank.low > 0 and rank.tau >= LEAST


def tau_text(rank: Rank | None) -> str:
    """`0.61 (0.40 to 0.75)`."""
    if rank is None:
        return numbers.NONE
    low, high = (numbers.signed_minus(f"{v:.2f}") for v in (rank.low, rank.high))
    return f"{numbers.signed_minus(f'{rank.tau:.2f}')} ({low} to {high})"


def _at(trial: TrialRecord, epochs: int) -> float | None:
    return next((r.val_accuracy for r in trial.rungs if r.epochs == epochs), None)


def _rank(pairs: Pairs) -> Rank | None:
    return rank_correlation([a for a, _ in pairs], [b for _, b in pairs])


def _verdict(rank: Rank | None) -> str:
    if rank is None:
        return "too few, or too many equal, to tell"
    if not predicts(rank):
        return "not shown to predict: may be chance" if _is_unsure(rank) else "does not predict"
    return "predicts" if rank.tau >= GOOD else "predicts weakly"


def _failing(names: dict[int, str], early: int, late: int, rank: Rank) -> str:
    """Which rung does not predict which, and why that is said."""
    ends = {min(names): "the first rung", max(names): "the last"}
    first, last = ends.get(early, names[early]), ends.get(late, names[late])
    if _is_unsure(rank):
        few = f"over {len(rank.influence):,} candidates, its order may be chance"
        return f"It is not shown that {first} predicts {last}: {few} (tau {tau_text(rank)})."
    why = "hardly better than chance" if rank.high >= 0 else "rather the opposite"
    begin = f"{first[0].upper()}{first[1:]} does not predict {last}"
    return f"{begin}: its order of the candidates is {why} (tau {tau_text(rank)})."


def _is_unsure(rank: Rank) -> bool:
    """A tau that would do, were there more candidates behind it."""
    return rank.low <= 0 and rank.tau >= LEAST


def once_for_all_words(run: RunRecord) -> tuple[str, ...]:
    """What was trained, how many of its sub-networks were judged, and what inherited accuracy is worth."""
    made, said = run.once_for_all, []
    if made is not None:
        error = f"{made.latency_error * 100:.1f}{numbers.NBSP}%" if isfinite(made.latency_error) else "an unknown share"
        each = numbers.count(made.networks_a_step, "sub-network")
        said.append(
            f"One elastic network that holds every candidate's was trained for {numbers.count(made.epochs, 'epoch')}, "
            f"{each} a step, in {numbers.duration(made.training_s)}. With weights inherited from it, "
            f"{numbers.count(made.evaluated, 'sub-network')} {'was' if made.evaluated == 1 else 'were'} judged in "
            f"{numbers.duration(made.search_s)}, under latencies predicted from {made.measured:,} measured ones: on "
            f"networks that it was not fitted to, the prediction is off by {error} (median)."
        )
    elif option(run, "strategy") == "once-for-all":
        said.append("The once-for-all network is not trained yet.")
    return (*said, *_inherited_words(run.trials))


def _inherited_words(trials: Sequence[TrialRecord]) -> list[str]:
    """Inherited accuracy beside a plain count of weights, at the highest rung that enough candidates reached."""
    names = rung_names(trials)
    known = [t for t in own_trials(trials) if t.inherited_accuracy is not None and t.costs and t.rungs]
    if not known:
        return []
    reached = {e: [t for t in known if _at(t, e) is not None] for e in sorted(names, reverse=True)}
    epochs = next((e for e, them in reached.items() if len(them) >= FEWEST), None)
    if epochs is None:
        count = numbers.count(len(known), "candidate")
        return [f"Whether inherited accuracy predicts an own training cannot be told from {count}."]
    them = reached[epochs]
    own = [_at(t, epochs) or 0.0 for t in them]
    inherited = rank_correlation([t.inherited_accuracy or 0.0 for t in them], own)
    counted = rank_correlation([float(t.costs.parameters) for t in them if t.costs], own)
    return [
        f"Rank correlation (Kendall's tau, 95{numbers.NBSP}% interval) with the accuracy of a training of their own, "
        f"at {names[epochs]}, over {len(them):,} candidates: inherited accuracy {tau_text(inherited)}, plain number of "
        f"weights {tau_text(counted)}. {_comparison(inherited, counted)}"
    ]


def _comparison(inherited: Rank | None, counted: Rank | None) -> str:
    if inherited is None:
        return "Inherited accuracy cannot be judged: all candidates are equal."
    poor = "" if predicts(inherited) else "Inherited accuracy does not predict an own training. "
    if counted is None:
        return poor + "The number of weights cannot be compared: all candidates are equal in it."
    if inherited.tau <= counted.tau:
        return poor + "Inherited accuracy does not beat the plain number of weights."
    if lead(inherited, counted)[0] <= 0:
        return poor + (
            "Inherited accuracy does not measurably beat the plain number of weights: its lead is within chance."
        )
    return poor + "Inherited accuracy beats the plain number of weights."
