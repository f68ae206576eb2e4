"""`report.md` and `result.json` of `benchmarks/latency.py`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import markdown_table
from benchmarks.latency_figures import figures
from nas_kd.serialization import write_atomic

# Figure, what is wanted of it, and how it is written.
CLAIMS: tuple[tuple[str, str, float, bool, str], ...] = (
    ("quiet_spread", "spread of a file's medians, quiet, the worst file", 0.02, False, "{:.2%}"),
    ("busy_spread", "the same beside a busy process on the other core", 0.05, False, "{:.2%}"),
    ("quiet_covered", "later medians within an earlier interval, quiet", 0.9, True, "{:.1%}"),
    ("busy_covered", "the same beside a busy process", 0.9, True, "{:.1%}"),
    ("against_plain", "difference from a plain loop, the worst file", 0.03, False, "{:.2%}"),
    ("tau", "Kendall's tau of a ranking on two occasions", 0.97, True, "{:.3f}"),
    ("candidate_s", "seconds to measure one candidate, median", 1.5, False, "{:.2f}"),
    ("gate_s", "seconds to gate all fresh candidates", 300, False, "{:.0f}"),
)
PROTOCOL = """Every measurement is a fresh process (`measure_latency`, profile `cpu-1t`), and so is every plain loop \
(`plain_timing.py`: nothing shared, interleaved or corrected, bound to the core of the measurement before it; its \
figure is the median over its best tenths of a second, as ours is that of an undisturbed core). Files are measured by \
turns, round after round: quiet, then by the plain loop, then beside a process that multiplies matrices on the last \
core. Spread: largest / smallest median - 1. Coverage: over all pairs of measurements of a file, how often the later \
median lies within the earlier one's 95 % interval. The plain loop is compared by the median over those rounds in \
which it came within a tenth of its best.
"""


def write_report(out: Path, runs: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Raw runs and figures as `result.json`, and what they say as `report.md`."""
    found = figures(runs)
    result = {**about, "figures": found, "runs": runs}
    write_atomic(out / "result.json", json.dumps(result, indent=1) + "\n")
    parts = ["# Latency: how far the figure can be trusted\n", f"`{about['command']}`\n", PROTOCOL]
    parts += ["## What was wanted, and what was found\n", claims(found), "## By file\n", files(found)]
    parts += ["## int8 against fp32\n", speed_ups(found), "## Machine\n", machine(about)]
    if errors := {name: run["error"] for name, run in runs.items() if "error" in run}:
        parts += ["## Failed runs\n", "".join(f"- {name}: {reason}\n" for name, reason in errors.items())]
    write_atomic(out / "report.md", "\n".join(parts))


def claims(found: Mapping[str, Any]) -> str:
    """A row a claim, met or not."""
    rows = []
    for name, description, limit, at_least, form in CLAIMS:
        value = found[name]
        met = "not measured" if value is None else "yes" if (value >= limit if at_least else value <= limit) else "NO"
        written = "" if value is None else form.format(value)
        rows.append([description, f"{'>=' if at_least else '<='} {form.format(limit)}", written, met])
    counts = f"\nRanked: {found['candidates']} candidates. Gated: {found['gated']}"
    if found["gate_candidate_s"] is not None:
        counts += f", {found['gate_candidate_s']:.2f} s each (median; build, export, count, measure)"
    counts += f". Unstable: {found['quiet_unstable']} quiet, {found['busy_unstable']} busy.\n"
    return markdown_table(["figure", "wanted", "found", "met"], rows) + counts


def files(found: Mapping[str, Any]) -> str:
    """The table of files, one row each."""
    head = ["file", "quiet, ms", "spread", "uncorrected", "interval", "busy, ms", "spread", "busy / quiet", "plain, ms"]
    head += ["ours / plain", "covered", "unstable"]
    return markdown_table(head, [_row(name, figure) for name, figure in found["files"].items()])


def _row(name: str, figure: Mapping[str, Any]) -> list[str]:
    told = [figure[scene] for scene in ("quiet", "busy") if scene in figure]
    quiet, busy = figure.get("quiet"), figure.get("busy")
    return [
        name,
        f"{quiet['p50_ms']:.4g}" if quiet else "",
        f"{quiet['spread']:.2%}" if quiet else "",
        f"{quiet['uncorrected_spread']:.2%}" if quiet else "",
        f"+-{quiet['half_width']:.2%}" if quiet else "",
        f"{busy['p50_ms']:.4g}" if busy else "",
        f"{busy['spread']:.2%}" if busy else "",
        _signed(figure.get("busy_against_quiet")),
        f"{figure['plain_p50_ms']:.4g}" if "plain_p50_ms" in figure else "",
        _signed(figure.get("against_plain")),
        f"{sum(t['covered'] for t in told)} of {sum(t['pairs'] for t in told)}",
        f"{sum(t['unstable'] for t in told)} of {sum(t['measurements'] for t in told)}",
    ]


def speed_ups(found: Mapping[str, Any]) -> str:
    """How many times as fast int8 is, and where it is a loss."""
    rows = [[name, f"{times:.2f}"] for name, times in found["int8_speed_up"].items()]
    return markdown_table(["network", "times as fast as fp32 (below 1: slower)"], rows)


def machine(about: Mapping[str, Any]) -> str:
    """The machine on which the benchmark ran."""
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in about["environment"].items()) + ".\n"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2%}"
