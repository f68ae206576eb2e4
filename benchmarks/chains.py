"""Does a teacher assistant pay? Chains against direct distillation, at equal student epochs and at equal total cost.

    python benchmarks/chains.py --data DIR [--out reports/chains] [--teacher 3] [--assistants 2] [--student 1]
        [--method soft_targets] [--seeds 5] [--rows 10000] [--epochs 30] [--threads 1] [--worker i/n] [--report-only]

Networks are given by their blocks a stage: 3, 2, 1 are ResNet-20, -14, -8; `--assistants 3,2` is a chain of two. All
links are distilled with one method, and each seed trains assistants of its own. Total cost: multiply-adds of training
(three forward passes a sample) of assistants and student, and of the forward passes of those they learn from, once an
epoch; the teacher's training is free to all. Runs are resumed and split like those of `benchmarks/methods.py`.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

from benchmarks.cifar_trainings import CifarTrainings, Settings, record_cifar_run
from benchmarks.common import machine_facts, markdown_table, net_words, numbers
from benchmarks.runs import bind, is_done, read_runs, run_all, worker_of
from nas_kd.engine.teacher_outputs import TeacherOutputs, can_use_cache
from nas_kd.engine.training import Training
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs
from nas_kd.kd.chain_policies.dense import make_dense
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.results.intervals import paired_gain
from nas_kd.serialization import fingerprint, write_atomic

ASSISTANT_SEED = 1_000_003
TRAINING = 3  # a training step in forward passes
ARMS = {
    "none": "the student alone, labels only",
    "direct": "teacher -> student",
    "direct_equal_cost": "teacher -> student, for as many epochs as the chain costs",
    "sequential": "each link learns from the one before (TAKD)",
    "dense": "each link learns from all before (DGKD)",
}
Taught = tuple[Method, list[TeacherOutputs]]


@dataclass(frozen=True)
class ChainSettings(Settings):
    """What one chain of networks consists of, with its assistants and method."""

    assistants: tuple[int, ...] = ()
    method: str = "soft_targets"


def sequential(method: str, previous: list[TeacherOutputs]) -> Taught:
    """A link learns from the last of the `previous`."""
    return make_method(method), previous[-1:]


def dense(method: str, previous: list[TeacherOutputs]) -> Taught:
    """A link learns from all `previous`."""
    return make_dense(method, None, 1.0, len(previous)), previous


POLICIES: dict[str, Callable[[str, list[TeacherOutputs]], Taught]] = {"sequential": sequential, "dense": dense}


class Chains:
    """The chains of one folder of results."""

    def __init__(self, cifar: CifarTrainings, settings: ChainSettings) -> None:
        self.cifar, self.settings = cifar, settings

    def links(self, arm: str, seed: int) -> list[TeacherOutputs]:
        """Teacher and assistants of an arm, trained if they never were."""
        links = [self.cifar.teacher(0)]
        for number, blocks in enumerate(self.settings.assistants if arm in POLICIES else ()):
            links.append(self._assistant(arm, number, blocks, seed, list(links)))
        return links

    def _assistant(self, arm: str, number: int, blocks: int, seed: int, links: list[TeacherOutputs]) -> TeacherOutputs:
        policy = arm if number else "sequential"  # the first learns from the teacher, whatever the policy
        method, teachers = POLICIES[policy](self.settings.method, links)
        taught_by = fingerprint([link.teacher.key for link in teachers])[:12]
        name = f"{policy}-{self.settings.method}-{blocks}-{seed}-{taught_by}"

        def start() -> Training:
            shown = self._filled(method, teachers, self.settings.epochs)
            epochs, data = self.settings.epochs, self.cifar.colour
            own = seed + ASSISTANT_SEED * (number + 1)
            return self.cifar.training(blocks, shown, method, seed=own, epochs=epochs, data=data)

        return self.cifar.kept(name, blocks, self.settings.epochs, start)

    def _filled(self, method: Method, teachers: list[TeacherOutputs], epochs: int) -> list[TeacherOutputs]:
        return [self.cifar.filled(t, epochs) for t in teachers] if can_use_cache(method.needs) else teachers

    def run(self, name: str) -> dict[str, Any]:
        """Train one student of an arm, and judge it."""
        arm, _, number = name.partition(".")
        seed = int(number)
        settings, cifar, data = self.settings, self.cifar, self.cifar.colour
        epochs = self.equal_epochs() if arm == "direct_equal_cost" else settings.epochs
        links = [] if arm == "none" else self.links(arm, seed)
        assistants_s = sum(cifar.teacher_facts[link.teacher.key]["seconds"] for link in links[1:])
        method, teachers = POLICIES.get(arm, sequential)(settings.method, links) if links else (make_method("none"), [])
        shown = self._filled(method, teachers, epochs)
        training = cifar.training(settings.student_blocks, shown, method, seed=seed, epochs=epochs, data=data)
        cifar.train(training, f"{name} {settings.assistants} {settings.method}")
        student, val = training.deployed(data.val)
        return {
            "arm": arm,
            "seed": seed,
            "epochs": epochs,
            "multiply_adds": self.cost(arm, epochs) * len(data.train),
            "test": training.accuracy(student, data.test),
            "val": val,
            "test_samples": len(data.test),
            "links": [cifar.teacher_facts[link.teacher.key] for link in links],
            "seconds": round(training.seconds, 3),
            "assistants_seconds": round(assistants_s, 3),
            "bf16": cifar.numerics.bf16,
            **machine_facts(cifar.threads),
        }

    def cost(self, arm: str, epochs: int) -> int:
        """Multiply-adds for each training sample, of all that is trained in an arm."""
        macs = {b: self._macs(b) for b in (*self.settings.assistants, *self._ends)}
        teacher, student = (macs[b] for b in self._ends)
        if arm == "none":
            return epochs * TRAINING * student
        cost = epochs * (TRAINING * student + teacher)
        if arm in POLICIES:
            cost += epochs * sum((TRAINING + 1) * macs[b] for b in self.settings.assistants)
        return cost

    def equal_epochs(self) -> int:
        """Student epochs of direct distillation that cost what the whole chain costs."""
        return round(self.settings.epochs * self.cost("sequential", 1) / self.cost("direct", 1))

    @property
    def _ends(self) -> tuple[int, int]:
        return self.settings.teacher_blocks, self.settings.student_blocks

    def _macs(self, blocks: int) -> int:
        return count_macs(self.cifar.build(blocks, 0, self.cifar.colour), self.cifar.colour.input_shape)


def summarise(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each arm's mean and cost, and its gains over both ways of direct distillation, paired by seed."""
    by_arm: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for run in (r for r in runs.values() if "arm" in r):
        by_arm[run["arm"]][run["seed"]] = run
    return {arm: _arm(by_arm[arm], by_arm) for arm in ARMS if by_arm[arm]}


def _arm(mine: dict[int, dict[str, Any]], by_arm: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "seeds": sorted(mine),
        "epochs": next(iter(mine.values()))["epochs"],
        "multiply_adds": next(iter(mine.values()))["multiply_adds"],
        "test": fmean(r["test"] for r in mine.values()),
        "tests": {s: mine[s]["test"] for s in sorted(mine)},
        "seconds": fmean(r["seconds"] + r["assistants_seconds"] for r in mine.values()),
        "gains": {},
    }
    for other in ("none", "direct", "direct_equal_cost"):
        seeds = [s for s in sorted(mine) if s in by_arm[other]]
        if seeds and by_arm[other] is not mine:
            ours, theirs = ([group[s]["test"] for s in seeds] for group in (mine, by_arm[other]))
            gain = paired_gain(ours, theirs, mine[seeds[0]]["test_samples"])
            row["gains"][other] = {"mean": gain.mean, "low": gain.low, "high": gain.high, "seeds": gain.seeds}
    return row


def write_report(folder: Path, settings: ChainSettings) -> None:
    """Write `result.json` and `report.md` into the folder."""
    runs = read_runs(folder)
    arms = summarise(runs)
    errors = {name: r["error"] for name, r in runs.items() if "error" in r}
    machines = sorted({f"{r['cpu']}, torch {r['torch']}" for r in runs.values() if "arm" in r})
    result = {"settings": asdict(settings), "arms": arms, "description": ARMS, "errors": errors, "machines": machines}
    write_atomic(folder / "result.json", json.dumps(result, indent=1) + "\n")
    if arms:
        write_atomic(folder / "report.md", markdown(settings, arms, runs, machines))


def markdown(
    settings: ChainSettings, arms: dict[str, Any], runs: dict[str, dict[str, Any]], machines: list[str]
) -> str:
    """The report as Markdown text."""
    chain = " -> ".join(net_words(b) for b in (settings.teacher_blocks, *settings.assistants, settings.student_blocks))
    taught = {link["test"] for r in runs.values() for link in r.get("links", [])[:1]}
    rows = "all" if settings.rows is None else f"{settings.rows:,}"
    unit = (arms.get("direct") or next(iter(arms.values())))["multiply_adds"]
    head = ["arm", "student epochs", "cost / `direct`", "training s", "seeds", "test %"]
    head += [f"gain over `{other}`, points" for other in ("none", "direct", "direct_equal_cost")]
    table = [
        [
            f"`{arm}`: {ARMS[arm]}",
            str(row["epochs"]),
            f"{row['multiply_adds'] / unit:.2f}",
            f"{row['seconds']:.0f}",
            str(len(row["seeds"])),
            f"{row['test'] * 100:.2f}",
            *(_gain(row["gains"].get(other)) for other in ("none", "direct", "direct_equal_cost")),
        ]
        for arm, row in arms.items()
    ]
    lines = [
        f"# Chains: {chain}, CIFAR-10, {rows} training rows",
        f"Every link by `{settings.method}`, {settings.epochs} epochs, batch {settings.batch_size}. Teacher on test: "
        + ", ".join(f"{t:.2%}" for t in sorted(taught))
        + ". Equal seeds: the student's initial weights and orders are equal; each seed has assistants of its own. "
        "Intervals: 95 %, paired by seed, over seeds and test images. Cost: multiply-adds of all that is trained, and "
        "of the forward passes of those it learns from; without the teacher's own training.",
        markdown_table(head, table).rstrip(),
        "Machines: " + "; ".join(machines) + ".",
    ]
    return "\n\n".join(lines) + "\n"


def _gain(gain: dict[str, float] | None) -> str:
    return f"{gain['mean'] * 100:+.2f} [{gain['low'] * 100:+.2f}, {gain['high'] * 100:+.2f}]" if gain else ""


def line(result: dict[str, Any]) -> str:
    """A run in a few words."""
    return f"test {result['test']:.2%}, {result['epochs']} epochs, {result['seconds']:.0f} s"


def arguments() -> argparse.Namespace:
    """Parse the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of cifar10-train.parquet, cifar10-test.parquet"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/chains"))
    parser.add_argument("--work", type=Path, help="teachers and logits (default: OUT/work)")
    parser.add_argument("--teacher", type=int, default=3, help="blocks a stage")
    parser.add_argument("--assistants", default="2", help="blocks a stage, comma-separated")
    parser.add_argument("--student", type=int, default=1, help="blocks a stage")
    parser.add_argument("--method", default="soft_targets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", type=worker_of, default=(0, 1), metavar="i/n")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run what is missing, then report on all there is."""
    given = arguments()
    assistants = numbers(given.assistants)
    ends = {"teacher_blocks": given.teacher, "student_blocks": given.student}
    plan = (given.rows, 0.1, given.epochs, given.epochs, 128, 0.1)
    settings = ChainSettings(*plan, **ends, assistants=assistants, method=given.method)
    folder, work = given.out, given.work or given.out / "work"
    try:
        bind(folder, settings)
        if not make_method(given.method).chainable:
            raise InputError(f"--method {given.method}: an assistant cannot take the teacher's place")
    except InputError as error:
        sys.exit(f"chains.py: {error}")
    if given.run:
        return record_cifar_run(settings, given, folder, work, lambda name, cifar: Chains(cifar, settings).run(name))
    todo = [f"{arm}.{seed}" for seed in range(given.seeds) for arm in ARMS]
    failed = 0 if given.report_only else run_all(folder, work, todo, given.worker, line)
    write_report(folder, settings)
    left = sum(not is_done(folder, name) for name in todo)
    print(f"wrote {folder}/report.md; {left} of {len(todo)} runs missing")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
