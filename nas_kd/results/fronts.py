"""Chooses a run's Pareto fronts and its winner, on the validation score, and says which candidates come closest.

The score is accuracy unless the config chooses another (`data.score`). Test figures are reported beside it and never
used to choose.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import Literal, NamedTuple

from nas_kd.config.options import Budget
from nas_kd.results.finalist_record import Accuracy, FinalistRecord
from nas_kd.results.limits import cost_values, describe_costs, ratios, unmeasured_limits, within_budget
from nas_kd.results.pareto import non_dominated
from nas_kd.results.trial_record import Costs, TrialRecord

Axis = Literal["size", "latency"]
# The costs that each front trades against the score.
FRONT_AXES: Mapping[str, tuple[Axis, ...]] = {"size": ("size",), "latency": ("latency",), "joint": ("size", "latency")}


def reaches_min_score(val_score: Accuracy, budget: Budget) -> bool:
    """Return whether a mean score on validation reaches the budget's `min_score`; true if there is none."""
    return budget.least_score is None or val_score.mean >= budget.least_score


def describe_uncertain_minimum(val_score: Accuracy, budget: Budget) -> str:
    """Say that the validation samples cannot tell whether the `min_score` is reached; empty where they can.

    Args:
        val_score: the score on validation.
        budget: with or without a `min_score`.
    """
    least = budget.least_score
    if least is None or not val_score.low < least <= val_score.high:
        return ""
    return (
        f"its 95 % interval, {val_score.low * 100:.1f} to {val_score.high * 100:.1f} % on {val_score.samples:,} "
        f"validation samples, has the minimum of {least * 100:.6g} % inside: more samples or seeds could decide "
        "otherwise"
    )


def winner(finalists: Iterable[FinalistRecord], budget: Budget) -> FinalistRecord | None:
    """Choose the finalist to deploy, on the validation score.

    Without a `min_score`, the best finalist within the budget wins; ties go to the smaller, then the faster, then the
    lower id. With a `min_score`, the fastest of those that reach it wins; ties go to the better, then the smaller, then
    the lower id.

    Args:
        finalists: the fully trained candidates, in any order.
        budget: limits on costs, and the least score.

    Returns:
        The winner, or None if no finalist meets the budget.
    """
    allowed = (f for f in finalists if within_budget(f.costs, budget) and reaches_min_score(f.val_score, budget))
    order = best_score_first if budget.least_score is None else _latency_first
    return min(allowed, key=order, default=None)


def front_members(finalists: Sequence[FinalistRecord]) -> dict[str, frozenset[str]]:
    """Find the members of the score-size, score-latency and joint Pareto fronts, whatever the budget.

    Args:
        finalists: compared by mean score on validation; one without a measured latency is on the size front at most.

    Returns:
        Candidate ids of each front, by its name: "size", "latency", "joint".
    """
    return {name: _non_dominated_ids(finalists, axes) for name, axes in FRONT_AXES.items()}


def overlapping_finalists(finalists: Sequence[FinalistRecord]) -> dict[str, tuple[str, ...]]:
    """For each finalist, list the members of the same front whose 95 % validation intervals overlap its own.

    Returns:
        Sorted ids of the others, by candidate id; they cannot be distinguished from it in their score.
    """
    fronts = front_members(finalists).values()

    def overlap(a: FinalistRecord, b: FinalistRecord) -> bool:
        same_front = any(a.id in front and b.id in front for front in fronts)
        return (
            a.id != b.id and same_front and a.val_score.low <= b.val_score.high and b.val_score.low <= a.val_score.high
        )

    return {f.id: tuple(sorted(other.id for other in finalists if overlap(f, other))) for f in finalists}


def describe_closest_trials(trials: Iterable[TrialRecord], budget: Budget, most: int = 3) -> str:
    """Describe the trials that come closest to the budget, and the factor by which they exceed each limit.

    Args:
        trials: those without costs are left out.
        budget: the limits that they miss.
        most: how many to describe.
    """
    known = {t.id: _MeasuredCandidate(f"trial {t.number}", t.description, t.costs) for t in trials if t.costs}
    return _describe_closest(known.values(), budget, most)


def describe_closest_finalists(finalists: Iterable[FinalistRecord], budget: Budget, most: int = 3) -> str:
    """Describe the finalists that come closest to the budget, with their score if a `min_score` is set.

    Args:
        finalists: the fully trained candidates.
        budget: the limits that they miss.
        most: how many to describe.
    """
    known = {f.id: _MeasuredCandidate(f"trial {f.trial}", f.description, f.costs, f.val_score) for f in finalists}
    return _describe_closest(known.values(), budget, most)


def _non_dominated_ids(finalists: Sequence[FinalistRecord], axes: Sequence[Axis]) -> frozenset[str]:
    ids, rows = [], []
    for f in finalists:
        costs = cost_values(f.costs)
        row = [-f.val_score.mean, *(c for axis in axes if (c := costs[axis]) is not None)]
        if len(row) == 1 + len(axes) and all(map(isfinite, row)):
            ids.append(f.id)
            rows.append(row)
    return frozenset(name for name, is_member in zip(ids, non_dominated(rows), strict=True) if is_member)


def best_score_first(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    """Sort key: the best score on validation first; of equals the smaller, then the faster, then the lower id."""
    return -finalist.val_score.mean, finalist.costs.require_size(), _median_ms(finalist), finalist.id


def _latency_first(finalist: FinalistRecord) -> tuple[float, float, float, str]:
    return _median_ms(finalist), -finalist.val_score.mean, finalist.costs.require_size(), finalist.id


def _median_ms(finalist: FinalistRecord) -> float:
    """Infinity if it was not measured: it loses every comparison."""
    return finalist.costs.latency_ms.p50 if finalist.costs.latency_ms else inf


class _MeasuredCandidate(NamedTuple):
    """A trial or finalist with known costs. `val_score`: on validation, None for trials."""

    name: str
    description: str
    costs: Costs
    val_score: Accuracy | None = None


def _describe_closest(known: Iterable[_MeasuredCandidate], budget: Budget, most: int) -> str:
    ranked = sorted(known, key=lambda n: (_worst_ratio(n, budget), cost_values(n.costs)["size"] or inf))
    if not ranked:
        return "none, as no candidate was measured"
    return "; ".join(f"{c.name} ({c.description}): {_costs_and_score(c, budget)}" for c in ranked[:most])


def _worst_ratio(candidate: _MeasuredCandidate, budget: Budget) -> float:
    """Largest factor by which a limit is missed; infinite if no known limit is missed but some cost is unknown."""
    found = [*ratios(cost_values(candidate.costs), budget).values()]
    if candidate.val_score is not None and budget.least_score is not None:
        found.append(budget.least_score / candidate.val_score.mean if candidate.val_score.mean > 0 else inf)
    worst = max(found, default=0.0)
    return inf if worst <= 1 and unmeasured_limits(candidate.costs, budget) else worst


def _costs_and_score(candidate: _MeasuredCandidate, budget: Budget) -> str:
    text, val = describe_costs(candidate.costs, budget), candidate.val_score
    if val is None or budget.least_score is None:
        return text
    missing = budget.least_score - val.mean
    inside = f", within its 95 % interval of {val.low:.1%} to {val.high:.1%}" if val.high >= budget.least_score else ""
    below = f" ({missing * 100:.3g} points below the minimum{inside})" if missing > 0 else ""
    return f"{text}, {val.mean:.2%} on validation{below}"
