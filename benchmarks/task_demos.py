"""The demos of all tasks: how long each takes, and how much of its teacher's score the winner keeps.

    python -m benchmarks.task_demos [--tasks segmentation,detection] [--out reports/task_demos] [--report-only]

Each is a whole `nas-kd search --task TASK` in a fresh folder: imports, teacher, search, finalists, controls, report.
Finished demos are skipped. Claims: for tasks other than classification, less than two minutes; for all, at least 80 %
of the teacher's score above that of a constant answer, on the test split.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import machine_facts, markdown_table
from benchmarks.runs import is_done, read_runs
from benchmarks.search_cost_runs import child
from nas_kd.commands.load_run import read_run
from nas_kd.config.demo import DIGITS, OF_TASKS
from nas_kd.config.loading import load_config
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.prepare import load_dataset
from nas_kd.results.finalist_record import Accuracy
from nas_kd.scores.base import load_score
from nas_kd.serialization import write_atomic

OUT = Path("reports/task_demos")
KEPT, SECONDS = 0.8, 120.0
HEAD = ["task", "s", "score", "a constant answer", "teacher, test", "winner, test", "kept", "teacher, kB", "winner, kB"]


def demo(task: str) -> dict[str, Any]:
    """Run one to its end."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "nas_kd", "search", "--task", task, "--run-dir", str(run)]
        _, seconds = child(command, Path(folder) / "log")
        found, front = read_run(RunFolder(run)), json.loads((run / "front.json").read_text())
        data = load_dataset(load_config(run / "config.toml").data, 0)
    (won,) = (finalist for finalist in found.finalists if finalist.id == front["winner"])
    assert found.metric is not None
    assert found.teacher is not None
    return {
        "seconds": round(seconds, 1),
        "score": found.metric.title,
        "chance": data.guessing(load_score(found.metric.name), "test"),
        "teacher": _figures(found.teacher.test_score, found.teacher.costs.size_bytes),
        "winner": _figures(won.test_score, won.costs.size_bytes),
        "machine": machine_facts(2),
    }


def _figures(score: Accuracy | None, size_bytes: int | None) -> dict[str, Any]:
    assert score is not None
    return {"test": score.mean, "low": score.low, "high": score.high, "size_bytes": size_bytes}


def kept(run: dict[str, Any]) -> float:
    """The winner's score above that of a constant answer, over the teacher's."""
    above = [run[which]["test"] - run["chance"] for which in ("winner", "teacher")]
    return float(above[0] / above[1])


def write_report(out: Path) -> bool:
    """Write the report; return whether every claim holds."""
    runs = {task: run for task, run in read_runs(out).items() if "error" not in run}
    rows, good = list[list[str]](), True
    for task, run in runs.items():
        good &= kept(run) >= KEPT and (task == DIGITS or run["seconds"] <= SECONDS)
        scores = [f"{r['test']:.1%} ({r['low']:.1%} to {r['high']:.1%})" for r in (run["teacher"], run["winner"])]
        sizes = [f"{run[which]['size_bytes'] / 1000:.1f}" for which in ("teacher", "winner")]
        rows.append(
            [task, f"{run['seconds']:.0f}", run["score"], f"{run['chance']:.1%}", *scores, f"{kept(run):.0%}", *sizes]
        )
    machines = sorted({f"{m['cpu']}, {m['cores']} cores" for m in (run["machine"] for run in runs.values())})
    write_atomic(
        out / "report.md", "\n".join(["# The demos of all tasks\n", markdown_table(HEAD, rows), *machines, ""])
    )
    return good


def main() -> int:
    """Run what is missing, then report on all there is."""
    tasks = [DIGITS, *sorted(path.stem for path in OF_TASKS.glob("*.toml"))]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", default=",".join(tasks))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    for task in [] if given.report_only else given.tasks.split(","):
        if not is_done(given.out, task):
            write_atomic(given.out / "runs" / f"{task}.json", json.dumps(demo(task), indent=1) + "\n")
    good = write_report(given.out)
    print((given.out / "report.md").read_text())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
