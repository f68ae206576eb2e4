"""The tables and pictures of `benchmarks/search_cost.py`, from the runs that are there."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchmarks.common import markdown_table
from benchmarks.runs import read_runs
from benchmarks.search_cost_arms import EARLY, ablation, family, samplers
from benchmarks.search_cost_cases import Case
from benchmarks.search_cost_figures import (
    USEFUL,
    Run,
    Step,
    by_seed,
    case_of,
    compare,
    our_events,
    read_judged,
    script_events,
    spread,
    steps,
)
from nas_kd.serialization import write_atomic

MEASURES = {
    "seen": "as each saw it, costs by one gate",
    "useful": f"of those, only candidates above {USEFUL:.0%} of the teacher's accuracy over chance",
    "own_costs": "as each saw it, the script's costs by itself",
    "judged": "fronts as each saw them, judged by one protocol",
}
RACE = frozenset({"plain", "ours", "judged"})
SPARE_LOAD = 0.75  # of the coordinator, and of what every system does
PLAIN, OURS = "#d55e00", "#0072b2"
FIXED = (
    "channels-last layout, the cache of the teacher's outputs, that of exports and latencies, the averaged weights, \
the spread of the first proposals and, as there is no chain here, shared assistants"
)


def write_report(folder: Path) -> None:
    """`report.md`, `result.json` and a picture a case, in `folder`."""
    runs = read_runs(folder)
    cases = sorted({name.split(".")[0] for name in runs})
    result: dict[str, Any] = {"errors": {n: r["error"] for n, r in runs.items() if "error" in r}, "cases": {}}
    parts = ["# What a search costs\n", INTRODUCTION]
    for name in cases:
        seeds = by_seed(runs, name)
        raced = {s: arms for s, arms in seeds.items() if arms.keys() >= RACE and arms["plain"]["trials"]}
        ablated, sampled = family(seeds, "arm_", "all_levers"), family(seeds, "sampler_", "trials")
        found: dict[str, Any] = {}
        if raced:
            found["races"] = races(raced)
            write_atomic(folder / f"{name}.png", picture(name, raced))
            parts.append(race_words(name, raced, found["races"]))
        if ablated:
            found["arms"] = ablation(ablated)
            parts.append(arm_words(name, ablated, found["arms"]))
        if sampled:
            found["samplers"] = samplers(sampled)
            parts.append(sampler_words(name, sampled, found["samplers"]))
        result["cases"][name] = found
    if result["errors"]:
        parts.append("Failed runs:\n\n" + "\n".join(f"- `{n}`: {e}" for n, e in result["errors"].items()))
    write_atomic(folder / "result.json", json.dumps(result, indent=1) + "\n")
    write_atomic(folder / "report.md", "\n\n".join(p.rstrip() for p in parts if p) + "\n")


def races(raced: Mapping[int, Mapping[str, Run]]) -> dict[str, Any]:
    """Figures of each seed, and the spread of the ratios."""
    each = {
        seed: compare(case_of(arms["plain"]), arms["plain"], arms["ours"], read_judged(arms["judged"]))
        for seed, arms in raced.items()
    }
    kinds = {m: [("ratio", "ratio")] for m in MEASURES} | {"seen": [("ratio", "ratio"), ("to_first", "ratio_to_first")]}
    summary = {m: {word: spread(_where_marked(each, m, key)) for word, key in kinds[m]} for m in MEASURES}
    return {"seeds": each, "summary": summary}


def _where_marked(each: Mapping[int, Mapping[str, Any]], measure: str, key: str) -> list[float | None]:
    """A figure of the seeds on which the script has a volume by this measure, and so set a mark."""
    return [e[measure][key] for e in each.values() if e[measure]["script_volume"]]


INTRODUCTION = """\
Hypervolume: that of `nas_kd.results.hypervolume`, of accuracy kept x log10 of times smaller x log10 of times faster
than the teacher, of candidates within the budget that were trained in full; ours count when their last rung ends, the
script's when their trial ends. Time: seconds since the process was started, imports, data, exports and measurements
included; the teacher's own training is in neither, as both read the same file. Both have the same space, splits,
epochs, batches, learning rate, kinds of augmentation, and soft targets as the one method; neither trains assistants.
The script (`benchmarks/plain_optuna.py`): fp32, a DataLoader, the live teacher, every trial
trained to its end, the default exporter, the mean of 100 calls, Optuna's default sampler with the budget as
constraints, which it learns of after training.

"Judged by one protocol": members of both fronts trained again by our engine with the full schedule and soft targets
from the same teacher, over the same seeds, and read on the test split; sizes and latencies by our gate for both. Ours
has arrived when its front of that moment, judged so, is as good as the script's last one. What a candidate's own recipe
adds is left out.
"""


def race_words(name: str, raced: Mapping[int, Mapping[str, Run]], found: Mapping[str, Any]) -> str:
    """One case against the script."""
    first = next(iter(raced.values()))
    case, plain = case_of(first["plain"]), first["plain"]
    exporters = ", ".join(sorted({runs["plain"]["exporter"] for runs in raced.values()}))
    head = ["seed", "script s", "ours s", "ratio", "script's volume", "ours in equal time", "judged ratio"]
    head += ["judged volume: script", "ours in equal time", "in budget: script", "ours proposed", "trained in full"]
    rows = [_race_cells(seed, e) for seed, e in found["seeds"].items()]
    summary = [
        [description, *(_summed_up(found, m, k) for k in ("ratio", "to_first"))] for m, description in MEASURES.items()
    ]
    parts = [
        f"## {name}: against a plain script\n",
        f"{_case_words(case)} Script: {case.trials} trials, exporter {exporters}, {plain['sampler']}, "
        f"{plain['threads']} training thread(s). Ours: {first['ours']['workers']} workers. {_machines(raced)}\n",
        markdown_table(head, rows),
        "Script's time over ours, geometric mean [smallest, largest] over seeds; `to first`: with the script's time "
        "counted only until it first had what it has at its end.\n",
        markdown_table(["hypervolume", "ratio", "to first"], summary),
        f"![hypervolume against time]({name}.png)\n",
    ]
    return "\n".join(parts)


def _summed_up(found: Mapping[str, Any], measure: str, kind: str) -> str:
    """A ratio over seeds, and on how many of them there was no mark to reach."""
    if kind not in found["summary"][measure]:
        return ""
    without = sum(not e[measure]["script_volume"] for e in found["seeds"].values())
    if without == len(found["seeds"]):
        return "the script has none"
    description = _ratio(found["summary"][measure][kind])
    return f"{description}, the script has none on {without}" if without else description


def _race_cells(seed: int, e: Mapping[str, Any]) -> list[str]:
    seen, judged = e["seen"], e["judged"]
    return [
        str(seed),
        f"{e['script_s']:.0f}",
        _maybe(seen["ours_s"], ".0f", "not reached"),
        _maybe(seen["ratio"], ".1f", "not reached"),
        f"{seen['script_volume']:.3f}",
        f"{seen['ours_volume_in_equal_time']:.3f}",
        _maybe(judged["ratio"], ".1f", "not reached"),
        f"{judged['script_volume']:.3f}",
        _maybe(judged["ours_volume_in_equal_time"], ".3f", ""),
        str(e["script_in_budget"]),
        str(e["ours_proposed"]),
        str(e["ours_finished"]),
    ]


def arm_words(name: str, ablated: Mapping[int, Mapping[str, Run]], arms: Mapping[str, Any]) -> str:
    """What each lever is worth."""
    first = next(iter(ablated.values()))["all_levers"]
    rows = [
        [
            f"`{arm}`" + "".join(f", {k} = {v}" for k, v in row["overrides"].items()),
            ", ".join(f"{v:.3f}" for v in row["volumes"]),
            _ratio(row["times_slower"]),
            ", ".join(map(str, row["proposed"])),
            ", ".join(map(str, row["trained"])),
            _ratio(row["throughput"], ".2f"),
        ]
        for arm, row in arms.items()
    ]
    head = ["search", "hypervolume, a seed each", "times as long", "proposed", "trained in full", "epochs a second"]
    description = (
        f"{_case_words(case_of(first))} {first['workers']} workers, {first['minutes']:g} minutes each; seeds "
        f"{', '.join(map(str, ablated))}. Times as long: to the volume that `all_levers` had after {EARLY:.0%} of its "
        "time. Epochs: of all candidates that were told, over the time from the first proposal to the last of them, "
        "times those of `all_levers`. Geometric means over seeds, in brackets the least and the most. Levers that no "
        f"option switches off: {FIXED}. {_machines(ablated)}\n"
    )
    return f"## {name}: one lever off at a time\n\n{description}\n" + markdown_table(head, rows)


def sampler_words(name: str, sampled: Mapping[int, Mapping[str, Run]], found: Mapping[str, Any]) -> str:
    """Samplers on the same evaluator."""
    first = next(iter(sampled.values()))["trials"]
    rows = [
        [
            f"`{arm}`",
            str(row["volume"]["seeds"]),
            f"{min(row['training_s']):.0f} to {max(row['training_s']):.0f}",
            *(_beside_ours(row[k], form, arm) for k, form in (("volume", ".3f"), ("useful", ".3f"), ("best", ".1%"))),
        ]
        for arm, row in found["summary"].items()
    ]
    head = ["search", "seeds", "training s", "hypervolume", f"above {USEFUL:.0%} of the teacher's", "best accuracy"]
    elastic = " `once_for_all` trains the best parts of an elastic network; the training of that counts too."
    description = (
        f"{_case_words(case_of(first))} {first['workers']} workers. Each beside `trials` once both had trained for as "
        "long as the one that trained less, summed over workers, and in brackets what `trials` had more, mean +- "
        "standard deviation over seeds, and on how many of them. `random`, `tpe`, `nsga2`: without rungs, every "
        f"candidate within the budget trained in full.{elastic if 'once_for_all' in found['summary'] else ''} "
        "What a candidate's earlier rungs cost counts when a later candidate was first told of. Accuracies are "
        f"those of the validation split. {_machines(sampled)}\n"
    )
    return f"## {name}: samplers, after equal training seconds\n\n{description}\n" + markdown_table(head, rows)


def _beside_ours(row: Mapping[str, Any], form: str, arm: str) -> str:
    if arm == "trials":
        return f"{row['mean']:{form}}"
    deviation = "" if row["ours_more_sd"] is None else f" +- {row['ours_more_sd']:{form}}"
    return f"{row['mean']:{form}} ({row['ours_more']:+{form}}{deviation}, {row['ours_ahead']} of {row['seeds']})"


def _case_words(case: Case) -> str:
    rows = "all rows" if case.rows is None else f"{case.rows:,} rows"
    return (
        f"Space {case.space}, {rows}, {case.epochs} epochs, batch {case.batch_size}; budget {case.max_latency_ms:g} ms "
        f"and {case.max_size_kb:g} kB."
    )


def _machines(seeds: Mapping[int, Mapping[str, Run]]) -> str:
    runs = [run for arms in seeds.values() for run in arms.values()]
    machines = [run["machine"] for run in runs]
    kinds = sorted({f"{m['cpu']}, {m['cores']} cores, torch {m['torch']}, Python {m['python']}" for m in machines})
    busy = [f"seed {s} {a}" for s, arms in seeds.items() for a, r in arms.items() if _was_disturbed(r)]
    said = f" WARNING: other processes were busy beside {', '.join(busy)}: those times mean nothing." if busy else ""
    highest = max(run["load_after"] for run in runs)
    return f"Machine: {'; '.join(kinds)}; highest load at the end of a run: {highest:.1f}.{said}"


def _was_disturbed(run: Run) -> bool:
    """Whether more wanted to run than this machine has cores; two threads that wait for each other suffer most."""
    return bool(max(run["load_after"], run["machine"]["load_1m"]) > run["machine"]["cores"] + SPARE_LOAD)


def _ratio(found: Mapping[str, Any] | None, form: str = ".1f") -> str:
    if found is None:
        return "not reached"
    missing = "" if found["seeds"] == found["of"] else f", not reached on {found['of'] - found['seeds']}"
    return f"{found['mean']:{form}} [{found['low']:{form}}, {found['high']:{form}}]{missing}"


def _maybe(value: float | None, form: str, otherwise: str) -> str:
    return otherwise if value is None else format(value, form)


def picture(name: str, raced: Mapping[int, Mapping[str, Run]]) -> bytes:
    """Hypervolume against time of both, a thin line a seed, and when the script ended. PNG."""
    with mpl.rc_context({"font.size": 9, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        for arms in raced.values():
            case, judged = case_of(arms["plain"]), read_judged(arms["judged"])
            script_s = arms["plain"]["trials"][-1]["elapsed_s"]
            _line(axes, steps(script_events(case, arms["plain"], judged), judged.seen), script_s, PLAIN)
            _line(axes, steps(our_events(case, arms["ours"]), judged.seen), script_s, OURS)
        for label, colour in (("plain script", PLAIN), ("nas-kd search", OURS)):
            axes.plot([], [], color=colour, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("seconds since the process was started")
        axes.set_ylabel("hypervolume")
        axes.set_title(f"{name}: what is known when, a line a seed", loc="left")
        axes.grid(alpha=0.3, which="both")
        axes.legend(loc="lower right", frameon=False)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _line(axes: Axes, history: Sequence[Step], until_s: float, colour: str) -> None:
    if history:
        times = [s.at_s for s in history] + [max(until_s, history[-1].at_s)]
        volumes = [s.volume for s in history] + [history[-1].volume]
        axes.step(times, volumes, where="post", color=colour, linewidth=0.9, alpha=0.8)
