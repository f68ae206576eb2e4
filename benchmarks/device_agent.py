"""Whether a device agent measures what this machine itself does: file by file, and the front of a search.

    python -m benchmarks.device_agent [--rounds 5] [--trials 12] [--epochs 9] [--out reports/device_agent/result.json]

The agent is a process of its own with no more than a board has: first behind the loopback, then, where this user may
make one, in another network namespace. All keep this machine's usual speed in one place, and files
are measured by turns, so that they see the same machine. The searches draw the same candidates (random sampler, one
seed) and train them alike, so that fronts may differ only where latencies do: `explained` says whether each candidate
that is on one front alone has a rival whose interval overlaps its own.
Claim: the agent's median within 3 % of this machine's; the same front within the intervals.
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.agent_process import TOKEN, AgentProcess
from benchmarks.latency_files import write_sizes
from benchmarks.network_namespace import network_namespace
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.latency.agent_protocol import TOKEN_VARIABLE
from nas_kd.latency.device import Device, open_device
from nas_kd.latency.environment import machine_facts
from nas_kd.results.latency import Latency
from nas_kd.results.pareto import non_dominated
from nas_kd.results.trial_record import Costs, TrialRecord
from nas_kd.serialization import write_atomic

HERE = "cpu-1t"


@contextmanager
def devices(work: Path) -> Iterator[dict[str, str]]:
    """Names of devices: this machine, an agent on it, an agent in another network."""
    with ExitStack() as stack:
        cache = work / "cache"
        os.environ["NAS_KD_CACHE"] = str(cache)
        names = {"here": HERE, "loopback": stack.enter_context(AgentProcess(work / "loopback", cache=cache)).url}
        try:
            elsewhere = stack.enter_context(network_namespace())
        except OSError as error:
            print(f"no network namespace: {error}")
        else:
            arguments = ["--host", elsewhere.address]
            agent = AgentProcess(work / "namespace", arguments, elsewhere.prefix, cache)
            names["namespace"] = stack.enter_context(agent).url
        yield names


def compare_files(opened: Mapping[str, Device], files: list[Path], rounds: int) -> dict[str, Any]:
    """Each file on each device by turns; medians as multiples of this machine's of the same round."""
    result = {}
    for file in files:
        content = file.read_bytes()
        p50: dict[str, list[float]] = {name: [] for name in opened}
        for _ in range(1 + rounds):  # the first calibrates
            for name, device in opened.items():
                p50[name].append(device.measure(content, 1).p50)
        ratios = {n: [a / b for a, b in zip(v[1:], p50["here"][1:], strict=True)] for n, v in p50.items()}
        result[file.stem] = {"p50_ms": p50, "ratio": ratios, "median_ratio": {n: median(r) for n, r in ratios.items()}}
    return result


def config(device: str, trials: int, epochs: int) -> SearchConfig:
    """The digits, each candidate in full."""
    return SearchConfig.model_validate(
        {
            "device": {"name": device},
            "distill": {"epochs": epochs},
            "search": {"trials": trials, "sampler": "random", "rungs": 1},
            "finalists": {"max": 1, "seeds": 1, "controls": False},
        }
    )


def judged(device: str, folder: Path, trials: int, epochs: int) -> dict[str, TrialRecord]:
    """The candidates of a search, by id."""
    run = search(config(device, trials, epochs), folder)
    return {t.id: t for t in run.trials if t.status == "finished"}


def compare_searches(here: dict[str, TrialRecord], there: dict[str, TrialRecord]) -> dict[str, Any]:
    """Fronts of both, and of each candidate whether the intervals overlap."""
    both = [i for i in here if i in there]
    fronts = [front([run[i] for i in both]) for run in (here, there)]
    exclusive_measurement = sorted(fronts[0] ^ fronts[1])
    pairs = {i: (latency(here[i]), latency(there[i])) for i in both}
    return {
        "candidates": len(both),
        "equal_accuracy": sum(here[i].val_accuracy == there[i].val_accuracy for i in both),
        "overlapping_intervals": sum(a.low <= b.high and b.low <= a.high for a, b in pairs.values()),
        "median_ratio": median(b.p50 / a.p50 for a, b in pairs.values()),
        "front_here": sorted(fronts[0]),
        "front_there": sorted(fronts[1]),
        "explained": {
            i: has_close_rival(i, both, here) or has_close_rival(i, both, there) for i in exclusive_measurement
        },
    }


def front(trials: list[TrialRecord]) -> set[str]:
    """Ids of those not dominated in accuracy, size and latency."""
    measured = [(t.val_accuracy or 0.0, costs_of(t)) for t in trials]
    points = np.array([[-accuracy, c.require_size(), c.require_latency().p50] for accuracy, c in measured])
    return {t.id for t, keep in zip(trials, non_dominated(points), strict=True) if keep}


def has_close_rival(one: str, ids: list[str], run: dict[str, TrialRecord]) -> bool:
    """Whether another one's interval overlaps its own."""
    mine = latency(run[one])
    others = [latency(run[i]) for i in ids if i != one]
    return any(o.low <= mine.high and mine.low <= o.high for o in others)


def costs_of(trial: TrialRecord) -> Costs:
    """The measured costs of a judged trial."""
    if trial.costs is None or trial.costs.latency_ms is None:
        raise ValueError(f"trial {trial.number} was not measured")
    return trial.costs


def latency(trial: TrialRecord) -> Latency:
    """The measured latency of a judged trial."""
    return costs_of(trial).require_latency()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each file on each device")
    parser.add_argument("--trials", type=int, default=12, help="of each search; 0: no searches")
    parser.add_argument("--epochs", type=int, default=9, help="of each candidate")
    parser.add_argument("--out", type=Path, default=Path("reports/device_agent/result.json"))
    args = parser.parse_args()
    os.environ[TOKEN_VARIABLE] = TOKEN
    with TemporaryDirectory() as folder, devices(Path(folder)) as names:
        files = write_sizes(Path(folder) / "files")
        measured = compare_files({name: open_device(device) for name, device in names.items()}, files, args.rounds)
        runs = {
            name: judged(device, Path(folder) / f"run-{name}", args.trials, args.epochs)
            for name, device in names.items()
            if args.trials
        }
    searches = {name: compare_searches(runs["here"], runs[name]) for name in runs if name != "here"}
    description = " ".join(f"--{option} {getattr(args, option)}" for option in ("rounds", "trials", "epochs"))
    result = {
        "command": f"python -m benchmarks.device_agent {description}",
        "environment": machine_facts(),
        "files": measured,
        "searches": searches,
    }
    for file, rows in measured.items():
        print(file, {name: f"{ratio:.4f}" for name, ratio in rows["median_ratio"].items()})
    for name, facts in searches.items():
        print(name, {k: v for k, v in facts.items() if not k.startswith("front")})
    write_atomic(args.out, json.dumps(result, indent=1) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
