"""Fifty networks of public collections as teachers, and as the students of a search, without a line changed.

    python -m benchmarks.public_networks --clones DIR [--only vit,cait] [--few]

DIR holds clones of the collections in `networks.py`; vit-pytorch needs `einops` on PYTHONPATH. Each network is fitted
for a moment to pictures of plain colours; with --few, for networks that need minutes an epoch, to a quarter as many.
Then `nas-kd distill` takes it as the teacher of a small student, and `nas-kd search` as one of two candidates. What is
in OUT/results.jsonl is not done again; OUT/report.md has the table.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import markdown_table
from benchmarks.public_networks.networks import COLLECTIONS, Collection

OUT = Path("reports/public_networks")
LIMIT_S = 900  # a command
SEEDS = 4  # searches until the public network is proposed
NOT_PROPOSED = "not proposed"
FACTORY = """import sys
import warnings
sys.path.insert(0, {path!r})
warnings.filterwarnings("ignore")
{imports}


def make():
    return {expression}
"""
SPACE = """from torch import nn

import network
from nas_kd import Dimension, GridSpace


class Two(GridSpace):
    name = "two"
    summary = "a small network, and the public one"

    def network(self, choices, channels, n_classes):
        if choices["public"]:
            return network.make()
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, n_classes)
        )

    def describe(self, architecture):
        return "public" if self.checked(architecture)["public"] else "small"


SPACE = Two([Dimension("public", 0, 1)])
"""
CONFIG = """[data]
source = "npz"
path = "colours.npz"
[teacher]
factory = "network:make"
weights = "network.safetensors"
preprocessing = "unit"
[space]
name = "{space}"
[chain]
max_assistants = 0
[distill]
methods = ["soft_targets"]
epochs = 1
batch_size = 32
optimizer = "sgd"
learning_rate = 0.1
weight_decay = 0.0005
"""
SEARCH = """[search]
trials = 2
rungs = 1
[finalists]
max = 1
seeds = 1
controls = false
"""


def prepare(work: Path, collection: Collection, name: str, clones: Path, *, few: bool) -> None:
    """Write the network's module, its weights, the data and two configs, in a process of their own."""
    work.mkdir(parents=True, exist_ok=True)
    path = str((clones / collection.path).resolve())
    factory = FACTORY.format(path=path, imports=collection.imports, expression=collection.networks[name])
    (work / "network.py").write_text(factory)
    (work / "two.py").write_text(SPACE)
    (work / "teacher.toml").write_text(CONFIG.format(space="resnet"))
    (work / "student.toml").write_text(CONFIG.format(space="two:SPACE") + SEARCH)
    fit = [sys.executable, "-m", "benchmarks.public_networks.fit", str(work), str(collection.n_classes)]
    fit += ["--few"] if few else []
    code, output = _run(fit, Path.cwd())
    if code:
        raise RuntimeError(f"{name} cannot be fitted: {output[-500:]}")


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and output; a command that is not over in time has code -1."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"not over in {LIMIT_S} s"
    return done.returncode, done.stdout


def _nas_kd(command: str, config: str, work: Path, *options: str) -> dict[str, Any]:
    started = time.perf_counter()
    code, output = _run([sys.executable, "-m", "nas_kd", command, config, *options], work)
    lines = output.strip().splitlines()
    return {
        "exit": code,
        "last_line": lines[-1] if lines else "",
        "traceback": "Traceback" in output,
        "n_lines": len(lines),
        "seconds": round(time.perf_counter() - started, 1),
    }


def student_record(run_dir: Path) -> str:
    """What the search says of the candidate that is the public network."""
    if not (run_dir / "study.db").exists():
        return "no study"
    with sqlite3.connect(f"file:{run_dir / 'study.db'}?mode=ro", uri=True) as study:
        rows = study.execute("select value_json from trial_user_attributes where key = 'record'").fetchall()
    for (text,) in rows:
        record = json.loads(json.loads(text)) if text.startswith('"') else json.loads(text)
        if '"public": 1' in json.dumps(record):
            return str(record.get("reason") or record.get("error") or record.get("status") or "finished")
    return NOT_PROPOSED


def try_network(collection: Collection, name: str, clones: Path, work: Path, *, few: bool) -> dict[str, Any]:
    """Use a network as a teacher and as a student."""
    prepare(work, collection, name, clones, few=few)
    teacher = _nas_kd("distill", "teacher.toml", work, "--run-dir=distill")
    for seed in range(SEEDS):  # two proposals may both be the small network
        search = _nas_kd("search", "student.toml", work, f"--seed={seed}", f"--run-dir=search{seed}")
        record = student_record(work / f"search{seed}")
        if record != NOT_PROPOSED:
            break
    return {"network": name, **({"few": True} if few else {}), "teacher": teacher, "search": search, "student": record}


def report(rows: list[dict[str, Any]]) -> str:
    """Count what works, and list all networks in a table."""
    good = sum(r["teacher"]["exit"] == 0 for r in rows)
    finished = sum(r["search"]["exit"] == 0 for r in rows)
    exported = sum(r["student"] == "finished" for r in rows)
    head = (
        f"# {(__doc__ or '').splitlines()[0]}\n\n{len(rows)} networks: as a teacher {good} work; as a student "
        f"{exported} are exported, measured and trained; {finished} of the searches end well, tracebacks in "
        f"{sum(r[k]['traceback'] for r in rows for k in ('teacher', 'search'))} of {2 * len(rows)} outputs.\n\n"
    )
    lines = [
        [
            r["collection"],
            r["network"],
            "works" if r["teacher"]["exit"] == 0 else r["teacher"]["last_line"].replace("|", "\\|")[:200],
            r["student"].replace("|", "\\|").replace("\n", " ")[:200],
        ]
        for r in rows
    ]
    return head + markdown_table(["collection", "network", "as teacher", "as student"], lines)


def main() -> int:
    """Try what is not done yet, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clones", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--few", action="store_true")
    given = parser.parse_args()
    results = given.out / "results.jsonl"
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(r["collection"], r["network"]) for r in rows}
    wanted = [
        (c, n) for c in COLLECTIONS for n in COLLECTIONS[c].networks if not given.only or n in given.only.split(",")
    ]
    for collection, name in wanted:
        if (collection, name) in done:
            continue
        work = given.out / "work" / f"{collection}.{name}"
        try:
            row = {
                "collection": collection,
                **try_network(COLLECTIONS[collection], name, given.clones, work, few=given.few),
            }
        except RuntimeError as error:
            print(error, flush=True)
            continue
        rows.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{collection} {name}: teacher {row['teacher']['exit']}, student {row['student']}", flush=True)
    (given.out / "report.md").write_text(report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
