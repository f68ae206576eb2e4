"""Students of a derived space against a plain pruning script, at equal measured latency and equal training time.

    OMP_NUM_THREADS=1 python -m benchmarks.plain_pruning --data-dir DATA [--worker 0/2] [--toy] [--report-only]

ResNet-20 (16-32-64 channels), trained on the first 10,000 rows of CIFAR-10, is cut down to 70, 45 and 25 % of its
latency, measured on the exported file. `cut`: the largest cut on the size ladder of the derived space that keeps the
latency, distilled by `soft_targets` for 8 epochs. `chosen`: that cut and three drawn at random at the same latency are
trained for an epoch each, and the best on validation for the 4 epochs that are left. `one-shot` and `iterative`: a
script with torch-pruning removes as much of every group of channels by magnitude, at once or in three steps, and
fine-tunes by soft targets for the CPU seconds that `cut` took; its learning rate is chosen before, on validation, at
the middle latency, which does not count. Test accuracy is the exported file's; gains are paired by seed.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.common import machine_facts, numbers
from benchmarks.kept_teachers import gain_text, mean_text, settings_text, table_of
from benchmarks.plain_pruning.students import ARMS, CHOSEN, CUT, ITERATIVE, ONE_SHOT, SHARES, Settings, Students
from benchmarks.runs import results_in, worker_of

OUT = Path("reports/plain_pruning")
RATES = (0.01, 0.03, 0.1)  # the script's learning rates that are tried
TUNE_SEED = 0
TOY = Settings(rows=600, test=500, blocks=1, teacher_epochs=1, epochs=3, candidates=2)
Row = Mapping[str, Any]


def run_all(students: Students, seeds: Sequence[int], worker: tuple[int, int]) -> None:
    """Train what is missing, seed by seed; of a pair of seed and latency all arms in one process."""
    tried = [students.train(ONE_SHOT, SHARES[1], TUNE_SEED, rate) for rate in RATES]
    rate = max(tried, key=lambda row: row["val"])["learning_rate"]
    first, workers = worker
    for seed, share in [(seed, share) for seed in seeds for share in SHARES][first::workers]:
        for arm in ARMS:
            row = students.train(arm, share, seed, rate if arm in (ONE_SHOT, ITERATIVE) else None)
            print(
                f"{row['key']}: {row['test']:.2%} at {row['latency_ms']:.3f} ms after {row['cpu_seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def report(rows: Sequence[Row], machine: str) -> str:
    """Accuracies and gains at each latency."""
    parts = ["# A derived space against a pruning script\n", (__doc__ or "").split("\n\n")[2].strip(), ""]
    if not rows:
        return "\n".join([*parts, "Nothing was run yet.", ""])
    first = rows[0]
    parts.append(settings_text(first["settings"]))
    minutes = sum(row["cpu_seconds"] for row in rows) / 60
    parts.append(f"CPU time of {len(rows)} students: {minutes:.0f} minutes; {machine}.")
    parts.append(
        f"The network: {100 * first['teacher_test']:.1f} % on test, {first['whole_ms']:.3f} ms; fingerprint "
        f"{first['teacher']}."
    )
    counted = [row for row in rows if row["seed"] != TUNE_SEED]
    if rates := sorted({row["learning_rate"] for row in counted if row["learning_rate"]}):
        parts.append(f"The script's learning rate: {', '.join(f'{rate:g}' for rate in rates)}.")
    parts += ["\n## Test accuracy\n", _table(counted), "\n## Gains, points\n", _gains(counted)]
    return "\n".join(parts) + "\n"


def _tests(rows: Sequence[Row], arm: str, share: float) -> dict[int, float]:
    return {row["seed"]: row["test"] for row in rows if (row["arm"], row["share"]) == (arm, share)}


def _table(rows: Sequence[Row]) -> str:
    lines = []
    for share in SHARES:
        for arm in ARMS:
            if of_arm := [row for row in rows if (row["arm"], row["share"]) == (arm, share)]:
                means = [fmean(row[name] for row in of_arm) for name in ("latency_ms", "size_bytes", "macs")]
                costs = [f"{means[0]:.3f}", f"{means[1] / 1000:.0f}", f"{means[2] / 1e6:.1f}"]
                seconds = f"{fmean(row['cpu_seconds'] for row in of_arm):.0f}"
                tests = _tests(rows, arm, share)
                lines.append([arm, f"{100 * share:.0f} %", str(len(tests)), mean_text(tests), *costs, seconds])
    return table_of(
        ["student", "latency allowed", "seeds", "test", "ms", "kB", "million multiply-adds", "CPU s"], lines
    )


def _gains(rows: Sequence[Row]) -> str:
    pairs = ((CUT, ONE_SHOT), (CUT, ITERATIVE), (CHOSEN, ONE_SHOT), (CHOSEN, ITERATIVE))
    lines = []
    for share in SHARES:
        tests = {arm: _tests(rows, arm, share) for arm in ARMS}
        if any(tests.values()):
            samples = rows[0]["test_samples"]
            lines.append([f"{100 * share:.0f} %", *(gain_text(tests[a], tests[b], samples) for a, b in pairs)])
    heads = ["latency allowed", *(f"{ours} over {other}" for ours, other in pairs)]
    return table_of(heads, lines) + "\nPaired by seed, with 95 % intervals over seeds and the sampled split.\n"


def main() -> None:
    """Train what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=numbers, default=(1, 2, 3))
    parser.add_argument("--worker", type=worker_of, default=(0, 1), help="I/N: every N-th latency and seed")
    parser.add_argument("--toy", action="store_true", help="a quick look at whether it works; takes another --out")
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    if given.toy and given.out == OUT:
        parser.error("--toy needs an --out of its own")
    if not given.report_only:
        if given.data_dir is None:
            parser.error("--data-dir is needed, the folder of cifar10-train.parquet and cifar10-test.parquet")
        torch.set_num_threads(1)
        students = Students(given.data_dir, given.out, TOY if given.toy else Settings())
        run_all(students, given.seeds, given.worker)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = machine_facts(1)
    text = report(list(results_in(given.out).values()), f"{facts['cpu']}, one thread, torch {facts['torch']}")
    (given.out / "report.md").write_text(text)
    print(given.out / "report.md")


if __name__ == "__main__":
    main()
