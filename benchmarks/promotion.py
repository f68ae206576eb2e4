"""What rungs are worth at equal training seconds, and who should be trained on.

    python benchmarks/promotion.py --case digits --seeds 0,1 [--data DATA] [--trials 350] [--workers 2] [--share 0.4]

A search by random draws in which every candidate within the budget is trained to the end, rung by rung. Then rules of
promotion are played on what was recorded: candidates come in random order, 60 times, until a share of all those
training seconds is spent. What counts is the hypervolume of those trained in full, as in `search_cost.py`, and the
highest validation accuracy among them.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import numpy as np

from benchmarks.common import machine_facts, markdown_table, numbers
from benchmarks.search_cost_cases import CASES, MANY
from benchmarks.search_cost_figures import USEFUL, Point, losses, volume
from benchmarks.search_cost_judge import train_teacher
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.nas.study import RunStudy
from nas_kd.nas.successive_halving import Rung
from nas_kd.results.intervals import kendall_tau
from nas_kd.results.pareto import contribution
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import TrialRecord
from nas_kd.serialization import write_atomic

ORDERS = 60
REDUCTION = 3
MEASURES = ("volume", "useful", "best", "in_full", "begun")
Row = Mapping[str, Any]


class ByChance(Rung):
    """Promotes the candidates in the order in which they reached the rung."""

    def best_first(self) -> Iterator[int]:
        """Yield the numbers in ascending order."""
        yield from self._numbers.tolist()


class ByAccuracy(Rung):
    """Promotes the most accurate candidates, whatever they cost."""

    def best_first(self) -> Iterator[int]:
        """Yield the numbers, the most accurate first."""
        yield from self._numbers[np.argsort(self._points[:, 0], kind="stable")].tolist()


class ByContribution(Rung):
    """By the hypervolume that the others at the rung leave to each."""

    def best_first(self) -> Iterator[int]:
        """Yield the numbers, the largest contribution first."""
        own = [contribution(p, np.delete(self._points, i, axis=0), np.zeros(3)) for i, p in enumerate(self._points)]
        yield from self._numbers[np.argsort(-np.array(own), kind="stable")].tolist()


RULES: dict[str, type[Rung] | None] = {
    "all in full": None,
    "by chance": ByChance,
    "fronts, crowding (as the search does)": Rung,
    "hypervolume contribution": ByContribution,
    "accuracy alone": ByAccuracy,
}


def table(record: RunRecord) -> dict[str, Any]:
    """What is known of each candidate that was trained in full, and of the teacher."""
    teacher = record.teacher
    if teacher is None or teacher.val is None or teacher.costs.latency_ms is None:
        raise ValueError("the teacher was not measured")
    return {
        "teacher": {
            "val": teacher.val.mean,
            "size_bytes": teacher.costs.size_bytes,
            "latency_ms": teacher.costs.latency_ms.p50,
        },
        "candidates": [
            {
                "size_bytes": t.objectives(len(t.rungs) - 1)[1],
                "latency_ms": t.objectives(len(t.rungs) - 1)[2],
                "epochs": [r.epochs for r in t.rungs],
                "val_accuracy": [r.val_accuracy for r in t.rungs],
                "seconds": [r.seconds for r in t.rungs],
            }
            for t in record.trials
            if t.status == "finished"
        ],
    }


def train_all(case: str, seed: int, trials: int, workers: int, data: Path | None) -> dict[str, Any]:
    """Train whatever random draws bring within the budget; the rungs' records."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = CASES[case].config(data, seed, train_teacher(CASES[case], seed, data, folder))
        given["search"] |= {"trials": trials, "sampler": "random", "workers": workers}
        config = SearchConfig.model_validate(given)
        next_to_promote = RunStudy.next_to_promote

        def promote_all(study: RunStudy, rungs: int, reduction: int, **options: Any) -> TrialRecord | None:
            return next_to_promote(study, rungs, reduction, **options | {"n_initial": MANY})

        with patch.object(RunStudy, "next_to_promote", promote_all):
            return table(search(config, run_dir=folder / "run"))


def point(row: Row, level: int) -> Point:
    """(accuracy, bytes, ms) at a rung, 0 the first."""
    return row["val_accuracy"][level], row["size_bytes"], row["latency_ms"]


def play(known: Row, rule: type[Rung] | None, order: Sequence[int], limit_s: float) -> dict[str, float]:
    """What a search has by then that begins candidates in this order; two rungs, the last one being the end."""
    rows, teacher = known["candidates"], known["teacher"]
    rung = rule(rows[0]["epochs"][0]) if rule is not None else None
    coming, done, spent, begun = iter(order), [], 0.0, 0
    while True:
        number = rung.next_to_promote(len(rung) // REDUCTION) if rung is not None else None
        if number is not None and rung is not None:
            rung.paused.discard(number)
            level, seconds = len(rows[number]["epochs"]) - 1, sum(rows[number]["seconds"][1:])
        elif (number := next(coming, None)) is None:
            break
        else:
            level = 0 if rung is not None else len(rows[number]["epochs"]) - 1
            seconds, begun = sum(rows[number]["seconds"][: level + 1]), begun + 1
        spent += seconds
        if spent > limit_s:
            break
        if level or rung is None:
            done.append(number)
        else:
            rung.add(number, losses(point(rows[number], 0), teacher, "val"))
            rung.paused.add(number)
    points = [point(rows[n], -1) for n in done]
    return {
        "volume": volume(points, teacher, "val"),
        "useful": volume(points, teacher, "val", USEFUL),
        "best": max((p[0] for p in points), default=0.0),
        "in_full": len(done),
        "begun": begun,
    }


def compare(known: Row, share: float) -> dict[str, Any]:
    """Each rule over the same orders: means, and by how much each is ahead of training everything in full."""
    rows = known["candidates"]
    limit_s = share * sum(sum(row["seconds"]) for row in rows)
    orders = [random.Random(i).sample(range(len(rows)), len(rows)) for i in range(ORDERS)]
    played = {name: [play(known, rule, order, limit_s) for order in orders] for name, rule in RULES.items()}
    plain = played["all in full"]
    found: dict[str, Any] = {}
    for name, results in played.items():
        found[name] = {m: fmean(r[m] for r in results) for m in MEASURES}
        ahead = [r["volume"] - p["volume"] for r, p in zip(results, plain, strict=True)]
        found[name]["ahead"], found[name]["ahead_se"] = fmean(ahead), stdev(ahead) / ORDERS**0.5
    return {"training_s": limit_s, "rules": found}


def description(name: str, known: Row, found: Mapping[str, Any]) -> str:
    """The section of the report for one case and seed."""
    rows = known["candidates"]
    first, last = ([row["val_accuracy"][i] for row in rows] for i in (0, -1))
    tau = kendall_tau(first, last) or 0.0
    head = ["rule", "hypervolume", "ahead", f"above {USEFUL:.0%}", "best accuracy", "in full", "begun"]
    lines = [
        [
            rule,
            f"{r['volume']:.3f}",
            f"{r['ahead']:+.3f} +- {r['ahead_se']:.3f}",
            f"{r['useful']:.3f}",
            f"{r['best']:.2%}",
            f"{r['in_full']:.0f}",
            f"{r['begun']:.0f}",
        ]
        for rule, r in found["rules"].items()
    ]
    epochs = rows[0]["epochs"]
    said = f"{len(rows)} candidates; after {epochs[0]} of {epochs[-1]} epochs Kendall's tau with the final accuracy is "
    said += f"{tau:.2f}. Played for {found['training_s']:.0f} training seconds."
    return f"## {name}\n\n{said}\n\n" + markdown_table(head, lines)


def main() -> None:
    """Train what is missing, play, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--case", choices=CASES, default="digits")
    parser.add_argument("--seeds", type=numbers, default=(0, 1), metavar="0,1,...")
    parser.add_argument("--data", type=Path, help="folder of the parquet files; digits need none")
    parser.add_argument("--trials", type=int, default=350, help="proposals, those rejected at the gate included")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.4, help="of all training seconds that a rule has")
    parser.add_argument("--out", type=Path, default=Path("reports/promotion"))
    given = parser.parse_args()
    for seed in given.seeds:
        file = given.out / f"{given.case}.{seed}.json"
        if not file.exists():
            known = train_all(given.case, seed, given.trials, given.workers, given.data)
            write_atomic(file, json.dumps({"machine": machine_facts(1), **known}, indent=1) + "\n")
    text = (
        f"# What rungs are worth at equal training seconds\n\nMeans over {ORDERS} random orders; `ahead`: of training "
    )
    text += "every candidate in full, paired by order, +- standard error. Of every three at the rung one goes on.\n"
    for file in sorted(given.out.glob("*.json")):
        known = json.loads(file.read_text())
        case, seed, _ = file.name.split(".")
        text += "\n" + description(f"{case}, seed {seed}", known, compare(known, given.share))
    write_atomic(given.out / "report.md", text)
    print(text)


if __name__ == "__main__":
    main()
