"""Inherited against fresh weights at equal training, for students cut out of a trained network.

    OMP_NUM_THREADS=1 python -m benchmarks.inheritance --data-dir DATA [--worker 0/2] [--toy] [--report-only]

The network is a residual one with two blocks a stage, trained on the data: the first 10,000 rows of CIFAR-10, and 2,500
photographs of flowers at 64 pixels. Students are cuts of it at half and at a fifth of its multiply-adds, and learn from
it by `soft_targets` for 1, 3 or 10 epochs, each a schedule of its own whose learning rate ends at zero; inherited and
fresh students of one seed see the same samples in the same order. Gains are on test, paired by seed, with 95 %
intervals over three seeds and the sampled split. Then, on CIFAR-10, how well validation accuracy after one epoch (a
first rung) predicts the final order of 16 cuts drawn at random within one range of costs, beside what their
multiply-adds alone predict. Nothing is chosen on any split. About an hour and three quarters on one core; every
training is a line of OUT/results.jsonl, and what is there is not done again.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import machine_facts, numbers
from benchmarks.inheritance.trainings import CUTS, FRESH, INHERITED, SHARES, Point, Settings, Trainings
from benchmarks.kept_teachers import gain_text, mean_text, settings_text, table_of
from benchmarks.runs import results_in, worker_of
from nas_kd.models.derived.derived_space import STARTS
from nas_kd.results.intervals import kendall_tau, kendall_tau_interval

OUT = Path("reports/inheritance")
DATASETS = ("cifar10", "flowers")
RANKED_ON = "cifar10"
EPOCHS = (1, 3, 10)
RUNG, FINAL, CANDIDATES, RANK_SEED = 1, 6, 16, 1
TOY = Settings(rows=600, test=500, teacher_epochs=1)
Row = Mapping[str, Any]


def points(datasets: Sequence[str], seeds: Sequence[int], candidates: int, *, toy: bool) -> Iterator[Point]:
    """All trainings, seed by seed, so that a run that is stopped has whole tables; candidates come last."""
    final = RUNG + 1 if toy else FINAL
    for seed in seeds:
        for dataset in datasets:
            for epochs in EPOCHS[:2] if toy else EPOCHS:
                for cut in CUTS:
                    for start in STARTS:
                        yield Point(dataset, cut, start, epochs, seed)
    for epochs in (RUNG, final):
        for number in range(candidates if RANKED_ON in datasets else 0):
            for start in STARTS:
                yield Point(RANKED_ON, str(number), start, epochs, RANK_SEED)


def report(rows: Sequence[Row], machine: str) -> str:
    """Tables of gains by data set, and of rank correlations."""
    parts = ["# Inherited or fresh weights\n", (__doc__ or "").split("\n\n")[2].strip(), ""]
    if rows:
        parts.append(settings_text(rows[0]["settings"]))
        seconds = sum(row["cpu_seconds"] for row in rows)
        parts.append(f"CPU time of {len(rows)} trainings of students: {seconds / 60:.0f} minutes; {machine}.")
    for dataset in DATASETS:
        if of_data := [row for row in rows if row["dataset"] == dataset and row["cut"] in CUTS]:
            first = of_data[0]
            parts.append(f"\n## {dataset}\n\nThe network has {100 * first['teacher_test']:.1f} % on test")
            parts[-1] += f" ({first['test_samples']:,} samples; fingerprint {first['teacher']}).\n"
            parts.append(_gains(of_data))
    if ranked := [row for row in rows if row["cut"] not in CUTS]:
        low, high = (round(100 * share) for share in SHARES)
        parts.append(f"\n## The order of cuts at {low} to {high} % of the multiply-adds, {RANKED_ON}\n")
        parts.append(_ranks(ranked))
    return "\n".join(parts) + "\n"


def _gains(rows: Sequence[Row]) -> str:
    lines = []
    for cut in CUTS:
        of_cut = [row for row in rows if row["cut"] == cut]
        for epochs in sorted({row["epochs"] for row in of_cut}):
            arms = [
                {r["seed"]: r["test"] for r in of_cut if (r["start"], r["epochs"]) == (start, epochs)}
                for start in (INHERITED, FRESH)
            ]
            share = f"{cut} ({100 * of_cut[0]['share']:.0f} %)"
            n_seeds = str(len(arms[0].keys() & arms[1].keys()))
            gain = gain_text(arms[0], arms[1], of_cut[0]["test_samples"])
            lines.append([share, str(epochs), n_seeds, mean_text(arms[0]), mean_text(arms[1]), gain])
    return table_of(["multiply-adds", "epochs", "seeds", *STARTS, "gain, points, with 95 % interval"], lines)


def _ranks(rows: Sequence[Row]) -> str:
    lines = []
    for start in STARTS:
        of_start = [row for row in rows if row["start"] == start]
        first = {row["cut"]: row for row in of_start if row["epochs"] == RUNG}
        last = {row["cut"]: row for row in of_start if row["epochs"] > RUNG}
        cuts = sorted(first.keys() & last.keys())
        final = [last[cut]["test"] for cut in cuts]
        if cuts:
            early = _tau([first[cut]["val"] for cut in cuts], final)
            size = _tau([last[cut]["share"] for cut in cuts], final)
            spread = f"{100 * min(final):.1f} to {100 * max(final):.1f} %"
            epochs = str(last[cuts[0]]["epochs"])
            lines.append([start, str(len(cuts)), epochs, spread, early, size])
    heads = ["weights", "candidates", "final epochs", "final test accuracy", "tau of the first rung"]
    return table_of([*heads, "tau of multiply-adds"], lines) + (
        "\nKendall's tau-b with the final order by test accuracy, with its 95 % interval over candidates; one seed.\n"
    )


def _tau(early: Sequence[float], final: Sequence[float]) -> str:
    tau = kendall_tau_interval(early, final)
    if tau is None:
        plain = kendall_tau(early, final)
        return "-" if plain is None else f"{plain:.2f}"
    return f"{tau.tau:.2f} [{tau.low:.2f}, {tau.high:.2f}]"


def main() -> None:
    """Train what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--seeds", type=numbers, default=(1, 2, 3))
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--worker", type=worker_of, default=(0, 1), help="I/N: every N-th training from the I-th on")
    parser.add_argument("--toy", action="store_true", help="a quick look at whether it works; takes another --out")
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    if given.toy and given.out == OUT:
        parser.error("--toy needs an --out of its own")
    if not given.report_only:
        if given.data_dir is None:
            parser.error("--data-dir is needed, the folder of cifar10-train.parquet, cifar10-test.parquet and flowers")
        torch.set_num_threads(1)
        datasets, settings = given.datasets.split(","), TOY if given.toy else Settings()
        trainings = {name: Trainings(name, given.data_dir, given.out, settings) for name in datasets}
        first, workers = given.worker
        for point in list(points(datasets, given.seeds, given.candidates, toy=given.toy))[first::workers]:
            row = trainings[point.dataset].train(point)
            print(f"{row['key']}: {row['test']:.2%} after {row['cpu_seconds']:.0f} s", file=sys.stderr, flush=True)
    facts = machine_facts(1)
    given.out.mkdir(parents=True, exist_ok=True)
    text = report(list(results_in(given.out).values()), f"{facts['cpu']}, one thread, torch {facts['torch']}")
    (given.out / "report.md").write_text(text)
    print(given.out / "report.md")


if __name__ == "__main__":
    main()
