"""Kills searches with SIGKILL at random moments, starts them again, and looks whether anything was lost or done twice.

    python -m benchmarks.resume_kills [--workers 1] [--kills 20] [--seed 0] [--out reports/resume_kills]

One uninterrupted search on the digits is the reference. Further runs get its exports and latencies (measured anew, a
latency would be another one). The first of them, run 0, is left alone; the others are killed at moments drawn uniformly
from its duration: the coordinator, or, where there are workers, sometimes one of these. Claims: what was finished when
a kill came (weights in the store, rungs in the study) is not trained again; nothing that a run has started outlives its
coordinator; with one worker, candidates, fates, accuracies, finalists and winner are those of the uninterrupted run, to
the last bit.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import machine_facts, markdown_table
from benchmarks.killed_search import Search
from nas_kd.commands.load_run import read_run
from nas_kd.config.loading import dump_config
from nas_kd.config.options import SearchConfig
from nas_kd.context.run_folder import RunFolder
from nas_kd.results.run_record import RunRecord
from nas_kd.serialization import sha256, write_atomic

KILLS_A_RUN = 6  # then it is left alone until it is finished
WORKER_SHARE = 0.4  # of the kills that hit a worker, where there are any
MEASURED_ANEW = {"seconds", "elapsed_s", "attempts", "training_s"}
KILLED_TWICE = "its worker died 2 times"  # then a trial may fail
SHARED = ("export", "latency")
FINISHED = ("weights", "file")  # kinds of the store that take a training to make
CONFIG = {
    "name": "kills",
    "data": {"source": "digits", "augment": {"crop": 0}},
    "teacher": {"epochs": 6},
    "chain": {"assistant_sizes": 3},
    "distill": {"methods": ["soft_targets", "similarity", "none"], "epochs": 9, "batch_size": 64, "probe_minutes": 0},
    "budget": {"max_latency_ms": 5.0, "max_size_kb": 60},
    "search": {"trials": 12, "rungs": 3, "reduction": 2, "rung_steps": 1},
    "finalists": {"max": 2, "seeds": 2, "max_control_epochs": 1.5},
    "engine": {"threads": 1},
}


@dataclass
class Kill:
    """One SIGKILL, `after_s` seconds after the start or the last kill. `left`: what outlived the coordinator."""

    run: int
    after_s: float
    what: str
    phase: str
    left: list[str] = field(default_factory=list)


@dataclass
class Finished:
    """What was finished at some moment: files of the store, and rungs of told trials."""

    files: dict[str, tuple[int, str]]
    rungs: dict[int, list[dict[str, Any]]]
    attempts: dict[int, int]

    @staticmethod
    def of(folder: Path) -> "Finished":
        """As the folder shows it; its process is dead."""
        files = {}
        for kind in FINISHED:
            for path in sorted((folder / "store" / kind).glob("??/[!.]*.*")):
                if path.suffix != ".lock":
                    files[str(path.relative_to(folder))] = (path.stat().st_ino, sha256(path.read_bytes()))
        trials = read_run(RunFolder(folder)).trials if (folder / "study.db").exists() else ()
        rungs = {t.number: [r.model_dump() for r in t.rungs] for t in trials}
        return Finished(files, rungs, {t.number: t.attempts for t in trials})

    def lost_in(self, later: "Finished") -> list[str]:
        """What was made again, or is gone."""
        files = [name for name, facts in self.files.items() if later.files.get(name) != facts]
        rungs = [f"trial {n}" for n, r in self.rungs.items() if later.rungs.get(n, [])[: len(r)] != r]
        begun = [f"trial {n} begun again" for n, a in self.attempts.items() if later.attempts.get(n) != a]
        return files + rungs + begun


class Killing:
    """Runs that are killed again and again, in `place`."""

    def __init__(self, place: Path, workers: int, seed: int) -> None:
        self._place, self._workers = place, workers
        self._random = np.random.default_rng([seed, workers])
        self._config, self._reference = place / "kills.toml", place / "reference"
        write_atomic(self._config, dump_config(SearchConfig.model_validate(CONFIG)))
        self.kills: list[Kill] = []
        self.lost: list[str] = []
        self.differing: list[str] = []
        self._search(self._reference).ended_well()
        started = time.monotonic()
        self.run(0, 0)
        self.expected_s = time.monotonic() - started

    def _search(self, folder: Path) -> Search:
        return Search(self._config, folder, self._workers)

    def run(self, number: int, most: int) -> None:
        """One run with `most` kills at most, until it is finished."""
        folder, until = self._place / f"run-{number}", len(self.kills) + most
        for kind in SHARED:
            shutil.copytree(self._reference / "store" / kind, folder / "store" / kind)
        seen: list[Finished] = []
        while self._kill(number, folder, until, seen):
            pass
        end = Finished.of(folder)
        self.lost += [f"run {number}: {what}" for early in seen for what in early.lost_in(end)]
        self.differing += [f"run {number}: {what}" for what in differences(self._reference, folder, self._workers)]
        print(f"run {number}: {sum(k.run == number for k in self.kills)} kills, {_phase(folder)}", flush=True)

    def _kill(self, number: int, folder: Path, until: int, seen: list[Finished]) -> bool:
        """Start a search and kill workers of it, and at last itself; False: it was finished before."""
        search = self._search(folder)
        while len(self.kills) < until and not search.ends_in(after_s := self._moment()):
            workers = search.workers() if self._random.random() < WORKER_SHARE else []
            kill = Kill(number, round(after_s, 2), "worker" if workers else "coordinator", _phase(folder))
            self.kills.append(kill)
            if workers:
                workers[int(self._random.integers(len(workers)))].kill()
            else:
                search.process.kill()
                search.process.wait()
                kill.left += search.left()
            seen.append(Finished.of(folder))
            if not workers:
                return True
        search.ended_well()
        return False

    def _moment(self) -> float:
        return float(self._random.uniform(0, self.expected_s))


def _phase(folder: Path) -> str:
    if not (folder / "study.db").exists():
        return "before the study"
    run = read_run(RunFolder(folder))
    return f"{run.state}, {len(run.trials)} trials told, {len(run.finalists)} finalists"


def differences(reference: Path, folder: Path, workers: int) -> list[str]:
    """In what a finished run is unlike the reference; with several workers, only what may not be."""
    mine, theirs = read_run(RunFolder(folder)), read_run(RunFolder(reference))
    failed = [t for t in mine.trials if t.status == "failed" and not (t.reason or "").startswith(KILLED_TWICE)]
    found = [f"trial {t.number} failed: {t.reason}" for t in failed]
    distinct = [t.id for t in mine.trials if t.status != "duplicate"]
    if mine.state != "finished" or len(set(distinct)) != len(distinct) or len(distinct) != _distinct(theirs):
        found.append(f"{mine.state} with {len(distinct)} trials")
    if workers > 1:
        return found
    for part in ("trials", "finalists"):
        pairs = zip_longest(_dumped(mine, part), _dumped(theirs, part))
        found += [f"{part} {i}" for i, (a, b) in enumerate(pairs) if a != b]
    winners = [(f / "winner" / "student.onnx").read_bytes() for f in (folder, reference)]
    fronts = [without_times(json.loads((f / "front.json").read_text())) for f in (folder, reference)]
    return found + ["winner"] * (winners[0] != winners[1]) + ["front"] * (fronts[0] != fronts[1])


def _distinct(run: RunRecord) -> int:
    return sum(t.status != "duplicate" for t in run.trials)


def _dumped(run: RunRecord, part: str) -> Any:
    return without_times(run.model_dump(mode="json", include={part})[part])


def without_times(value: Any) -> Any:
    """JSON without what is measured anew in every run."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in MEASURED_ANEW}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def write_report(out: Path) -> None:
    """`report.md` of all results in the folder."""
    head = [
        "workers",
        "kills",
        "of workers",
        "runs",
        "left behind",
        "done twice or lost",
        "unlike the uninterrupted",
    ]
    rows, facts = [], []
    for path in sorted(out.glob("workers-*.json")):
        result = json.loads(path.read_text())
        kills, what = result["kills"], Counter(k["what"] for k in result["kills"])
        counts = [len(kills), what["worker"], result["runs"], sum(len(k["left"]) for k in kills)]
        numbers = [result["workers"], *counts, len(result["lost"]), len(result["differing"])]
        rows.append([str(n) for n in numbers])
        machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
        facts.append(f"- workers {result['workers']}: left alone, a run took {result['expected_s']:.0f} s; {machine}\n")
    text = "# Searches killed with SIGKILL at random moments, and started again\n\n"
    said = (__doc__ or "").split("\n\n")[2]
    write_atomic(out / "report.md", f"{text}{said.strip()}\n\n{markdown_table(head, rows)}\n{''.join(facts)}")


def main() -> int:
    """Kill, compare, write; the exit status says whether all claims hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/resume_kills"))
    arguments = parser.parse_args()
    machine = machine_facts(threads=1)
    with tempfile.TemporaryDirectory() as place:
        killing, runs = Killing(Path(place), arguments.workers, arguments.seed), 1
        while (rest := arguments.kills - len(killing.kills)) > 0:
            killing.run(runs, min(rest, KILLS_A_RUN))
            runs += 1
    held = not (killing.lost or killing.differing or any(k.left for k in killing.kills))
    result = {
        "workers": arguments.workers,
        "seed": arguments.seed,
        "runs": runs - 1,
        "expected_s": round(killing.expected_s, 2),
        "held": held,
        "lost": killing.lost,
        "differing": killing.differing,
        "kills": [asdict(k) for k in killing.kills],
        "machine": machine,
        "config": CONFIG,
    }
    write_atomic(arguments.out / f"workers-{arguments.workers}.json", json.dumps(result, indent=1) + "\n")
    write_report(arguments.out)
    print(json.dumps({k: result[k] for k in ("runs", "expected_s", "held", "lost", "differing")}, indent=1))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
