"""A search among photographs against a plain script and a hand-picked student, after equal time on two cores.

    python -m benchmarks.photographs --data-dir DATA [--minutes 3,10,30] [--seeds 1,2,3] [--toy] [--report-only]

Flowers of five kinds at 128 pixels, at most 5 ms on one core and 500 kB. The teacher, EfficientNet-Lite0 with ImageNet
weights, is fine-tuned once before anything counts, and every contestant is given the same weights. `nas-kd search`
(space `mobilenet_photo`, two workers, defaults otherwise) runs with `--max-minutes`; what it takes from start to end,
finalists and their test included, is the time of the others. The script is plain torch, with learning rate and weights
of its losses chosen on validation before (`tune`, not counted); `nas-kd distill` trains one student picked by hand for
as many epochs as that time allows by two short runs. Test accuracy is that of the exported file through ONNX Runtime.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import machine_facts, numbers
from benchmarks.kept_teachers import gain_text, mean_text, settings_text, table_of
from benchmarks.photographs.runs import DISTILL, MAX_LATENCY_MS, MAX_SIZE_KB, SCRIPT, SEARCH, Contest, Settings
from benchmarks.runs import results_in, worker_of

OUT = Path("reports/photographs")
MINUTES = (3.0, 10.0, 30.0)
TUNED = {"learning_rate": (1e-3, 3e-3, 1e-2), "alpha": (0.5, 0.9)}  # of the script, tried once with one seed
TUNE_SECONDS = 180.0
TOY = Settings(sizes=(300, 40, 60), teacher_epochs=6, quick=True)
TITLES = {SEARCH: "`nas-kd search`", SCRIPT: "plain script", DISTILL: "`nas-kd distill`, hand-picked"}
Row = Mapping[str, Any]


def tuned(contest: Contest, *, toy: bool) -> dict[str, float]:
    """The script's options that are best on validation, of those that are tried."""
    grid = [dict(zip(TUNED, values, strict=True)) for values in product(*TUNED.values())]
    seconds = 8.0 if toy else TUNE_SECONDS
    trials = [contest.script(0, number, options, seconds) for number, options in enumerate(grid[:2] if toy else grid)]
    best: dict[str, float] = max(trials, key=lambda row: row["val"])["options"]
    return best


def run_all(contest: Contest, pairs: Sequence[tuple[float, int]], *, toy: bool) -> None:
    """Do what is missing: of each pair of minutes and seed the search, then the others for as long as it took."""
    options = tuned(contest, toy=toy)
    for minutes, seed in pairs:
        search = contest.search(minutes, seed)
        seconds = search["seconds"]
        for row in (
            search,
            contest.script(minutes, seed, options, seconds),
            contest.distill(minutes, seed, seconds),
        ):
            accuracy = "no student" if row["test"] is None else f"{row['test']:.1%}"
            print(f"{row['key']}: {accuracy} after {row['seconds']:.0f} s", file=sys.stderr, flush=True)


def report(rows: Sequence[Row], machine: str) -> str:
    """A table of all contestants for each time, and one of gains."""
    parts = ["# Photographs: a search, a script, a hand-picked student\n", (__doc__ or "").split("\n\n")[2].strip(), ""]
    if not rows:
        return "\n".join([*parts, "Nothing was run yet.", ""])
    settings = rows[0]["settings"]
    parts.append(settings_text({k: v for k, v in settings.items() if k != "sizes"}) + f" {machine}.")
    parts.append(f"Teacher: {100 * rows[0]['teacher_test']:.1f} % on test, fingerprint {rows[0]['teacher']}.")
    chosen = next((row["options"] for row in rows if row["arm"] == SCRIPT and row["minutes"]), None)
    parts.append(f"The script's options, chosen on validation: {chosen}." if chosen else "")
    samples = settings["sizes"][2]
    counted = [row for row in rows if row["minutes"]]
    parts += ["\n## Contestants\n", _contestants(counted), "\n## Gains of the search\n", _gains(counted, samples)]
    return "\n".join(parts) + "\n"


def _contestants(rows: Sequence[Row]) -> str:
    lines = []
    for minutes in sorted({row["minutes"] for row in rows}):
        for arm, title in TITLES.items():
            of_arm = [row for row in rows if (row["minutes"], row["arm"]) == (minutes, arm)]
            good = [row for row in of_arm if row["test"] is not None and row["within_budget"]]
            if of_arm:
                cells = [f"{fmean(row['seconds'] for row in of_arm):.0f}", f"{len(good)} of {len(of_arm)}"]
                cells += [mean_text({row["seed"]: row["test"] for row in good})]
                cells += _costs(good)
                lines.append([title, f"{minutes:g}", *cells])
    heads = ["contestant", "max minutes", "seconds", "deployable", "mean on test", "kB", "ms"]
    return table_of(heads, lines) + f"\nBudget: {MAX_LATENCY_MS:g} ms, {MAX_SIZE_KB:g} kB; means over seeds.\n"


def _costs(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["-", "-"]
    return [f"{fmean(r['size_bytes'] for r in rows) / 1000:.0f}", f"{fmean(r['latency_ms'] for r in rows):.2f}"]


def _gains(rows: Sequence[Row], samples: int) -> str:
    lines = []
    for minutes in sorted({row["minutes"] for row in rows}):
        tests = {
            arm: {
                row["seed"]: row["test"]
                for row in rows
                if (row["minutes"], row["arm"]) == (minutes, arm) and row["test"] is not None and row["within_budget"]
            }
            for arm in TITLES
        }
        both = len(tests[SEARCH].keys() & tests[SCRIPT].keys())
        gains = [gain_text(tests[SEARCH], tests[other], samples) for other in (SCRIPT, DISTILL)]
        lines.append([f"{minutes:g}", str(both), *gains])
    heads = ["max minutes", "seeds", f"over the {TITLES[SCRIPT]}, points", f"over {TITLES[DISTILL]}, points"]
    return table_of(heads, lines) + "\nPaired by seed, with 95 % intervals over seeds and the sampled split.\n"


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--minutes", default=",".join(f"{m:g}" for m in MINUTES))
    parser.add_argument("--seeds", type=numbers, default=(1, 2, 3))
    parser.add_argument("--worker", type=worker_of, default=(0, 1), help="I/N: every N-th pair; N machines, one folder")
    parser.add_argument("--toy", action="store_true", help="a quick look at whether it works; takes another --out")
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    if given.toy and given.out == OUT:
        parser.error("--toy needs an --out of its own")
    if not given.report_only:
        if given.data_dir is None:
            parser.error("--data-dir is needed, the folder of flowers/CLASS/*.jpg")
        times = (0.3,) if given.toy else tuple(float(part) for part in given.minutes.split(","))
        first, workers = given.worker
        pairs = [(minutes, seed) for seed in given.seeds for minutes in times][first::workers]
        run_all(Contest(given.data_dir.resolve(), given.out, TOY if given.toy else Settings()), pairs, toy=given.toy)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = machine_facts(2)
    text = report(list(results_in(given.out).values()), f"{facts['cpu']}, torch {facts['torch']}")
    (given.out / "report.md").write_text(text)
    print(given.out / "report.md")


if __name__ == "__main__":
    main()
