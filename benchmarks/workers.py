"""Throughput of a search with two workers against one, by turns.

    python benchmarks/workers.py --case digits|mnist|cifar10 [--data DIR] [--out reports/workers] [--seeds 0,1,2]
        [--report-only]

Both searches draw the same candidates: the sampler draws at random, everything else is as a search's own defaults are.
Counted is the time from the run's start, once the teacher is there, to the last candidate that was told: outputs of the
teacher, exports, measuring with all workers at rest, and the end, when one worker is left, are in it. Whom the rungs
promote depends on the order of arrival. So the work of both is counted in seconds that one worker needs for it: each
candidate's epochs times the seconds an epoch took in the search with one; whom that one did not train counts nothing.
Throughput is work over time. With one worker the first candidate's training computes the teacher's outputs, too: for
both it counts as work, as both have to do it. Before each pair: how much two processes that train one network each, for
some seconds, get done beside each other, against one alone: what the machine gives at that time, which changes from
minute to minute. Claim: >= 1.7 times the throughput of one worker on two cores.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import torch
from filelock import Timeout

from benchmarks.common import markdown_table, numbers
from benchmarks.runs import lock_of, read_runs
from benchmarks.search_cost_cases import CASES, CLASSES, SHAPES, Case
from benchmarks.search_cost_figures import Run, case_of, key_of, our_events, spread
from benchmarks.search_cost_runs import Place, do, run_search
from nas_kd.errors import InputError
from nas_kd.plugins import load
from nas_kd.serialization import write_atomic

CLAIM = 1.7
ALONE_S = 10.0  # of each of the trainings that tell what the machine gives
CANDIDATES = 40
MINUTES = 60.0  # a search ends by the number of candidates, long before
ARMS = {"one": 1, "two": 2}


def images_a_second(case: Case, seconds: float) -> float:
    """Training steps of a network of the case's space, halfway up its ladder, on one thread."""
    torch.set_num_threads(1)
    space = load("space", case.space)
    network = space.build(space.size_ladder(3)[1], SHAPES[case.name], CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images, labels = torch.rand(case.batch_size, *SHAPES[case.name]), torch.arange(case.batch_size) % CLASSES
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done += case.batch_size
    return done / (time.perf_counter() - started)


def machine_gives(case: Case) -> dict[str, Any]:
    """Images a second of one training alone, before and after, and of two beside each other."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(images_a_second, case), [1.0, 1.0]))  # both are started and warm
        before = pool.submit(images_a_second, case, ALONE_S).result()
        beside = list(pool.map(partial(images_a_second, case), [ALONE_S, ALONE_S]))
        after = pool.submit(images_a_second, case, ALONE_S).result()
    return {"alone": [before, after], "beside": beside, "times": sum(beside) / fmean([before, after])}


def trained(run: Run) -> dict[str, Mapping[str, Any]]:
    """Candidates that were trained, by their networks' names."""
    return {key_of(t["architecture"]): t for t in run["trials"] if t["rungs"]}


def seconds(run: Run) -> float:
    """From the run's start to the last candidate."""
    return float(max(t["elapsed_s"] for t in run["trials"]) - run["searching_from_s"])


def work(run: Run, one: Run) -> float:
    """Seconds that the worker of `one` needs for what `run` trained."""
    epoch_s = {key: t["training_s"] / max(t["rungs"]) for key, t in trained(one).items()}
    return float(sum(max(t["rungs"]) * epoch_s.get(key, 0.0) for key, t in trained(run).items()))


def write_report(out: Path) -> None:
    """Everything there is in OUT/runs."""
    runs = read_runs(out)
    pairs: dict[str, dict[int, dict[str, Run]]] = {}
    for name, run in runs.items():
        case, seed, arm = name.split(".")
        if "error" not in run:
            pairs.setdefault(case, {}).setdefault(int(seed), {})[arm] = run
    parts, result = ["# Two workers against one\n", INTRODUCTION], {}
    for case, seeds in pairs.items():
        whole = {seed: arms for seed, arms in sorted(seeds.items()) if {*ARMS, "machine"} <= arms.keys()}
        if not whole:
            continue
        rows = {seed: figures(arms) for seed, arms in whole.items()}
        ratios = {key: spread(row[key] for row in rows.values()) for key in ("throughput", "shorter", "machine")}
        result[case] = {"seeds": rows, "summary": ratios}
        parts += [f"## {case}\n", table(rows), summary(ratios), _machine(next(iter(whole.values()))["one"])]
    write_atomic(out / "result.json", json.dumps(result, indent=1) + "\n")
    write_atomic(out / "report.md", "\n".join(parts))


INTRODUCTION = """\
Both search the same candidates, drawn at random. Seconds: from the run's start, once the teacher is there, to the last
candidate that was told. Throughput: seconds that one worker needs for what was trained, over the seconds it took.
Machine: what two processes that only train get done beside each other, against one alone, just before.
"""


def figures(arms: dict[str, Run]) -> dict[str, Any]:
    """One pair."""
    one, two = arms["one"], arms["two"]
    one_s, two_s = seconds(one), seconds(two)
    return {
        "one_s": one_s,
        "two_s": two_s,
        "trained": [len(trained(one)), len(trained(two))],
        "in_full": [len(our_events(case_of(run), run)) for run in (one, two)],
        "shorter": one_s / two_s,
        "throughput": (work(two, one) / two_s) / (work(one, one) / one_s),
        "machine": arms["machine"]["times"],
        "idle_share": two["where_time_went"].get("idle", 0.0) / (2 * two_s),
    }


def table(rows: dict[int, dict[str, Any]]) -> str:
    """A line a seed."""
    head = ["seed", "one worker s", "two s", "trained", "in full", "times shorter", "throughput", "machine"]
    head.append("two: idle share")
    lines = [
        [
            str(seed),
            f"{row['one_s']:.0f}",
            f"{row['two_s']:.0f}",
            ", ".join(map(str, row["trained"])),
            ", ".join(map(str, row["in_full"])),
            f"{row['shorter']:.2f}",
            f"{row['throughput']:.2f}",
            f"{row['machine']:.2f}",
            f"{row['idle_share']:.0%}",
        ]
        for seed, row in rows.items()
    ]
    return markdown_table(head, lines)


def summary(ratios: dict[str, Any]) -> str:
    """Geometric means with the least and the most."""
    description = {key: f"{r['mean']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for key, r in ratios.items()}
    return (
        f"Throughput of two workers over one: {description['throughput']} (claim: {CLAIM}); times shorter: "
        f"{description['shorter']}; the machine gave {description['machine']}. "
        "Geometric mean [smallest, largest] over seeds.\n"
    )


def _machine(run: Run) -> str:
    case, m = run["settings"], run["machine"]
    return (
        f"Space {case['space']}, {case['epochs']} epochs, {len(run['trials'])} candidates; budget "
        f"{case['max_latency_ms']:g} ms and {case['max_size_kb']:g} kB. "
        f"{m['cpu']}, {m['cores']} cores, torch {m['torch']}, Python {m['python']}.\n"
    )


def main() -> int:
    """Run what is missing, then report on all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--case", choices=CASES, default="digits")
    parser.add_argument("--data", type=Path, help="folder of the parquet files; digits need none")
    parser.add_argument("--out", type=Path, default=Path("reports/workers"))
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2), metavar="0,1,...")
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    case = CASES[given.case]
    if given.case != "digits" and given.data is None and not given.report_only:
        parser.error(f"--case {given.case} needs --data, the folder of {given.case}-train.parquet")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended too
    base, good = Place(case, given.data, given.out, 2, ()), True
    try:
        if not given.report_only:
            base.work.mkdir(parents=True, exist_ok=True)
            write_atomic(base.work / ".gitignore", "*\n")
            with lock_of(base.work, "machine").acquire(timeout=0):  # beside another run times mean nothing
                for turn, seed in enumerate(given.seeds):
                    good &= pair(base, seed, [*ARMS][:: (-1) ** turn])
        write_report(given.out)
    except (InputError, Timeout) as error:
        description = "another process is at it" if isinstance(error, Timeout) else error
        print(f"workers.py: {description}", file=sys.stderr)
        return 2
    print((given.out / "report.md").read_text())
    return 0 if good else 1


def pair(base: Place, seed: int, order: list[str]) -> bool:
    """What the machine gives, then both searches; whether all went well."""
    overrides = {"search.trials": CANDIDATES, "search.sampler": "random"}
    good = do(base, seed, "machine", partial(machine_gives, base.case))
    for arm in order:
        place = replace(base, workers=ARMS[arm])
        good &= do(place, seed, arm, partial(run_search, place, seed, arm, MINUTES, overrides))
    return good


if __name__ == "__main__":
    sys.exit(main())
