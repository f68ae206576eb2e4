"""Default searches of 20 trials on every case, by this version and an earlier one: what their best students keep.

    python -m benchmarks.recipe.searches --data-dir DATA --before DIR [--cases digits,crop] [--only now] [--report-only]

DIR is a checkout of the version to compare with. Both get the same data, epochs and size limit, and defaults otherwise;
one finalist over two seeds without controls, as none is compared. Retention is accuracy on test above chance, the
winner's against its teacher's, which each version trains for itself. Each search leaves OUT/searches/CASE.VERSION.json,
and what is there is not done again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import tomli_w

from benchmarks.common import markdown_table
from benchmarks.recipe.cases import CASES, Case
from benchmarks.recipe.grid import OUT
from benchmarks.search_cost_runs import ROOT, child
from nas_kd.config.options import DataOptions
from nas_kd.data.prepare import load_dataset
from nas_kd.serialization import write_atomic

VERSIONS = ("before", "now")
TRIALS = 20
MAX_SIZE_KB = 60
NO_WINNER = 3  # exit status


def search(case: Case, checkout: Path, data: dict[str, Any]) -> dict[str, Any]:
    """One search by the version of a checkout; returns figures of its winner and teacher."""
    revision = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    config = {
        "name": case.name.replace("_", "-"),
        "data": data,
        "space": {"name": case.space},
        "distill": {"epochs": case.epochs},
        "budget": {"max_size_kb": MAX_SIZE_KB},
        "search": {"trials": TRIALS},
        "finalists": {"max": 1, "seeds": 2, "controls": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        path, run = Path(folder) / "config.toml", Path(folder) / "run"
        path.write_text(tomli_w.dumps(config))
        command = [sys.executable, "-m", "nas_kd", "search", str(path), "--run-dir", str(run)]
        _, seconds = child(command, Path(folder) / "log", checkout, allowed=(0, NO_WINNER))
        front = json.loads((run / "front.json").read_text())
    winner = next((c for c in front["candidates"] if c["id"] == front["winner"]), None)
    return {
        "revision": revision,
        "seconds": round(seconds, 1),
        "teacher": front["teacher"]["accuracy"]["test"],
        "winner": winner and winner["accuracy"]["test"],
        "size_bytes": winner and winner["size_bytes"],
    }


def retention(found: dict[str, Any], chance: float) -> float:
    """Share of the teacher's accuracy above chance that the winner keeps; 0 without a winner."""
    return (found["winner"] - chance) / (found["teacher"] - chance) if found["winner"] else 0.0


def report(results: dict[str, dict[str, Any]]) -> str:
    """A table of what there is."""
    rows, kept = [], {version: list[float]() for version in VERSIONS}
    for name, versions in results.items():
        row = [name]
        for version in VERSIONS:
            if (found := versions.get(version)) is None:
                row += [""] * 3
                continue
            share = retention(found, found["chance"])
            kept[version].append(share)
            accuracy = f"{100 * found['winner']:.1f}" if found["winner"] else "none"
            row += [accuracy, f"{100 * found['teacher']:.1f}", f"{100 * share:.0f} %"]
        rows.append(row)
    head = ["case", *(f"{v}: {what}" for v in VERSIONS for what in ("winner", "teacher", "kept"))]
    means = ", ".join(f"{v} {100 * fmean(kept[v]):.0f} % of {len(kept[v])}" for v in VERSIONS if kept[v])
    return f"{markdown_table(head, rows)}\nKept on average: {means}.\n"


def main() -> int:
    """Run what is missing, and write the report of what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--before", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--only", choices=VERSIONS)
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    folder = given.out / "searches"
    folder.mkdir(parents=True, exist_ok=True)
    checkouts = {"before": given.before, "now": ROOT}
    for name in [] if given.report_only else given.cases.split(","):
        for version, checkout in checkouts.items():
            path = folder / f"{name}.{version}.json"
            if checkout is None or path.exists() or given.only not in (None, version):
                continue
            data = CASES[name].data(given.data_dir, given.out / "work" / "data")
            found = search(CASES[name], checkout.resolve(), data)
            write_atomic(path, json.dumps(found | {"chance": chance_of(name, given)}, indent=1) + "\n")
            print(name, version, found, flush=True)
    results: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        name, version = path.stem.rsplit(".", 1)
        results.setdefault(name, {})[version] = json.loads(path.read_text())
    write_atomic(given.out / "searches.md", f"# {(__doc__ or '').splitlines()[0]}\n\n{report(results)}")
    return 0


def chance_of(name: str, given: argparse.Namespace) -> float:
    """Accuracy of naming the most common class of the test split."""
    data = load_dataset(DataOptions(**CASES[name].data(given.data_dir, given.out / "work" / "data")), 0)
    return float(data.test.y.bincount().max()) / len(data.test)


if __name__ == "__main__":
    sys.exit(main())
