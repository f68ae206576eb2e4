"""A thousand inputs, each changed a little at random: every one must end with exit code 0, 2 or 3, and no traceback.

    python -m benchmarks.mutated_inputs [--count 1000] [--share 0/2]

Six good inputs (a config with arrays, the same with pictures in a folder and in parquet, a teacher as a module with
safetensors, one as ONNX) are changed in one place: values and keys of the config, bytes or meaning of a file. Each
runs as `nas-kd distill` in a process of its own, forked where torch is loaded already. OUT/results.jsonl keeps what was
seen, and what is there is not done again.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.common import markdown_table
from benchmarks.mutated_inputs.changes import MUTATIONS
from benchmarks.mutated_inputs.good_inputs import BASES, CONFIG, write_base
from nas_kd.cli.app import app
from nas_kd.latency.stable_timing import MeasurementBudget

OUT = Path("reports/mutated_inputs")
LIMIT_S, STOP_S, LIMIT_BYTES = 240, 30, 12 * 2**30
GOOD_CODES = (0, 2, 3, 130)  # 130: stopped by Ctrl-C after the limit
STARTED_TRAINING = re.compile(r"distilling the student|student\.onnx")


def run_one(base: Path, index: int) -> dict[str, Any]:
    """Change the good input by this number, and distill."""
    rng = np.random.default_rng([20_261, index])
    kind = list(BASES)[index % len(BASES)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(base, folder, dirs_exist_ok=True)
        data, teacher = BASES[kind]
        (folder / "config.toml").write_text(CONFIG.format(data=data, teacher=teacher))
        mutations = MUTATIONS[kind]
        change = mutations[int(rng.integers(len(mutations)))](folder, rng)
        started = time.monotonic()
        code, output = _forked(folder)
        log = folder / "run" / "run.log"
        lines = output.strip().splitlines()
        return {
            "index": index,
            "kind": kind,
            "change": change,
            "exit": code,
            "traceback": "Traceback" in output,
            "trained": bool(STARTED_TRAINING.search(output)),
            "last_line": lines[-1][:400] if lines else "",
            "lines": len(lines),
            "seconds": round(time.monotonic() - started, 1),
            "log": log.read_text()[-3000:] if code not in GOOD_CODES and log.exists() else "",
            "output": output[-3000:] if code not in GOOD_CODES or "Traceback" in output else "",
        }


def _forked(folder: Path) -> tuple[int, str]:
    output = folder / "output.txt"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
            resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.argv = ["nas-kd", "distill", "config.toml", "--run-dir", "run"]
            app()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), output.read_text(errors="replace")
        time.sleep(0.05)
    os.kill(child, signal.SIGINT)  # what asks for days of training is stopped as a user would stop it
    for _ in range(STOP_S):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), output.read_text(errors="replace")
        time.sleep(1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1, output.read_text(errors="replace") + f"\nnot over after {LIMIT_S} s, nor {STOP_S} s after Ctrl-C"


def report(rows: list[dict[str, Any]]) -> str:
    """Counts by kind, and whatever went wrong."""
    bad = [r for r in rows if r["exit"] not in GOOD_CODES or r["traceback"]]
    lines = []
    for kind in BASES:
        of_kind = [r for r in rows if r["kind"] == kind]
        codes = Counter(r["exit"] for r in of_kind)
        counts = [str(codes.get(code, 0)) for code in GOOD_CODES]
        lines.append(
            [
                kind,
                str(len(of_kind)),
                *counts,
                str(sum(r["trained"] for r in of_kind)),
                str(sum(r in bad for r in of_kind)),
            ]
        )
    total = f"{len(rows)} inputs, {sum(r['trained'] for r in rows)} of which reach training, {len(bad)} end badly.\n\n"
    head = ["kind", "inputs", *(f"exit {code}" for code in GOOD_CODES), "reach training", "end badly"]
    ends = "".join(f"- {r['kind']} {r['index']}, {r['change']}: exit {r['exit']}, {r['last_line']}\n" for r in bad)
    return f"# {(__doc__ or '').splitlines()[0]}\n\n{total}{markdown_table(head, lines)}\n{ends}"


def main() -> int:
    """Run what is not done yet, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", default="", help="indices, to look at")
    parser.add_argument("--share", default="0/1", help="K/N: every N-th from K, to run several beside each other")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    first, step = (int(part) for part in given.share.split("/"))
    wanted = [int(i) for i in given.only.split(",")] if given.only else list(range(first, given.count, step))
    done = set() if given.only else {r["index"] for r in rows}
    torch.set_num_threads(1)
    # How exact latencies are is not the question here.
    briefly = patch("nas_kd.nas.gate.FULL", MeasurementBudget(seconds=0.3, attempts=1, tolerance=1.0))
    with tempfile.TemporaryDirectory() as place, briefly:
        base = Path(place)
        write_base(base)
        for index in [] if given.report_only else [i for i in wanted if i not in done]:
            row = run_one(base, index)
            if given.only:
                print(json.dumps(row, indent=1))
                continue
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    (given.out / "report.md").write_text(report(sorted(rows, key=lambda r: r["index"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
