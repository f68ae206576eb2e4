"""What a teacher of another family is worth: a vision transformer and a residual network on few rows of CIFAR-10.

    OMP_NUM_THREADS=1 python -m benchmarks.families --data-dir DATA [--seeds 1,2,3] [--report-only]

Teachers see the first 4,000 rows of CIFAR-10's training file (less 1 % that is not used), students the first 1,000 of
these, as a user's teacher has usually seen more than there is now. Students of one seed start from the same weights and
see the same order, so that gains over `none` are paired by seed; their intervals cover the spread over seeds and the
sampled test split. Methods have their defaults, with calibration; nothing is chosen on any split. About ten minutes on
one core; every training is a line of OUT/results.jsonl, and what is there is not done again.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.common import machine_facts, markdown_table, numbers
from benchmarks.families.networks import Family
from benchmarks.families.trainings import Point, Settings, Trainings
from benchmarks.runs import results_in
from nas_kd.results.intervals import paired_gain

OUT = Path("reports/families")
PAIRS: tuple[tuple[Family, Family], ...] = (("vit", "cnn"), ("cnn", "vit"))
CONTROL = "none"
METHODS = (CONTROL, "soft_targets", "fitnet", "attention_transfer", "similarity")
TITLES = {"cnn": "residual network", "vit": "vision transformer"}


def report(results: dict[str, dict[str, Any]], machine: str) -> str:
    """The tables of both pairs, and what they show."""
    rows = list(results.values())
    settings: dict[str, int] = next((row["settings"] for row in rows), {})
    parts = ["# Teachers of another family\n", (__doc__ or "").split("\n\n")[2].strip(), ""]
    parts.append("Settings: " + ", ".join(f"{name} {value:,}" for name, value in settings.items()) + ".")
    parts.append(f"CPU time of all trainings: {sum(r['cpu_seconds'] for r in rows) / 60:.1f} minutes; {machine}.")
    for teacher, student in PAIRS:
        of_pair = [r for r in rows if r["teacher"] == teacher and r["student"] == student]
        taught = next((r for r in rows if r["teacher"] == teacher and r["student"] is None), None)
        if of_pair and taught:
            parts.append(f"\n## {TITLES[teacher]} -> {TITLES[student]}\n")
            parts.append(
                f"Teacher: {100 * taught['test']:.1f} % on test, {taught['parameters']:,} weights; student: "
                f"{of_pair[0]['parameters']:,} weights.\n"
            )
            parts += [_table(of_pair), _verdict(of_pair)]
    return "\n".join(parts) + "\n"


def _by_seed(rows: list[dict[str, Any]], method: str) -> dict[int, float]:
    return {r["seed"]: r["test"] for r in rows if r["method"] == method}


def _gain(rows: list[dict[str, Any]], method: str) -> tuple[float, float, float, int] | None:
    plain, taught = _by_seed(rows, CONTROL), _by_seed(rows, method)
    both = sorted(plain.keys() & taught.keys())
    if method == CONTROL or len(both) < 2:
        return None
    gain = paired_gain([taught[s] for s in both], [plain[s] for s in both], rows[0]["settings"]["test"])
    return gain.mean, gain.low, gain.high, len(both)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for method in METHODS:
        if values := _by_seed(rows, method):
            gain = _gain(rows, method)
            shown = "-" if gain is None else f"{100 * gain[0]:+.1f} [{100 * gain[1]:+.1f}, {100 * gain[2]:+.1f}]"
            seeds = ", ".join(f"{100 * values[s]:.1f}" for s in sorted(values))
            lines.append([method, f"{100 * fmean(values.values()):.1f} %", seeds, shown])
    heads = ["method", "mean on test", "by seed, %", "gain over `none`, points, with 95 % interval"]
    return markdown_table(heads, lines)


def _verdict(rows: list[dict[str, Any]]) -> str:
    gains = {m: g for m in METHODS if (g := _gain(rows, m)) is not None}
    better = [m for m, (_, low, _, _) in gains.items() if low > 0]
    worse = [m for m, (_, _, high, _) in gains.items() if high < 0]
    open_ = [m for m in gains if m not in (*better, *worse)]
    texts = [(better, "shown to gain"), (worse, "shown to lose"), (open_, "neither shown to gain nor to lose")]
    text = "; ".join(f"{what}: {', '.join(f'`{m}`' for m in names) or 'none of them'}" for names, what in texts)
    return f"{text.capitalize()}. Methods with fewer seeds than `none` are compared on theirs."


def main() -> None:
    """Train what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=numbers, default=(1, 2, 3))
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    if not given.report_only:
        if given.data_dir is None:
            parser.error("--data-dir is needed, the folder of cifar10-train.parquet and cifar10-test.parquet")
        torch.set_num_threads(1)
        trainings = Trainings(given.data_dir, given.out, Settings())
        for seed in given.seeds:  # so that a run that is stopped has whole columns
            for teacher, student in PAIRS:
                for method in METHODS:
                    row = trainings.train(Point(teacher, student, method, seed))
                    print(
                        f"{row['key']}: {row['test']:.2%} after {row['cpu_seconds']:.0f} s", file=sys.stderr, flush=True
                    )
    facts = machine_facts(1)
    text = report(results_in(given.out), f"{facts['cpu']}, one thread, torch {facts['torch']}")
    (given.out / "report.md").write_text(text)
    print(given.out / "report.md")


if __name__ == "__main__":
    main()
