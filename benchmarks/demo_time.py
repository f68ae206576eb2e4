"""The demo's time, against that of another version, by turns.

    python benchmarks/demo_time.py --before DIR [--turns 2] [--max-latency-ms 0.05] [--out reports/demo_time]
        [--report-only]

DIR is a checkout of the version to compare with. Each run is a whole `nas-kd search` of that version's own demo, in a
fresh folder, by the packages that are installed here: imports, teacher, search, finalists, controls, report. How many
candidates get past the gate depends on how fast the machine is, and so does the time: `--max-latency-ms` gives both
another limit. Claim: less time than before.
"""

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

from benchmarks.common import machine_facts, markdown_table
from benchmarks.runs import is_done, read_runs
from benchmarks.search_cost_figures import spread
from benchmarks.search_cost_runs import ROOT, child
from nas_kd.errors import TrialError
from nas_kd.serialization import write_atomic

VERSIONS = ("before", "now")
NO_WINNER = 3  # exit status


def demo(checkout: Path, limit: float | None) -> dict[str, Any]:
    """One run of the demo of a checkout.

    Raises:
        TrialError: it ended with neither a winner nor the news that there is none.
    """
    revision = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "nas_kd", "search", "--run-dir", str(run)]
        command += [] if limit is None else ["--max-latency-ms", f"{limit:g}"]
        _, seconds = child(command, Path(folder) / "log", checkout, allowed=(0, NO_WINNER))
        return {"revision": revision, "seconds": round(seconds, 1)} | facts(run)


def facts(run: Path) -> dict[str, Any]:
    """What a finished run did, and came to."""
    with closing(sqlite3.connect(run / "study.db")) as study:
        rows = study.execute("select value_json from trial_user_attributes where key = 'record'").fetchall()
    trials, front = [json.loads(row) for (row,) in rows], json.loads((run / "front.json").read_text())
    epochs = [max((r["epochs"] for r in t["rungs"]), default=0) for t in trials]
    winner = next((c for c in front["candidates"] if c["id"] == front["winner"]), None)
    return {
        "limit_ms": front["budget"]["max_latency_ms"],
        "candidates": len(trials),
        "trained": sum(e > 0 for e in epochs),
        "epochs": sum(epochs),
        "finalists": len(front["candidates"]),
        "winner": winner
        and {key: winner["accuracy"][key] for key in ("val", "test")}
        | {"size_bytes": winner["size_bytes"], "latency_ms": winner["latency_ms"]["p50"]},
    }


INTRODUCTION = """\
# The demo, before and now

Whole runs, by turns. Epochs: of all candidates in the search together, finalists and controls not counted.
"""


def write_report(out: Path) -> None:
    """Everything there is in OUT/runs."""
    runs = {name: run for name, run in read_runs(out).items() if "error" not in run}
    rows, ratios = list[list[str]](), dict[float, list[float]]()
    for name, run in runs.items():
        limit, turn, version = name.rsplit(".", 2)
        rows.append([f"{run['limit_ms'] * 1000:g} us", turn, f"{version} ({run['revision']})", *_figures(run)])
        other = runs.get(f"{limit}.{turn}.before")
        if version == "now" and other is not None:
            ratios.setdefault(run["limit_ms"], []).append(run["seconds"] / other["seconds"])
    head = ["limit", "turn", "version", "s", "candidates", "trained", "epochs", "finalists", "winner, test", "kB", "us"]
    summary = {limit: spread(found) for limit, found in ratios.items()}
    parts = [INTRODUCTION, markdown_table(head, rows)]
    for allowed, found in summary.items():
        if found:
            parts.append(
                f"Time now over time before, at most {allowed * 1000:g} us: {found['mean']:.2f} [{found['low']:.2f}, "
                f"{found['high']:.2f}]. Geometric mean [smallest, largest] over turns.\n"
            )
    for machine in sorted({f"{m['cpu']}, {m['cores']} cores" for m in (r["machine"] for r in runs.values())}):
        parts.append(f"{machine}.\n")
    write_atomic(out / "result.json", json.dumps({"ratios": summary, "runs": runs}, indent=1) + "\n")
    write_atomic(out / "report.md", "\n".join(parts))


def _figures(run: dict[str, Any]) -> list[str]:
    won = run["winner"]
    found = (
        [f"{won['test']:.1%}", f"{won['size_bytes'] / 1000:.1f}", f"{won['latency_ms'] * 1000:.1f}"]
        if won
        else ["none within the budget", "", ""]
    )
    counted = [str(run[key]) for key in ("candidates", "trained", "epochs", "finalists")]
    return [f"{run['seconds']:.0f}", *counted, *found]


def main() -> int:
    """Run what is missing, then report on all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--before", type=Path, metavar="DIR", help="checkout of the version to compare with")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--max-latency-ms", type=float, help="a limit for both instead of the demo's own")
    parser.add_argument("--out", type=Path, default=Path("reports/demo_time"))
    parser.add_argument("--report-only", action="store_true")
    given, good = parser.parse_args(), True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended too
    if not given.report_only:
        if given.before is None or not (given.before / "nas_kd").is_dir():
            parser.error("--before needs the folder of a checkout")
        limit = "demo" if given.max_latency_ms is None else f"{given.max_latency_ms * 1000:g}us"
        for turn in range(given.turns):
            for version in VERSIONS[:: (-1) ** turn]:
                name = f"{limit}.{turn}.{version}"
                if not is_done(given.out, name):
                    good &= record(given.out, name, given.before if version == "before" else ROOT, given.max_latency_ms)
    write_report(given.out)
    print((given.out / "report.md").read_text())
    return 0 if good else 1


def record(out: Path, name: str, checkout: Path, limit: float | None) -> bool:
    """Do one run and write what it gave, or why it failed; whether it ended well."""
    result: dict[str, Any] = {"machine": machine_facts(os.cpu_count() or 1)}
    try:
        result |= demo(checkout.resolve(), limit)
    except (TrialError, subprocess.CalledProcessError, OSError) as error:
        result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    write_atomic(out / "runs" / f"{name}.json", json.dumps(result, indent=1) + "\n")
    print(f"{name}: {result.get('error') or result['seconds']}", flush=True)
    return "error" not in result


if __name__ == "__main__":
    sys.exit(main())
