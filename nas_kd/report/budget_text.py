"""Writes the budget in words: what it asks for, how much of it a network uses, how far a candidate is from it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nas_kd.report import number_format as fmt
from nas_kd.report.report_context import AXES, ReportContext
from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.fronts import reaches_min_score
from nas_kd.results.limits import LIMITS, CostName, active_limits, cost_values, ratios
from nas_kd.results.trial_record import Costs, TrialRecord

COST_ORDER: tuple[CostName, ...] = ("latency", "size", "memory", "macs")
WITHIN_BUDGET = "within the budget"
CARD_TITLES: Mapping[CostName, str] = {"memory": "Peak memory of a session", "macs": "Multiply-adds per sample"}


@dataclass(frozen=True)
class BudgetMiss:
    """A candidate that does not meet the budget. `excess`: by how much it misses each limit, in words."""

    id: str
    name: str
    description: str
    costs: str
    excess: str


@dataclass(frozen=True)
class LimitUse:
    """How much of a limit a network uses, for a cost without a plot. `share`: of the limit, None if not measured."""

    title: str
    value: str
    limit: str
    share: float | None


def has_budget(context: ReportContext) -> bool:
    """Return whether the budget limits any cost or asks for a score."""
    return bool(active_limits(context.budget)) or context.budget.least_score is not None


def budget_text(context: ReportContext) -> str:
    """Write the budget in words: `at most 500 µs and 100 kB on cpu-1t, with at least 90 % on validation`."""
    limits = {limit.name: most for limit, most in active_limits(context.budget)}
    costs = [_limit_text(name, limits[name]) for name in COST_ORDER if name in limits]
    device = f" on {context.run.device.name}" if context.run.device and "latency" in limits else ""
    text = f"at most {fmt.join_with_and(costs)}{device}" if costs else "any size and latency"
    return f"{text}, with {min_score_text(context)}" if context.budget.least_score is not None else text


def min_score_text(context: ReportContext) -> str:
    """Write the score that the budget asks for: `at least 90 % on validation`; empty if there is none."""
    minimum = context.budget.least_score
    named = "" if context.run.decides_on_headline else f" {context.score}"
    return "" if minimum is None else f"at least {minimum * 100:.6g}{fmt.NBSP}%{named} on validation"


def other_limited_costs(context: ReportContext, costs: Costs) -> list[str]:
    """Write the known costs, beside size and latency, that the budget limits: `1,200,000 multiply-adds`."""
    known = cost_values(costs)
    names = [limit.name for limit, _ in active_limits(context.budget) if limit.name not in AXES]
    return [_cost_text(name, value) for name in names if (value := known[name]) is not None]


def other_limits_used(context: ReportContext, costs: Costs) -> Iterator[LimitUse]:
    """Compute how much of each limit, beside size and latency, a network uses."""
    known = cost_values(costs)
    for limit, most in active_limits(context.budget):
        if limit.name not in AXES:
            value = known[limit.name]
            text = fmt.MISSING if value is None else _cost_text(limit.name, value)
            share = None if value is None else value / most
            yield LimitUse(CARD_TITLES[limit.name], text, f"limit {_limit_text(limit.name, most)}", share)


def budget_verdict(context: ReportContext, finalist: FinalistRecord) -> str:
    """State whether a finalist meets the budget; `WITHIN_BUDGET` if it meets all of it."""
    if not finalist.within_budget:
        return "over the budget"
    meets = reaches_min_score(finalist.val_score, context.budget)
    return (
        WITHIN_BUDGET
        if meets
        else "within the limits, but not accurate enough"
        if context.run.decides_on_headline
        else f"within the limits, but too low a {context.score}"
    )


def closest_to_budget(context: ReportContext, most: int = 5) -> tuple[BudgetMiss, ...]:
    """List the candidates that come closest to the budget.

    They are ordered by the worst factor by which they miss a limit, then by the product of the factors.
    """
    found: dict[str, tuple[tuple[float, float], BudgetMiss]] = {}
    candidates: list[FinalistRecord | TrialRecord] = [*context.run.finalists, *context.run.trials]
    for one in candidates:
        missed = {} if one.costs is None else _missed_limits(context, one)
        if one.costs is None or not missed:
            continue
        known = cost_values(one.costs)
        values = [fmt.size(known["size"]), fmt.latency(known["latency"]), *other_limited_costs(context, one.costs)]
        rank = (max(missed.values()), math.prod(missed.values()))
        name, excess = context.letters.get(one.id, one.id), fmt.join_with_and(missed)
        found.setdefault(one.id, (rank, BudgetMiss(one.id, name, one.description, ", ".join(values), excess)))
    return tuple(miss for _, miss in sorted(found.values(), key=lambda pair: pair[0])[:most])


def _missed_limits(context: ReportContext, one: FinalistRecord | TrialRecord) -> dict[str, float]:
    """What is missed, in words -> by which factor."""
    shares = {} if one.costs is None else ratios(cost_values(one.costs), context.budget)
    nouns = {limit.name: limit.noun for limit in LIMITS}
    missed = {f"{nouns[name]} {_excess_text(ratio)}": ratio for name, ratio in shares.items() if ratio > 1}
    minimum = context.budget.least_score
    if isinstance(one, FinalistRecord) and minimum is not None and not reaches_min_score(one.val_score, context.budget):
        val = one.val_score
        inside = f" (inside its 95{fmt.NBSP}% interval)" if val.high >= minimum else ""
        text = f"{context.score} {(minimum - val.mean) * 100:.2g} points too low{inside}"
        missed[text] = minimum / val.mean if val.mean > 0 else math.inf
    return missed


def _excess_text(ratio: float) -> str:
    return f"{(ratio - 1) * 100:.0f}{fmt.NBSP}% over" if ratio < 2 else f"{fmt.ratio(ratio)} the limit"


def _cost_text(name: CostName, value: float) -> str:
    if name == "macs":
        return f"{value:,.0f}{fmt.NBSP}multiply-adds"
    if name == "memory":
        return f"{fmt.size(value)} of memory"
    return fmt.size(value) if name == "size" else fmt.latency(value)


def _limit_text(name: CostName, value: float) -> str:
    return fmt.strip_trailing_zeros(_cost_text(name, value))
