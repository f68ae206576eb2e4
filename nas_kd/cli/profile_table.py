"""What the terminal shows of a space before a search: ranges of costs, the budget, and how long it will take."""

import json
from collections.abc import Callable
from dataclasses import asdict
from math import isfinite
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nas_kd.commands.profile import CostRange, PrecisionProfile, SpaceProfile
from nas_kd.commands.time_estimate import MARGIN, TimeEstimate
from nas_kd.results.limits import LIMITS, active_limits

PARTS = {
    "teacher": "training the teacher",
    "outputs": "the teacher's outputs",
    "once_for_all": "elastic network and its search",
    "gate": "exporting and measuring",
    "assistants": "training assistants",
    "candidates": "distilling candidates",
    "finalists": "finalists and controls",
}


def profile_json(profile: SpaceProfile) -> str:
    """All of it, for programs."""
    value = asdict(profile) | {"budget": profile.budget.model_dump(exclude_none=True)}
    return json.dumps(_finite(value), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON has no infinity: nothing instead."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def print_profile(profile: SpaceProfile) -> None:
    """Size of the space, ranges by precision, the budget, and the time that a search will take."""
    console = Console()
    title = f"space {escape(profile.space)}: {profile.cardinality:,} students; measured on {escape(profile.device)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("")
    for column in ("smallest", "median", "largest", "measured"):
        table.add_column(column, justify="right")
    for of in profile.precisions:
        _add(table, f"size, {of.precision}", of.size_bytes, lambda v: f"{v / 1000:.1f} kB", str(of.measured))
        _add(table, f"latency, {of.precision}", of.latency_ms, lambda v: f"{v:.4g} ms", str(of.measured))
        if of.memory_bytes is not None:
            _add(table, f"peak memory, {of.precision}", of.memory_bytes, lambda v: f"{v / 1000:.0f} kB", "")
    _add(table, "multiply-adds", profile.macs, lambda v: f"{v:,.0f}", "")
    console.print(table)
    for line in (*_budget_lines(profile), *_time_lines(profile)):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _add(table: Table, name: str, values: CostRange, write: Callable[[float], str], measured: str) -> None:
    table.add_row(name, write(values.smallest), write(values.median), write(values.largest), measured)


def _budget_lines(profile: SpaceProfile) -> list[str]:
    budget = profile.budget
    asked = [limit.describe_limit(most) for limit, most in active_limits(budget)]
    if not asked:
        lines = ["budget: costs are not limited"]
    else:
        state = "reachable" if profile.reachable else "OUT OF REACH of all that were measured"
        lines = [f"budget: at most {', '.join(asked)}: {state}"]
        lines += [_share_line(of) for of in profile.precisions]
    if budget.min_accuracy is not None:
        lines.append(f"whether {budget.min_accuracy:.4g} of accuracy can be reached is known after training only")
    return lines


def _share_line(of: PrecisionProfile) -> str:
    """How much of the space fits, and what most of the rest misses."""
    share = of.share
    line = (
        f"{of.precision}: {share.within} of {share.drawn} drawn at random are within it: "
        f"{share.within / share.drawn:.0%} of the space (95 % interval {share.low:.0%} to {share.high:.0%})"
    )
    nouns = {limit.name: limit.noun for limit in LIMITS}
    if of.missed:
        missed = ", ".join(f"{nouns[name]} {number}" for name, number in sorted(of.missed.items(), key=lambda m: -m[1]))
        line += f"; above their limit: {missed}"
        line += f", so that {nouns[of.binding]} binds" if of.binding is not None and len(of.missed) > 1 else ""
    if not of.reachable:
        line += f"; the nearest misses it {of.nearest:.3g} times"
    return line + (f"; {of.failed} could not be measured" if of.failed else "")


def _time_lines(profile: SpaceProfile) -> list[str]:
    if profile.time is None:
        return ["how long a search takes is not known, as nothing that was measured is within the budget"]
    time = profile.time
    rungs = ", ".join(map(str, time.rungs))
    return [
        f"a search takes about {_between(time.low_s, time.high_s)} on this machine: a rough range, from a "
        f"few training steps ({time.step_s * 1000:.3g} ms each for a typical student) and {profile.gate_s:.2g} s a "
        f"measurement; rungs, in epochs: {rungs}",
        *_parts(time),
    ]


def _parts(time: TimeEstimate) -> list[str]:
    return [
        f"  {PARTS[name]}: {_between(low * MARGIN[0], high * MARGIN[1])}"
        for name, (low, high) in time.parts.items()
        if high > 0
    ]


def _between(low: float, high: float) -> str:
    first, last = _words(low), _words(high)
    return first if first == last else f"{first} to {last}"


def _words(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`: two digits are more than it is worth."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
