"""Prints what is known of a space before a search: ranges of costs, the budget, and how long a search takes."""

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

PART_NAMES = {
    "teacher": "training the teacher",
    "recipe": "trying training recipes",
    "outputs": "the teacher's outputs",
    "once_for_all": "elastic network and its search",
    "gate": "exporting and measuring",
    "assistants": "training assistants",
    "candidates": "distilling candidates",
    "finalists": "finalists and controls",
}


def profile_json(profile: SpaceProfile) -> str:
    """Serialize a profile for programs; infinite values become null."""
    value = asdict(profile) | {"budget": profile.budget.model_dump(exclude_none=True)}
    return json.dumps(_without_infinity(value), indent=1, allow_nan=False)


def _without_infinity(value: Any) -> Any:
    """Replace infinite numbers, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {k: _without_infinity(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def print_profile(profile: SpaceProfile) -> None:
    """Print the size of the space, ranges of costs by precision, the budget, and the time that a search takes."""
    console = Console()
    title = f"space {escape(profile.space)}: {profile.cardinality:,} students; measured on {escape(profile.device)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("")
    for column in ("smallest", "median", "largest", "measured"):
        table.add_column(column, justify="right")
    for one in profile.precisions:
        _add_row(table, f"size, {one.precision}", one.size_bytes, lambda v: f"{v / 1000:.1f} kB", str(one.measured))
        _add_row(table, f"latency, {one.precision}", one.latency_ms, lambda v: f"{v:.4g} ms", str(one.measured))
        if one.memory_bytes is not None:
            _add_row(table, f"peak memory, {one.precision}", one.memory_bytes, lambda v: f"{v / 1000:.0f} kB", "")
    _add_row(table, "multiply-adds", profile.macs, lambda v: f"{v:,.0f}", "")
    console.print(table)
    for name, description in profile.dimensions.items():
        console.print(escape(f"{name}: {description}"), highlight=False, soft_wrap=True)
    for line in (*_budget_lines(profile), *_time_lines(profile)):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _add_row(table: Table, name: str, values: CostRange, to_text: Callable[[float], str], measured: str) -> None:
    table.add_row(name, to_text(values.smallest), to_text(values.median), to_text(values.largest), measured)


def _budget_lines(profile: SpaceProfile) -> list[str]:
    budget = profile.budget
    asked = [limit.describe_limit(most) for limit, most in active_limits(budget)]
    if not asked:
        lines = ["budget: no limits on costs"]
    else:
        state = "reachable" if profile.reachable else "OUT OF REACH: no measured network meets it"
        lines = [f"budget: at most {', '.join(asked)}: {state}"]
        lines += [_share_line(one) for one in profile.precisions]
    if budget.least_score is not None:
        lines.append(f"whether a score of {budget.least_score:.4g} can be reached is known only after training")
    return lines


def _share_line(profile: PrecisionProfile) -> str:
    """How much of the space fits the budget in one precision, and which limit most of the rest misses."""
    share = profile.share
    if not share.drawn:
        return f"{profile.precision}: none of the random networks was measured"
    line = (
        f"{profile.precision}: {share.within} of {share.drawn} random networks are within the budget: "
        f"{share.within / share.drawn:.0%} of the space (95 % interval {share.low:.0%} to {share.high:.0%})"
    )
    nouns = {limit.name: limit.noun for limit in LIMITS}
    if profile.missed:
        by_count = sorted(profile.missed.items(), key=lambda item: -item[1])
        line += f"; above their limit: {', '.join(f'{nouns[name]} {number}' for name, number in by_count)}"
        if profile.binding is not None and len(profile.missed) > 1:
            line += f" ({nouns[profile.binding]} is the tightest limit)"
    if not profile.reachable:
        line += f"; the closest is at {profile.nearest:.3g} times a limit"
    return line + (f"; {profile.failed} could not be measured" if profile.failed else "")


def _time_lines(profile: SpaceProfile) -> list[str]:
    if profile.stopped:
        n = sum(one.measured + one.failed for one in profile.precisions)
        return [
            f"stopped as time was over: {n} of {profile.planned} networks were measured, and the time of a search was "
            "not estimated; give more --max-minutes, or a smaller --sample"
        ]
    if profile.time is None:
        return ["the time of a search is unknown, as no measured network is within the budget"]
    time = profile.time
    rungs = ", ".join(map(str, time.rungs))
    return [
        f"a search takes about {_duration_range(time.low_s, time.high_s)} on this machine: a rough range, from a "
        f"few training steps ({time.step_s * 1000:.3g} ms each for a typical student) and {profile.gate_s:.2g} s per "
        f"measurement; rungs, in epochs: {rungs}",
        *_part_lines(time),
    ]


def _part_lines(time: TimeEstimate) -> list[str]:
    return [
        f"  {PART_NAMES[name]}: {_duration_range(low * MARGIN[0], high * MARGIN[1])}"
        for name, (low, high) in time.parts.items()
        if high > 0
    ]


def _duration_range(low: float, high: float) -> str:
    first, last = _duration_text(low), _duration_text(high)
    return first if first == last else f"{first} to {last}"


def _duration_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`: the estimate justifies no more digits."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
