"""The budget's limits on costs: one table of what can be limited, and all that follows from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log
from typing import Literal

from nas_kd.config.options import Budget
from nas_kd.results.records import Costs, Counted

Cost = Literal["macs", "size", "memory", "latency"]
ALWAYS: tuple[Cost, ...] = ("size", "latency")  # told of a network whether they are limited or not
CostValues = Mapping[Cost, float | None]  # in multiply-adds, bytes, bytes, ms; None: not known


@dataclass(frozen=True)
class Limit:
    """A cost that the budget can limit.

    `key`: the budget's attribute in the cost's own unit, and its name in front.json; `option`: in config.toml.
    `unit`, `per_unit` and `digits` say how a value is written.
    """

    name: Cost
    noun: str
    key: str
    option: str
    unit: str
    per_unit: float
    digits: str
    spent: Callable[[Counted], float | None]

    def of(self, budget: Budget) -> float | None:
        """The limit in the cost's own unit; None: there is none."""
        found: float | None = getattr(budget, self.key)
        return found

    def description(self, value: float) -> str:
        """A cost: `98.0 kB`, `0.21 ms`, `1,200 multiply-adds`."""
        return f"{value / self.per_unit:{self.digits}} {self.unit}"

    def limit_words(self, value: float) -> str:
        """A limit, which is exact: `60 kB`."""
        return f"{value / self.per_unit:,.12g} {self.unit}"


# In the order in which they are found out: the cheapest to know first.
LIMITS = (
    Limit("macs", "multiply-adds", "max_macs", "max_macs", "multiply-adds", 1, ",.0f", lambda c: c.macs),
    Limit(
        "size",
        "size",
        "max_size_bytes",
        "max_size_kb",
        "kB",
        1000,
        ".1f",
        lambda c: c.size_bytes if isinstance(c, Costs) else None,
    ),
    Limit(
        "memory",
        "peak memory",
        "max_memory_bytes",
        "max_memory_kb",
        "kB of memory",
        1000,
        ".1f",
        lambda c: c.memory_bytes if isinstance(c, Costs) else None,
    ),
    Limit(
        "latency",
        "latency",
        "max_latency_ms",
        "max_latency_ms",
        "ms",
        1,
        ".4g",
        lambda c: c.latency_ms.p50 if isinstance(c, Costs) and c.latency_ms else None,
    ),
)


def limited(budget: Budget) -> tuple[tuple[Limit, float], ...]:
    """What the budget limits, and how far."""
    return tuple((limit, most) for limit in LIMITS if (most := limit.of(budget)) is not None)


def spent(costs: Counted) -> CostValues:
    """Every cost, as far as it is known."""
    return {limit.name: limit.spent(costs) for limit in LIMITS}


def factors(values: CostValues, budget: Budget) -> dict[Cost, float]:
    """Cost over limit, of what is limited and known."""
    pairs = ((limit.name, values.get(limit.name), most) for limit, most in limited(budget))
    return {name: value / most for name, value, most in pairs if value is not None}


def worst(values: CostValues, budget: Budget) -> float:
    """By how much the budget is missed: log of the worst ratio of a known cost to its limit, feasible at <= 0."""
    return max((log(f) if f > 0 else -inf for f in factors(values, budget).values()), default=-1.0)


def over(costs: Counted, budget: Budget) -> tuple[str, ...]:
    """What is above its limit, in words: `120.0 kB > 60 kB`."""
    known = spent(costs)
    return tuple(
        f"{limit.description(value)} > {limit.limit_words(most)}"
        for limit, most in limited(budget)
        if (value := known[limit.name]) is not None and value > most
    )


def unmeasured(costs: Counted, budget: Budget) -> tuple[Limit, ...]:
    """What is limited, but not known."""
    known = spent(costs)
    return tuple(limit for limit, _ in limited(budget) if known[limit.name] is None)


def within_budget(costs: Counted, budget: Budget) -> bool:
    """Whether all that is limited is known and not above its limit."""
    return not over(costs, budget) and not unmeasured(costs, budget)


def costs_words(costs: Counted, budget: Budget) -> str:
    """`98.0 kB (1.96 times the limit), 0.21 ms (unstable)`: size and latency, and what else is limited."""
    known, times = spent(costs), factors(spent(costs), budget)
    said = []
    for limit in LIMITS:
        value, factor, asked = known[limit.name], times.get(limit.name, 0.0), limit.of(budget) is not None
        if value is not None and (asked or limit.name in ALWAYS):
            notes = [f"{factor:.3g} times the limit"] if factor > 1 else []
            notes += ["unstable"] if limit.name == "latency" and costs.unstable else []
            said.append(f"{limit.description(value)} ({', '.join(notes)})" if notes else limit.description(value))
        elif value is None and (asked or limit.name in ALWAYS):
            said.append(f"{limit.noun} not measured")
    return ", ".join(said)
