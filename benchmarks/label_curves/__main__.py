"""Test accuracy against the number of labels, with unlabelled pictures and without, on MNIST and CIFAR-10.

    python -m benchmarks.label_curves --data-dir DATA [--worker 0/2] [--seeds 1,2,3] [--report-only]

The pool is the first 10,000 rows of the training file (`--pool`), less 1 % that is kept for validation. 100, 500, 2,000
or all of its labels count; the other pictures are unlabelled, or not used. Two curves: students of a given teacher that
saw every label of the pool, and of a teacher trained on the labels counted alone. Every training has as many steps, so
the curves compare pictures, not time. The method is `soft_targets` at its defaults; nothing is chosen on validation.
About an hour on two cores, one worker each; every training is a line of OUT/results.jsonl, and what is there is not
done again.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from benchmarks.common import machine_facts, markdown_table, numbers
from benchmarks.label_curves.trainings import ALL, GIVEN, OWN, Point, Settings, Trainings
from benchmarks.runs import results_in

OUT = Path("reports/label_curves")
DATASETS = ("mnist", "cifar10")
LABELS = (100, 500, 2000, ALL)
TITLES = {GIVEN: "a given teacher, which saw every label of the pool", OWN: "a teacher trained on the labels counted"}


def points(datasets: tuple[str, ...], labels: tuple[int, ...], seeds: tuple[int, ...]) -> Iterator[Point]:
    """All students, seed by seed, so that a run that is stopped has whole curves; with all labels nothing is left."""
    for seed in seeds:
        for dataset in datasets:
            for count in labels:
                for teacher in (GIVEN,) if count == ALL else (GIVEN, OWN):
                    for unlabelled in (False,) if count == ALL else (False, True):
                        yield Point(dataset, count, teacher, unlabelled, seed)


def report(results: dict[str, dict[str, Any]]) -> str:
    """Tables of means over seeds, by data set and teacher."""
    parts = ["# Label curves\n", __doc__.split("\n\n")[2] if __doc__ else ""]
    if settings := next((row["settings"] for row in results.values()), None):
        parts.append("\nSettings: " + ", ".join(f"{name} {value:,}" for name, value in settings.items()) + ".")
    for dataset in DATASETS:
        for teacher in (GIVEN, OWN):
            rows = [r for r in results.values() if r["dataset"] == dataset]
            if table := _table(rows, teacher):
                parts += [f"\n## {dataset}: {TITLES[teacher]}\n", table]
    return "\n".join(parts) + "\n"


def _table(rows: list[dict[str, Any]], teacher: str) -> str:
    whole = max((r["labels"] for r in rows), default=0)
    lines = []
    for labels in sorted({r["labels"] for r in rows}):
        chosen = teacher if labels < whole else GIVEN
        of_teacher = [r["test"] for r in rows if r["unlabelled"] is None and _is_of(r, teacher, labels, whole)]
        arms = [
            {
                r["seed"]: r["test"]
                for r in rows
                if (r["labels"], r["teacher"], r["unlabelled"]) == (labels, chosen, arm)
            }
            for arm in (False, True)
        ]
        both = sorted(arms[0].keys() & arms[1].keys())
        gains = [arms[1][seed] - arms[0][seed] for seed in both]
        cells = [
            _mean_text(of_teacher),
            *(_mean_text(list(arm.values())) for arm in arms),
            _mean_text(gains, signed=True),
        ]
        if any(arms):
            lines.append([f"{labels:,}", str(len(both) or len(arms[0])), *cells])
    heads = ["labels", "seeds", "teacher", "without unlabelled", "with unlabelled", "gain, paired by seed"]
    return markdown_table(heads, lines) if lines else ""


def _is_of(row: dict[str, Any], teacher: str, labels: int, whole: int) -> bool:
    """Whether this teacher is the one of a point of the curve."""
    return bool(row["labels"] == (whole if teacher == GIVEN else labels))


def _mean_text(values: list[float], *, signed: bool = False) -> str:
    if not values:
        return "-"
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):{'+' if signed else ''}.1f} %{spread}"


def main() -> None:
    """Train what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--labels", type=numbers, default=LABELS, help="0: all of the pool")
    parser.add_argument("--seeds", type=numbers, default=(1, 2, 3))
    parser.add_argument("--pool", type=int, default=Settings.pool)
    parser.add_argument("--test", type=int, default=Settings.test)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--worker", default="0/1", help="I/N: every N-th student from the I-th on")
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    if not given.report_only:
        if given.data_dir is None:
            parser.error("--data-dir is needed, the folder of mnist-train.parquet, cifar10-train.parquet, ...")
        torch.set_num_threads(1)
        settings = Settings(pool=given.pool, test=given.test, steps=given.steps)
        datasets = tuple(given.datasets.split(","))
        trainings = {name: Trainings(name, given.data_dir, given.out, settings) for name in datasets}
        first, workers = (int(part) for part in given.worker.split("/"))
        for point in list(points(datasets, given.labels, given.seeds))[first::workers]:
            row = trainings[point.dataset].train(point)
            print(f"{point.key}: {row['test']:.2%} after {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "report.md").write_text(report(results_in(given.out)))
    print(f"{given.out / 'report.md'}; this machine: {machine_facts(1)['cpu']}")


if __name__ == "__main__":
    main()
