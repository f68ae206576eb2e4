"""Single runs of `search_cost.py`: the script, a search, the judge; each leaves one JSON file."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import tomli_w

from benchmarks.common import machine_facts
from benchmarks.runs import is_done
from benchmarks.search_cost_cases import Case
from benchmarks.search_cost_figures import Run
from benchmarks.search_cost_judge import Judge, train_teacher
from nas_kd.errors import InputError, TrialError
from nas_kd.results.hypervolume import TRAINING_PARTS
from nas_kd.serialization import write_atomic

ROOT = Path(__file__).resolve().parent.parent
Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where results and leftovers of one case lie, and how its searches are run."""

    case: Case
    data: Path | None
    out: Path
    workers: int
    judge_seeds: tuple[int, ...]

    @property
    def work(self) -> Path:
        """What need not be kept."""
        return self.out / "work"

    def name(self, seed: int, arm: str) -> str:
        """`digits.0.ours`, also the name of its file."""
        return f"{self.case.name}.{seed}.{arm}"

    def result(self, seed: int, arm: str) -> Run:
        """A good result.

        Raises:
            InputError: it is not there.
        """
        name = self.name(seed, arm)
        if not is_done(self.out, name):
            raise InputError(f"{name} is missing or failed; run without --report-only")
        return dict(json.loads((self.out / "runs" / f"{name}.json").read_text()))


def child(
    command: Sequence[str], log: Path, checkout: Path = ROOT, allowed: Sequence[int] = (0,)
) -> tuple[float, float]:
    """Run a process of a checkout to its end; when it was started (seconds since 1970), and how long it took.

    `allowed`: exit statuses that are no failure.

    Raises:
        TrialError: it failed; its last words.
    """
    environment = {k: v for k, v in os.environ.items() if k not in {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}}
    environment["PYTHONPATH"] = str(checkout)
    with log.open("w") as description:
        started = time.time()
        done = subprocess.run(
            command, cwd=checkout, env=environment, stdout=description, stderr=subprocess.STDOUT, check=False
        )
        seconds = time.time() - started
    if done.returncode not in allowed:
        last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
        raise TrialError(f"exit status {done.returncode}: {last[:300]}")
    return started, seconds


def run_script(place: Place, seed: int) -> dict[str, Any]:
    """`plain_optuna.py`, from start to end."""
    case, stem = place.case, place.work.resolve() / place.name(seed, "plain")
    teacher = train_teacher(case, seed, place.data, place.work)
    given, lines, log = (stem.with_name(stem.name + end) for end in (".case.json", ".jsonl", ".log"))
    given.write_text(json.dumps(case.script(place.data, seed, teacher)))
    script = Path(__file__).with_name("plain_optuna.py")
    _, seconds = child([sys.executable, str(script), str(given), "--out", str(lines)], log)
    facts = json.loads(log.read_text().strip().splitlines()[-1])
    trials = [json.loads(line) for line in lines.read_text().splitlines()]
    return {"process_s": round(seconds, 3), **facts, "trials": trials}


def run_search(place: Place, seed: int, arm: str, minutes: float, overrides: Overrides) -> dict[str, Any]:
    """`nas-kd search` in a fresh folder, for so long."""
    case, folder = place.case, place.work.resolve() / place.name(seed, arm)
    teacher = train_teacher(case, seed, place.data, place.work)
    config = folder.with_name(f"{folder.name}.toml")
    config.write_text(tomli_w.dumps(case.config(place.data, seed, teacher)))
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "nas_kd", "search", str(config), "--run-dir", str(folder)]
    command += ["--workers", str(place.workers), "--max-minutes", f"{minutes:.4f}"]
    for key, value in overrides.items():
        command += ["--set", f"{key}={value}"]
    started, seconds = child(command, folder.with_name(f"{folder.name}.log"))
    result = {
        "overrides": dict(overrides),
        "workers": place.workers,
        "minutes": minutes,
        "process_s": round(seconds, 3),
        **read_study(folder / "study.db", started),
    }
    shutil.rmtree(folder)
    return result


def read_study(database: Path, started: float) -> dict[str, Any]:
    """A search's trials, in seconds since its process was started, and the teacher as it measured it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
    study = optuna.load_study(study_name=None, storage=storage)
    trials, offsets = [], []
    for stored in study.get_trials(deepcopy=False):
        record = stored.user_attrs.get("record")
        if record is None or stored.datetime_complete is None:
            continue
        told_s = stored.datetime_complete.timestamp() - started  # imports, data and the teacher's gate included
        offsets.append(told_s - record["elapsed_s"])
        trials.append(trial_facts(record, told_s))
    teacher = study.user_attrs["teacher"]
    storage.remove_session()
    storage.engine.dispose()
    return {
        "searching_from_s": round(min(offsets, default=0.0), 3),
        "elastic_s": (study.user_attrs.get("once_for_all") or {}).get("training_s", 0.0),
        "where_time_went": study.user_attrs.get("seconds", {}),
        "teacher": {
            "val": teacher["val"]["mean"],
            "size_bytes": teacher["costs"]["size_bytes"],
            "latency_ms": teacher["costs"]["latency_ms"]["p50"],
        },
        "trials": trials,
    }


def trial_facts(record: Mapping[str, Any], told_s: float) -> dict[str, Any]:
    """What the benchmark needs of a trial."""
    costs = record["costs"] or {}
    latency = costs.get("latency_ms") or {}
    return {
        "elapsed_s": round(told_s, 3),
        "status": record["status"],
        "architecture": record["candidate"]["student"],
        "val_accuracy": record["val_accuracy"],
        "size_bytes": costs.get("size_bytes"),
        "latency_ms": latency.get("p50"),
        "rungs": [r["epochs"] for r in record["rungs"]],
        "training_s": round(sum(record["seconds"].get(part, 0.0) for part in TRAINING_PARTS), 4),
    }


def run_judge(place: Place, seed: int) -> dict[str, Any]:
    """Costs of the script's candidates, and both fronts trained again."""
    judge = Judge(place.case, seed, place.data, place.work, place.judge_seeds)
    return asdict(judge.judge(place.result(seed, "plain"), place.result(seed, "ours")))


def do(place: Place, seed: int, arm: str, run: Callable[[], dict[str, Any]]) -> bool:
    """Do a run, unless it is there, and write what it gives, or why it failed; whether there is a good result."""
    name = place.name(seed, arm)
    if is_done(place.out, name):
        require_same(place, seed, arm)
        return True
    started = time.monotonic()
    result: dict[str, Any] = {"settings": asdict(place.case), "machine": machine_facts(os.cpu_count() or 1)}
    try:
        result |= run()
    except (InputError, TrialError, ValueError, RuntimeError, OSError) as error:
        result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    result["load_after"] = round(os.getloadavg()[0], 2)
    told = f"FAILED: {result['error']}" if "error" in result else "done"
    write_atomic(place.out / "runs" / f"{name}.json", json.dumps(result, indent=1) + "\n")
    print(f"{name}: {told}; {time.monotonic() - started:.0f} s", flush=True)
    return "error" not in result


def require_same(place: Place, seed: int, arm: str) -> None:
    """Refuse to go on beside results of other settings.

    Raises:
        InputError: says which differ.
    """
    result = place.result(seed, arm)
    there = {"workers": place.workers} | result["settings"] | {k: result[k] for k in ("workers",) if k in result}
    wanted = {"workers": place.workers} | asdict(place.case)
    if there != wanted:
        other = ", ".join(f"{k} {there.get(k)!r} (now {v!r})" for k, v in wanted.items() if there.get(k) != v)
        raise InputError(f"{place.name(seed, arm)} was made with other settings: {other}; take another --out")
