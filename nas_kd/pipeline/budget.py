"""How costs compare with the budget."""

from math import log

from nas_kd.config import Budget
from nas_kd.record import Costs


def excess(costs: Costs, budget: Budget) -> float:
    """By how much the budget is missed: log of the worst ratio of cost to limit, feasible at <= 0."""
    ratios = [-1.0]
    if budget.max_size_bytes is not None:
        ratios.append(log(costs.size_bytes / max(1, budget.max_size_bytes)))
    if budget.max_latency_ms is not None and costs.latency_ms is not None:
        ratios.append(log(costs.latency_ms.p50 / budget.max_latency_ms))
    return max(ratios)


def reason(costs: Costs, budget: Budget) -> str:
    """Why costs are out of the budget, in words."""
    said = []
    if budget.max_size_bytes is not None and costs.size_bytes > budget.max_size_bytes:
        said.append(f"{costs.size_bytes / 1000:.1f} kB > {budget.max_size_kb:g} kB")
    latency = costs.latency_ms
    if budget.max_latency_ms is not None and latency is not None and latency.p50 > budget.max_latency_ms:
        said.append(f"{latency.p50:.4g} ms > {budget.max_latency_ms:g} ms")
    return " and ".join(said)
