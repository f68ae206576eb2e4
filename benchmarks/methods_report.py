"""The table and the picture of `benchmarks/methods.py`, from the runs that are there."""

import json
from collections import defaultdict
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from statistics import fmean, median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.cifar_trainings import Settings
from benchmarks.common import markdown_table
from benchmarks.runs import read_runs
from nas_kd.results.intervals import paired_gain, t_quantile
from nas_kd.serialization import write_atomic

CONTROL, SMOOTHING = "none", "label_smoothing"
# Top-1 on CIFAR-10, ResNet-56 (94.01 %) -> ResNet-20, %, one run each, as the survey's table has them.
PUBLISHED_CONTROL = 92.36
PUBLISHED = {
    "soft_targets": 92.43,
    "crd": 92.69,
    "fitnet": 92.86,
    "attention_transfer": 92.89,
    "afd": 92.90,
    "fsp": 92.48,
    "rkd": 92.89,
    "irg": 92.95,
    "similarity": 93.14,
    "dml": 92.93,
    "one": 93.08,
    "okddip": 93.24,
    "adaptive_teachers": 92.53,
}
HEAD = ["method", "weights", "seeds", "test %", "gain over `none`, points", f"over `{SMOOTHING}`", "published gain"]
HEAD += ["step / `none`", "peak MiB (`none`)", "trains", "teachers", "needs"]
STEP_COST = Path("reports/step_cost/methods.json")
Rows = list[dict[str, Any]]


def write_report(folder: Path, title: str, settings: Settings) -> None:
    """`result.json`, `report.md` and `gains.png` in `folder`."""
    runs = read_runs(folder)
    good = [r for r in runs.values() if "method" in r]
    errors = {name: r["error"] for name, r in runs.items() if "error" in r}
    teachers = [r for r in runs.values() if "number" in r]
    rows = summarise(good)
    result = {
        "title": title,
        "settings": asdict(settings),
        "machines": machines(good),
        "teachers": teachers,
        "teachers_differ": teachers_differ(good),
        "errors": errors,
        "methods": rows,
    }
    write_atomic(folder / "result.json", json.dumps(result, indent=1) + "\n")
    write_atomic(folder / "report.md", markdown(result, rows))
    if any(row["gain"] is not None for row in rows):
        write_atomic(folder / "gains.png", picture(title, rows))


def summarise(runs: Rows) -> Rows:
    """One row for each (block, method, weights): means, and gains over the control of the same block and seed."""
    groups: dict[tuple[str, str, bool], dict[int, dict[str, Any]]] = defaultdict(dict)
    for run in runs:
        groups[run["block"], run["method"], run["calibrated"]][run["seed"]] = run
    rows = []
    for key, by_seed in groups.items():
        control, smoothing = (groups.get((key[0], name, True), {}) for name in (CONTROL, SMOOTHING))
        rows.append(_row(by_seed, control, smoothing))
    return sorted(rows, key=lambda r: (r["block"], r["method"] != CONTROL, -(r["gain"] or {"mean": -9})["mean"]))


Runs = dict[int, dict[str, Any]]  # by seed


def _gain(by_seed: Runs, control: Runs) -> dict[str, Any] | None:
    """The mean gain over a control with its interval, paired by seed; None: there is no pair, or it is the control."""
    paired = [s for s in sorted(by_seed) if s in control and by_seed is not control]
    if not paired:
        return None
    ours, others = ([group[s]["test"] for s in paired] for group in (by_seed, control))
    found = paired_gain(ours, others, by_seed[paired[0]]["test_samples"])
    return {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.seeds}


def _row(by_seed: Runs, control: Runs, smoothing: Runs) -> dict[str, Any]:
    seeds = sorted(by_seed)
    first = by_seed[seeds[0]]
    timed = [s for s in seeds if s in control and by_seed[s]["cpu_ms_per_step"] and control[s]["cpu_ms_per_step"]]
    ratios = [by_seed[s]["cpu_ms_per_step"] / control[s]["cpu_ms_per_step"] for s in timed]
    published = PUBLISHED.get(first["method"])
    return {
        "block": first["block"],
        "method": first["method"],
        "weights": "calibrated" if first["calibrated"] else "published",
        "seeds": seeds,
        "test": fmean(by_seed[s]["test"] for s in seeds),
        "tests": {s: by_seed[s]["test"] for s in seeds},
        "test_last": fmean(by_seed[s]["test_last"] for s in seeds),
        "val": fmean(by_seed[s]["val"] for s in seeds),
        "gain": _gain(by_seed, control),
        "gain_over_smoothing": None if first["method"] == CONTROL else _gain(by_seed, smoothing),
        "published_gain": None if published is None else round(published - PUBLISHED_CONTROL, 2),
        "ms_per_step": median(by_seed[s]["ms_per_step"] for s in seeds),
        "step_ratio": median(ratios) if ratios else None,
        "seconds": fmean(by_seed[s]["seconds"] for s in seeds),
        "peak_mib": median(by_seed[s]["peak_mib"] for s in seeds),
        "control_peak_mib": median(r["peak_mib"] for r in control.values()) if control else None,
        **{k: first[k] for k in ("needs", "shown", "networks", "generations", "data_free", "live_teacher")},
        "calibration": first["calibration"],
        "losses": first["losses"],
    }


def machines(runs: Rows) -> list[str]:
    """The machines on which the runs were made."""
    said = (
        f"{r['cpu']}, {r['threads']} thread(s), torch {r['torch']}, {'bf16' if r['bf16'] else 'fp32'}" for r in runs
    )
    return sorted(set(said))


def teachers_differ(runs: Rows) -> bool:
    """Whether a teacher was trained anew between runs."""
    keys: dict[int, set[str]] = defaultdict(set)
    for teacher in (t for run in runs for t in run["teachers"] if "number" in t):
        keys[teacher["number"]].add(teacher["key"])
    return any(len(k) > 1 for k in keys.values())


def markdown(result: dict[str, Any], rows: Rows) -> str:
    """The report as Markdown text."""
    settings = result["settings"]
    parts = [f"# Every method, {result['title']}, CIFAR-10\n", _settings_words(settings, result)]
    apart = side_by_side(settings)
    for block, heading in (
        ("main", ""),
        ("pairs", "## Paired inputs: grey images for the student, colours for its teacher"),
    ):
        members = [r for r in rows if r["block"] == block]
        if members:
            parts += [heading] * bool(heading) + [markdown_table(HEAD, [_cells(r, apart) for r in members])]
    parts.append(_verdicts(rows))
    if apart:
        parts.append(f"`step / none` is that of {STEP_COST} (steps side by side) where it says `*`.\n")
    parts.append("![gains](gains.png)\n" if any(r["gain"] for r in rows) else "")
    if result["errors"]:
        parts += ["Failed runs:", "\n".join(f"- `{name}`: {error}" for name, error in result["errors"].items())]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def _settings_words(settings: dict[str, Any], result: dict[str, Any]) -> str:
    rows = "all" if settings["rows"] is None else f"the first {settings['rows']:,}"
    taught = ", ".join(f"{t['test']:.2%}" for t in sorted(result["teachers"], key=lambda t: int(t["number"])))
    lines = [
        f"{rows} training rows, {settings['val_fraction']:.0%} of them for validation; {settings['epochs']} epochs, "
        f"batch {settings['batch_size']}, peak learning rate {settings['learning_rate']}, warm-up and cosine, shifts "
        "and mirroring; equal seeds have equal initial weights and orders. Judged: the averaged weights, on the test "
        "images. Intervals: 95 %, paired by seed, over seeds and test images.",
        f"Teachers: {taught} on test." if taught else "",
        "WARNING: a teacher was trained anew between runs; their gains are not of one teacher."
        if result["teachers_differ"]
        else "",
        "Machines: "
        + "; ".join(result["machines"])
        + ". `step / none` compares processor time of runs of the same seed.",
        "`published gain`: ResNet-56 -> ResNet-20, all images, one run each.",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _points(gain: dict[str, Any] | None) -> str:
    """`+0.52 [+0.10, +0.94]`, percentage points."""
    return f"{gain['mean'] * 100:+.2f} [{gain['low'] * 100:+.2f}, {gain['high'] * 100:+.2f}]" if gain else ""


def _cells(row: dict[str, Any], apart: dict[str, float]) -> list[str]:
    published, ratio = row["published_gain"], row["step_ratio"]
    step = f"{apart[row['method']]:.2f}*" if row["method"] in apart else "" if ratio is None else f"{ratio:.2f}"
    peak = f"{row['peak_mib']:.0f}" + (f" ({row['control_peak_mib']:.0f})" if row["control_peak_mib"] else "")
    trains = f"{row['networks']:.3g}" + (f" x {row['generations'] + 1} generations" if row["generations"] else "")
    needs = ["no images"] * row["data_free"] + ["live teacher"] * row["live_teacher"] + row["needs"]
    return [
        f"`{row['method']}`",
        row["weights"],
        str(len(row["seeds"])),
        f"{row['test'] * 100:.2f}",
        _points(row["gain"]),
        _points(row["gain_over_smoothing"]),
        "" if published is None else f"{published:+.2f}",
        step,
        peak,
        trains,
        str(row["shown"]),
        ", ".join(needs),
    ]


def holm(p_values: list[float]) -> list[bool]:
    """Which of several hypotheses are rejected at 5 % over all of them (Holm 1979)."""
    rejected, n = [False] * len(p_values), len(p_values)
    for rank, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        if p_values[i] > 0.05 / (n - rank):
            break
        rejected[i] = True
    return rejected


def p_value(gain: dict[str, Any]) -> float:
    """Two-sided p of no difference, from a 95 % interval by Student's t over paired seeds; 1 with a single seed."""
    if gain["seeds"] < 2:
        return 1.0
    df, half = gain["seeds"] - 1, gain["high"] - gain["mean"]
    return float(2 * stats.t.sf(abs(gain["mean"]) / half * t_quantile(df), df))


def _verdicts(rows: Rows) -> str:
    judged = [r for r in rows if r["gain"]]
    certain = dict(zip(map(_label, judged), holm([p_value(r["gain"]) for r in judged]), strict=True))
    worse = [r for r in judged if r["gain"]["high"] < 0 and certain[_label(r)]]
    better = [r for r in judged if r["gain"]["low"] > 0]
    groups = {
        "Better than `none` (interval above 0)": better,
        "of these also after Holm's correction over the table": [r for r in better if certain[_label(r)]],
        "No difference shown": [r for r in judged if r not in better and r not in worse],
        "Worse than `none` (after Holm's correction)": worse,
    }
    lines = (
        f"- {description}: {', '.join(_label(r) for r in members) or 'none'}."
        for description, members in groups.items()
    )
    return "\n".join(lines) + "\n" if judged else ""


def _label(row: dict[str, Any]) -> str:
    """`fitnet`, `fitnet (published weights)`, `cross_modal (paired)`."""
    extra = ["published weights"] * (row["weights"] == "published") + ["paired"] * (row["block"] == "pairs")
    return str(row["method"]) + (f" ({', '.join(extra)})" if extra else "")


def side_by_side(settings: dict[str, Any]) -> dict[str, float]:
    """Step time relative to `none` from `benchmarks/method_cost.py`, by method, if it was run on these networks."""
    if not STEP_COST.exists():
        return {}
    found = json.loads(STEP_COST.read_text())
    if found["blocks"] != [settings["teacher_blocks"], settings["student_blocks"]]:
        return {}
    return {name: m["to_none"]["median"] for name, m in found["methods"].items() if "to_none" in m}


def picture(title: str, rows: Rows) -> bytes:
    """Horizontal intervals of the gains, best on top; diamonds: published ones. PNG."""
    judged = [r for r in rows if r["gain"]][::-1]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(8, 1.4 + 0.26 * len(judged)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(judged):
            mean, low, high = (row["gain"][k] * 100 for k in ("mean", "low", "high"))
            hue = "#1b7f3b" if low > 0 else "#b3261e" if high < 0 else "#5f6368"
            axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="o", color=hue, capsize=3, markersize=5)
            if row["published_gain"] is not None:
                axes.plot(row["published_gain"], y, "D", color="#e08a00", markersize=5, fillstyle="none")
        axes.plot(
            [], [], "D", color="#e08a00", fillstyle="none", label="published, ResNet-56 -> ResNet-20, one run each"
        )
        axes.plot([], [], "o-", color="#5f6368", label="measured, 95 % interval")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(judged)), [_label(r) for r in judged])
        axes.set_xlabel("gain over none, percentage points of test accuracy")
        axes.set_title(title, loc="left")
        axes.grid(axis="x", alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
