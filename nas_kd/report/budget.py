"""The budget in the report's words: what is asked for, what a network spends of it, and by how much one misses it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nas_kd.report import number_format as numbers
from nas_kd.report.report_context import AXES, ReportContext
from nas_kd.results.fronts import reaches
from nas_kd.results.limits import LIMITS, CostName, active_limits, cost_values, ratios
from nas_kd.results.records import Costs, FinalistRecord, TrialRecord

ORDER: tuple[CostName, ...] = ("latency", "size", "memory", "macs")
WITHIN = "within the budget"
TITLES: Mapping[CostName, str] = {"memory": "Peak memory of a session", "macs": "Multiply-adds of a sample"}


@dataclass(frozen=True)
class BudgetMiss:
    """A candidate that does not meet the budget, and by how much."""

    id: str
    name: str
    description: str
    costs: str
    by: str


@dataclass(frozen=True)
class BudgetUse:
    """What a network spends of a limited cost that has no picture; `share`: of the limit, None where not measured."""

    title: str
    figure: str
    limit: str
    share: float | None


def is_limited(context: ReportContext) -> bool:
    """Whether the budget asks for anything."""
    return bool(active_limits(context.budget)) or context.budget.min_accuracy is not None


def budget_words(context: ReportContext) -> str:
    """`at most 500 µs and 100 kB on cpu-1t, with at least 90 % on validation`."""
    limits = {limit.name: most for limit, most in active_limits(context.budget)}
    said = [_limit_words(name, limits[name]) for name in ORDER if name in limits]
    device = f" on {context.run.device.name}" if context.run.device and "latency" in limits else ""
    costs = f"at most {numbers.listing(said)}{device}" if said else "any size and latency"
    return f"{costs}, with {least_words(context)}" if context.budget.min_accuracy is not None else costs


def least_words(context: ReportContext) -> str:
    """`at least 90 % on validation`, or nothing."""
    least = context.budget.min_accuracy
    return "" if least is None else f"at least {least * 100:.6g}{numbers.NBSP}% on validation"


def extra_costs(context: ReportContext, costs: Costs) -> list[str]:
    """What else is limited, beside size and latency, and known: `1.2 M multiply-adds`."""
    known = cost_values(costs)
    names = [limit.name for limit, _ in active_limits(context.budget) if limit.name not in AXES]
    return [_words(name, value) for name in names if (value := known[name]) is not None]


def extra_used(context: ReportContext, costs: Costs) -> Iterator[BudgetUse]:
    """Limited costs beside size and latency, with the share of the limit that is spent."""
    known = cost_values(costs)
    for limit, most in active_limits(context.budget):
        if limit.name not in AXES:
            value = known[limit.name]
            figure = numbers.NONE if value is None else _words(limit.name, value)
            share = None if value is None else value / most
            yield BudgetUse(TITLES[limit.name], figure, f"limit {_limit_words(limit.name, most)}", share)


def verdict(context: ReportContext, finalist: FinalistRecord) -> str:
    """Whether a finalist meets all of the budget."""
    if not finalist.within_budget:
        return "over the budget"
    return WITHIN if reaches(finalist.val, context.budget) else "within the limits, but not accurate enough"


def closest_misses(context: ReportContext, most: int = 5) -> tuple[BudgetMiss, ...]:
    """Candidates by how much they miss the budget: the worst of the factors first, then their product."""
    found: dict[str, tuple[tuple[float, float], BudgetMiss]] = {}
    candidates: list[FinalistRecord | TrialRecord] = [*context.run.finalists, *context.run.trials]
    for one in candidates:
        missed = {} if one.costs is None else _missed(context, one)
        if one.costs is None or not missed:
            continue
        known = cost_values(one.costs)
        values = ", ".join(
            [numbers.size(known["size"]), numbers.latency(known["latency"]), *extra_costs(context, one.costs)]
        )
        rank = (max(missed.values()), math.prod(missed.values()))
        name = context.letters.get(one.id, one.id)
        found.setdefault(one.id, (rank, BudgetMiss(one.id, name, one.description, values, numbers.listing(missed))))
    return tuple(miss for _, miss in sorted(found.values(), key=lambda pair: pair[0])[:most])


def _missed(context: ReportContext, one: FinalistRecord | TrialRecord) -> dict[str, float]:
    """What is missed, in words, and the factor."""
    over = {} if one.costs is None else ratios(cost_values(one.costs), context.budget)
    nouns = {limit.name: limit.noun for limit in LIMITS}
    missed = {f"{nouns[name]} {_excess(factor)}": factor for name, factor in over.items() if factor > 1}
    least = context.budget.min_accuracy
    if isinstance(one, FinalistRecord) and least is not None and not reaches(one.val, context.budget):
        short = f"{(least - one.val.mean) * 100:.2g}"
        missed[f"accuracy {short} points too low"] = least / one.val.mean if one.val.mean > 0 else math.inf
    return missed


def _excess(factor: float) -> str:
    return f"{(factor - 1) * 100:.0f}{numbers.NBSP}% over" if factor < 2 else f"{numbers.factor(factor)} the limit"


def _words(name: CostName, value: float) -> str:
    if name == "macs":
        return f"{value:,.0f}{numbers.NBSP}multiply-adds"
    if name == "memory":
        return f"{numbers.size(value)} of memory"
    return numbers.size(value) if name == "size" else numbers.latency(value)


def _limit_words(name: CostName, value: float) -> str:
    return numbers.trimmed(_words(name, value))
