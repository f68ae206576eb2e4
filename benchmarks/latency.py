"""Can a latency be trusted? Its repeatability, its intervals, a plain loop beside it, rankings, and what it costs.

    python benchmarks/latency.py [--out reports/latency] [--repeats 10] [--candidates 30] [--gate 200] [--toy]
        [--report-only]

12 files (3 sizes x 2 spaces x fp32 and int8), each measured `--repeats` times, quiet and beside a busy process, and by
a plain loop (`plain_timing.py`); `--candidates` random networks ranked twice, at the beginning and at the end; the gate
over `--gate` fresh ones. Every measurement is a process of its own. What is done lies in OUT/work, which git ignores,
and is not done again: stop it whenever you like. OUT gets result.json, with all raw results, and report.md. Nothing
else may run beside it. `--toy`: 2 repeats, 4 candidates, 3 gated, to see whether it works.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import torch
from filelock import Timeout

from benchmarks.latency_files import write_candidates, write_sizes
from benchmarks.latency_report import write_report
from benchmarks.runs import bind, is_done, lock_of, read_runs
from nas_kd.errors import InputError
from nas_kd.latency.environment import machine_facts
from nas_kd.serialization import write_atomic

HERE = Path(__file__).resolve().parent
LIMIT_S = 3600  # of one run; the gate is the longest
Plan = dict[str, list[str]]


@dataclass(frozen=True)
class Size:
    """How many files are measured, and how often."""

    repeats: int
    candidates: int
    gate: int
    plain_s: float = 1.0


TOY = Size(repeats=2, candidates=4, gate=3, plain_s=0.1)


def plan(size: Size, files: list[Path], candidates: list[Path]) -> Plan:
    """Runs in their order, each with its script and arguments; `CORE` stands for that of the run before."""
    once, plain = "latency_once.py", "plain_timing.py"
    runs: Plan = {f"rank1.{number:03d}": [once, str(path)] for number, path in enumerate(candidates)}
    for repeat in range(size.repeats):
        for path in files:
            name = f"r{repeat:02d}.{{}}.{path.stem}"
            runs[name.format("quiet")] = [once, str(path)]
            runs[name.format("plain")] = [plain, str(path), "--seconds", str(size.plain_s), "--core", "CORE"]
            runs[name.format("busy")] = [once, str(path), "--busy"]
    runs["gate"] = ["latency_gate.py", "--count", str(size.gate)]
    # In another order, so that neighbours in time are not neighbours in rank on both occasions.
    runs |= {f"rank2.{number:03d}": [once, str(path)] for number, path in reversed(list(enumerate(candidates)))}
    return runs


def do(work: Path, name: str, command: list[str], core: str) -> bool:
    """One run; its result, or why there is none, goes to a file. Whether it went well."""
    script, *arguments = command
    filled = [core if argument == "CORE" else argument for argument in arguments]
    environment = os.environ | {"NAS_KD_CACHE": str(work / "cache"), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, str(HERE / script), *filled]
    try:
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, env=environment, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        result = {"error": str(error)}
    write_atomic(work / "runs" / f"{name}.json", json.dumps(result, indent=1) + "\n")
    return "error" not in result


def do_all(work: Path, runs: Plan) -> int:
    """What is missing; how many failed."""
    if missing := [name for name in runs if not is_done(work, name)]:
        for size in ("small", "large"):  # the first measurement against a reference calibrates, which takes longer
            do(work, f"warm-up.{size}", ["latency_once.py", str(work / "files" / f"resnet-{size}-fp32.onnx")], "")
    failed = 0
    for position, name in enumerate(missing, start=1):
        good = do(work, name, runs[name], core_of(work, name))
        failed += not good
        print(f"[{position}/{len(missing)}] {name}{'' if good else ': FAILED'}", flush=True)
    return failed


def core_of(work: Path, name: str) -> str:
    """The core that the quiet measurement of the same round and file was bound to at first."""
    beside = work / "runs" / f"{name.replace('.plain.', '.quiet.')}.json"
    if ".plain." not in name or not beside.exists():
        return "0"
    return str(json.loads(beside.read_text()).get("pinned_to") or 0).split(",")[0]


def arguments() -> argparse.Namespace:
    """Parse the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("reports/latency"))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--gate", type=int, default=200)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--report-only", action="store_true")
    return parser.parse_args()


def run(given: argparse.Namespace) -> int:
    """Do what is missing, then report on all there is; how many runs failed."""
    size = TOY if given.toy else Size(given.repeats, given.candidates, given.gate)
    work: Path = given.out / "work"
    if given.report_only and not (work / "environment.json").exists():
        raise InputError(f"{work} holds no results to report on")
    work.mkdir(parents=True, exist_ok=True)
    write_atomic(work / ".gitignore", "*\n")
    bind(work, size)
    failed = 0
    if not given.report_only:
        with lock_of(work, "machine").acquire(timeout=0):
            write_atomic(work / "environment.json", json.dumps(machine_facts() | {"torch": torch.__version__}) + "\n")
            files = write_sizes(work / "files"), write_candidates(work / "files", size.candidates)
            failed = do_all(work, plan(size, *files))
    facts = json.loads((work / "environment.json").read_text())
    asked = "--toy" if given.toy else f"--repeats {size.repeats} --candidates {size.candidates} --gate {size.gate}"
    command = f"python benchmarks/latency.py --out {given.out} {asked}"
    write_report(given.out, read_runs(work), {"command": command, "environment": facts})
    return failed


def main() -> int:
    """Run the benchmark and write its report."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child is ended too
    given = arguments()
    try:
        failed = run(given)
    except (InputError, Timeout) as error:
        print(f"latency.py: {'another process is at it' if isinstance(error, Timeout) else error}", file=sys.stderr)
        return 2
    print(f"wrote {given.out}/report.md; {failed} runs failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
