"""How a candidate's costs compare with the budget: what the gate and the sampler decide by."""

from dataclasses import replace
from math import log

from nas_kd.config.options import Budget
from nas_kd.errors import TrialError
from nas_kd.results.limits import cost_values, describe_exceeded, unmeasured_limits, worst_log_ratio
from nas_kd.results.trial_record import Costs, TrialRecord


def log_excess(costs: Costs, budget: Budget) -> float:
    """Log of the worst ratio of a known cost to its limit, at least -1; feasible at <= 0.

    Costs that are not known are ignored; `require_measured` refuses them.
    """
    return max(-1.0, worst_log_ratio(cost_values(costs), budget))


def infeasible_reason(costs: Costs, budget: Budget) -> str:
    """Why costs exceed the budget, such as `120.0 kB > 60 kB and 0.6 ms > 0.5 ms`; empty if they do not."""
    return " and ".join(describe_exceeded(costs, budget))


def at_lower_bound(costs: Costs) -> Costs:
    """The same costs with an unstable latency replaced by the lower end of its interval."""
    latency = costs.latency_ms
    if latency is None or not latency.unstable:
        return costs
    return costs.model_copy(update={"latency_ms": replace(latency, p50=latency.low)})


def is_borderline(costs: Costs, budget: Budget) -> bool:
    """Whether the interval of an unstable latency contains the limit, so that the network may or may not meet it."""
    latency, limit = costs.latency_ms, budget.max_latency_ms
    if latency is None or limit is None:
        return False
    return latency.unstable and latency.low <= limit < latency.high


def require_measured(costs: Costs, budget: Budget) -> None:
    """Refuse costs of which a limited one is not known, as it could be anything.

    Raises:
        TrialError: A limited cost was not measured; the message names it.
    """
    if missing := unmeasured_limits(costs, budget):
        names = " and ".join(f"its {limit.noun} (budget.{limit.option})" for limit in missing)
        raise TrialError(f"not measured: {names}; whether it is within the budget is not known")


def violation(record: TrialRecord, budget: Budget) -> float:
    """The constraint value of a trial for the sampler, feasible at <= 0: `log_excess` of its costs.

    A trial that the prefilter skipped has no latency; the lower bound of its forecast counts instead.
    """
    if record.costs is None:
        return -1.0
    excess, limit = log_excess(record.costs, budget), budget.max_latency_ms
    was_skipped = record.status == "infeasible" and excess <= 0 and record.forecast is not None
    if not was_skipped or record.forecast is None or limit is None:
        return excess
    return log(record.forecast.least / limit)
