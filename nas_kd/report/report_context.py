"""A run together with what every section of the report asks of it: letters of finalists, fronts, winner, budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nas_kd.config.options import Budget
from nas_kd.report.number_format import column_decimals
from nas_kd.results.fronts import front_document
from nas_kd.results.latency import Latency
from nas_kd.results.limits import CostName, cost_values
from nas_kd.results.records import Costs, FinalistRecord, RunRecord, TrialRecord

Axis = Literal["size", "latency"]
AXES: tuple[Axis, ...] = ("size", "latency")


@dataclass(frozen=True)
class ReportContext:
    """`letters` names finalists A, B, C ... by size; `fronts` are those of front.json, by candidate id."""

    run: RunRecord
    budget: Budget
    letters: Mapping[str, str]
    fronts: Mapping[str, Mapping[str, bool]]
    winner: FinalistRecord | None
    places: int  # decimals of accuracies in percent

    @property
    def finalists(self) -> tuple[FinalistRecord, ...]:
        """By size, smallest first: the order of their letters."""
        return tuple(sorted(self.run.finalists, key=lambda f: self.letters[f.id].rjust(3)))

    def on_front(self, finalist: FinalistRecord, axis: Axis) -> bool:
        """Whether the finalist is a member of the accuracy-`axis` front (chosen on validation accuracy)."""
        return bool(self.fronts.get(finalist.id, {}).get(axis, False))

    def limit(self, axis: Axis) -> float | None:
        """The budget on this axis: bytes or milliseconds."""
        return self.budget.max_size_bytes if axis == "size" else self.budget.max_latency_ms


def context(run: RunRecord) -> ReportContext:
    """Everything that sections share, worked out once."""
    document = front_document(run)
    by_size = sorted(run.finalists, key=lambda f: (f.costs.require_size(), cost(f.costs, "latency") or 0.0, f.id))
    return ReportContext(
        run=run,
        budget=Budget.model_validate(run.config.get("budget") or {}),
        letters={f.id: _letters(n) for n, f in enumerate(by_size)},
        fronts={c["id"]: c["on_front"] for c in document["candidates"]},
        winner=next((f for f in run.finalists if f.id == document["winner"]), None),
        places=column_decimals(f.test for f in run.finalists),
    )


def cost(costs: Costs | None, name: CostName) -> float | None:
    """Bytes, multiply-adds, or the median latency in milliseconds; None where it was not measured."""
    return None if costs is None else cost_values(costs)[name]


def timing_of(costs: Costs | None) -> Latency | None:
    """The latency, where it was measured."""
    return costs.latency_ms if costs else None


def method_words(candidate: Mapping[str, Any]) -> str:
    """`soft_targets (temperature 4, strength 1.2)`."""
    params = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in candidate["params"].items())
    return f"{method_name(candidate)} ({params})" if params else method_name(candidate)


def method_name(candidate: Mapping[str, Any]) -> str:
    """`soft_targets + similarity`: with room to break the line."""
    return " + ".join(str(candidate["method"]).split("+"))


def assistant_descriptions(of: FinalistRecord | TrialRecord) -> str:
    """`teacher -> 3 stages, 32 wide -> student`; of a sum `teacher -> student + 3 stages, 32 wide`."""
    policy = of.candidate.get("policy", "sequential")
    if policy == "residual":
        return f"teacher \u2192 {' + '.join(('student', *of.assistant_descriptions))}"
    description = " \u2192 ".join(("teacher", *of.assistant_descriptions, "student"))
    return f"{description} (dense)" if policy == "dense" else description


def _letters(number: int) -> str:
    """0 -> A, 25 -> Z, 26 -> AA."""
    head, tail = divmod(number, 26)
    return (_letters(head - 1) if head else "") + chr(ord("A") + tail)
