"""The budget's limits on costs: one table of what can be limited, and all that follows from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log
from typing import Literal

from nas_kd.config.options import Budget
from nas_kd.results.trial_record import Costs

CostName = Literal["macs", "size", "memory", "latency"]
CostValues = Mapping[CostName, float | None]  # in multiply-adds, bytes, bytes, ms; None: not known
ALWAYS_SHOWN: tuple[CostName, ...] = ("size", "latency")  # described whether they are limited or not


@dataclass(frozen=True)
class Limit:
    """A cost that the budget can limit.

    Attributes:
        name: Name of the cost.
        noun: The cost in a sentence.
        key: Attribute of `Budget` with the limit in the cost's own unit; also its name in front.json.
        option: Name of the limit in config.toml.
        unit: Unit in which values are written.
        per_unit: Size of that unit in the cost's own unit.
        digits: Format specification of a written value.
        value_of: Reads the value out of a network's costs; None if it is not known.
    """

    name: CostName
    noun: str
    key: str
    option: str
    unit: str
    per_unit: float
    digits: str
    value_of: Callable[[Costs], float | None]

    def maximum(self, budget: Budget) -> float | None:
        """The limit in the cost's own unit; None if the budget has none."""
        found: float | None = getattr(budget, self.key)
        return found

    def format(self, value: float) -> str:
        """A measured cost with its unit: `98.0 kB`, `0.21 ms`, `1,200 multiply-adds`."""
        return f"{value / self.per_unit:{self.digits}} {self.unit}"

    def describe_limit(self, maximum: float) -> str:
        """A limit with its unit, exact as the user wrote it: `60 kB`."""
        return f"{maximum / self.per_unit:,.12g} {self.unit}"


# In the order in which costs are found out, the cheapest first.
LIMITS = (
    Limit("macs", "multiply-adds", "max_macs", "max_macs", "multiply-adds", 1, ",.0f", lambda c: c.known_macs),
    Limit("size", "size", "max_size_bytes", "max_size_kb", "kB", 1000, ".1f", lambda c: c.size_bytes),
    Limit(
        name="memory",
        noun="peak memory",
        key="max_memory_bytes",
        option="max_memory_kb",
        unit="kB of memory",
        per_unit=1000,
        digits=".1f",
        value_of=lambda c: c.memory_bytes,
    ),
    Limit(
        name="latency",
        noun="latency",
        key="max_latency_ms",
        option="max_latency_ms",
        unit="ms",
        per_unit=1,
        digits=".4g",
        value_of=lambda c: c.latency_ms.p50 if c.latency_ms else None,
    ),
)


def active_limits(budget: Budget) -> tuple[tuple[Limit, float], ...]:
    """The limits that the budget sets, each with its maximum in the cost's own unit."""
    return tuple((limit, maximum) for limit in LIMITS if (maximum := limit.maximum(budget)) is not None)


def cost_values(costs: Costs) -> CostValues:
    """Every cost by name, None where it is not known."""
    return {limit.name: limit.value_of(costs) for limit in LIMITS}


def ratios(values: CostValues, budget: Budget) -> dict[CostName, float]:
    """Ratio of cost to limit, for every cost that is limited and known; above 1 the limit is exceeded."""
    pairs = ((limit.name, values.get(limit.name), maximum) for limit, maximum in active_limits(budget))
    return {name: value / maximum for name, value, maximum in pairs if value is not None}


def worst_log_ratio(values: CostValues, budget: Budget) -> float:
    """Log of the largest ratio of a known cost to its limit, feasible at <= 0; -1 if none is known."""
    return max((log(r) if r > 0 else -inf for r in ratios(values, budget).values()), default=-1.0)


def describe_exceeded(costs: Costs, budget: Budget) -> tuple[str, ...]:
    """A text for every known cost that is above its limit: `120.0 kB > 60 kB`."""
    values = cost_values(costs)
    return tuple(
        f"{limit.format(value)} > {limit.describe_limit(maximum)}"
        for limit, maximum in active_limits(budget)
        if (value := values[limit.name]) is not None and value > maximum
    )


def unmeasured_limits(costs: Costs, budget: Budget) -> tuple[Limit, ...]:
    """The limits that the budget sets on costs that are not known."""
    values = cost_values(costs)
    return tuple(limit for limit, _ in active_limits(budget) if values[limit.name] is None)


def within_budget(costs: Costs, budget: Budget) -> bool:
    """Whether every limited cost is known and not above its limit."""
    return not describe_exceeded(costs, budget) and not unmeasured_limits(costs, budget)


def describe_costs(costs: Costs, budget: Budget) -> str:
    """Size, latency and every other limited cost: `98.0 kB (1.96 times the limit), 0.21 ms (unstable)`."""
    values, times = cost_values(costs), ratios(cost_values(costs), budget)
    parts = []
    for limit in LIMITS:
        if limit.name not in ALWAYS_SHOWN and limit.maximum(budget) is None:
            continue
        value, ratio = values[limit.name], times.get(limit.name, 0.0)
        if value is None:
            parts.append(f"{limit.noun} not measured")
            continue
        notes = [f"{ratio:.3g} times the limit"] if ratio > 1 else []
        notes += ["unstable"] if limit.name == "latency" and costs.unstable else []
        parts.append(f"{limit.format(value)} ({', '.join(notes)})" if notes else limit.format(value))
    return ", ".join(parts)
