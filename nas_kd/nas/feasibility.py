"""How a candidate's costs compare with the budget: what the gate, the sampler and the record are told."""

from math import log

from nas_kd.config.options import Budget
from nas_kd.errors import TrialError
from nas_kd.results.limits import over, spent, unmeasured, worst
from nas_kd.results.records import Costs, Counted, TrialRecord


def log_excess(costs: Counted, budget: Budget) -> float:
    """By how much the budget is missed: log of the worst ratio of cost to limit, at least -1; feasible at <= 0.

    Costs that are not known do not count: who must know them asks `require_measured`.
    """
    return max(-1.0, worst(spent(costs), budget))


def reason(costs: Counted, budget: Budget) -> str:
    """Why costs are out of the budget, in words."""
    return " and ".join(over(costs, budget))


def at_lower_bound(costs: Counted) -> Counted:
    """The same with the least latency that an unstable one may stand for."""
    if not isinstance(costs, Costs) or costs.latency_ms is None or not costs.unstable:
        return costs
    least = costs.latency_ms.model_copy(update={"p50": costs.latency_ms.low})
    return costs.model_copy(update={"latency_ms": least})


def is_borderline(costs: Counted, budget: Budget) -> bool:
    """Whether an unstable latency may lie on either side of its limit."""
    if not isinstance(costs, Costs) or costs.latency_ms is None or budget.max_latency_ms is None:
        return False
    return costs.unstable and costs.latency_ms.low <= budget.max_latency_ms < costs.latency_ms.high


def require_measured(costs: Counted, budget: Budget) -> None:
    """Refuse costs that are limited and were not measured: they could be anything.

    Raises:
        TrialError: says which.
    """
    if missing := unmeasured(costs, budget):
        what = " and ".join(f"its {limit.noun} (budget.{limit.option})" for limit in missing)
        raise TrialError(f"not measured: {what}; whether it is within the budget cannot be said")


def violation(record: TrialRecord, budget: Budget) -> float:
    """A trial's excess, as the sampler is told; of one that was not measured, that of the least latency expected."""
    if record.costs is None:
        return -1.0
    known = log_excess(record.costs, budget)
    skipped = record.status == "infeasible" and known <= 0 and record.forecast is not None
    if not skipped or record.forecast is None or budget.max_latency_ms is None:
        return known
    return log(record.forecast.least / budget.max_latency_ms)
