"""Every distillation method on CIFAR-10: one teacher, one student, one schedule, seeds paired with `none`.

    python benchmarks/methods.py --data DIR [--out reports/methods] [--pair small|table|whole|survey] [--methods a,b]
        [--seeds 3] [--rows N] [--epochs N] [--threads 1] [--worker i/n] [--published-weights] [--report-only]

Pair `small`: ResNet-20 -> ResNet-8, 10,000 rows, 30 epochs; `table`: the same on 20,000 rows, under a teacher of 150
epochs; `whole`: on all rows; `survey`: ResNet-56 -> ResNet-20, all rows, 200 epochs.
Equal seeds have equal initial weights and orders of samples. A run is a process of its own and leaves one JSON file in
OUT/PAIR/runs; stop it whenever you like and start it again, twice on the same folder if there is a core for each
(`--worker 0/2` and `1/2` where they share no disk). OUT/PAIR/teachers belongs to the results, as a teacher trained anew
is another teacher; OUT/work holds logits and checkpoints and is ignored by git. Methods for paired inputs are judged in
a block of their own, with a control of their own: the student sees grey images, its teacher colours.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

from benchmarks.cifar_trainings import CifarTrainings, Settings, record_cifar_run
from benchmarks.common import machine_facts, net_words, peak_mib, reset_peak
from benchmarks.methods_report import write_report
from benchmarks.runs import bind, is_done, run_all, worker_of
from nas_kd.data.dataset import Dataset
from nas_kd.engine.teacher_outputs import TeacherOutputs, can_use_cache
from nas_kd.engine.training import Training
from nas_kd.errors import InputError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available

PAIRS = {
    "small": Settings(10_000, 0.1, 30, 30, 128, 0.1, teacher_blocks=3, student_blocks=1),
    "table": Settings(20_000, 0.1, 30, 150, 128, 0.1, teacher_blocks=3, student_blocks=1),
    "whole": Settings(None, 0.1, 30, 150, 128, 0.1, teacher_blocks=3, student_blocks=1),
    "survey": Settings(None, 0.02, 200, 200, 128, 0.1, teacher_blocks=9, student_blocks=3),
}
CONTROL = "none"
SUMS = ("soft_targets+similarity",)
TEACHERS = 3  # for methods that learn from several
GENERATION_SEED = 1_000_003


@dataclass(frozen=True)
class Job:
    """One training. `block`: "main", or "pairs" (grey student, colour teacher)."""

    block: str
    method: str
    seed: int
    calibrated: bool = True

    @property
    def name(self) -> str:
        """`main.calibrated.soft_targets.0`, also the name of its file."""
        weights = "calibrated" if self.calibrated else "published"
        return f"{self.block}.{weights}.{quote(self.method, safe='+').replace('.', '%2E')}.{self.seed}"

    @staticmethod
    def of(name: str) -> "Job":
        """The job of that name."""
        block, weights, method, seed = name.split(".")
        return Job(block, unquote(method), int(seed), weights == "calibrated")


def jobs(names: list[str], seeds: int, calibrated: bool) -> list[Job]:
    """Seed after seed, so that what is there when it is stopped is paired; the control first."""
    todo = []
    for seed in range(seeds):
        blocks = [("pairs" if "pairs" in make_method(n).needs else "main", n) for n in names if n != CONTROL]
        for block in ("main", "pairs"):
            members = [n for b, n in blocks if b == block]
            if members or block == "main":
                todo.append(Job(block, CONTROL, seed))
            todo += [Job(block, n, seed, calibrated or not weighs(n)) for n in members]
    return todo


def weighs(name: str) -> bool:
    """Whether calibration does anything to a method."""
    method = make_method(name)
    return method.ce_weight != 0 and any(part.target_grad_ratio is not None for part in method.parts())


def run(cifar: CifarTrainings, job: Job) -> dict[str, Any]:
    """Train one student and judge it."""
    method, data = make_method(job.method), data_of(cifar, job)
    settings = cifar.settings
    teachers = teachers_for(cifar, method)
    reset_peak()
    before = peak_mib()
    earlier = 0.0
    for number in range(1, method.generations + 1):  # the first by labels alone, each later one from the one before
        part = make_method(job.method if number > 1 else CONTROL)
        training = trained(cifar, replace(job, seed=job.seed + GENERATION_SEED * number), part, teachers)
        earlier += training.seconds
        model, _ = training.deployed(data.val)
        teachers = [cifar.outputs(model, settings.student_blocks, data)]
    training = trained(cifar, job, method, teachers)
    peak = peak_mib()
    student, val = training.deployed(data.val)
    steps = settings.epochs * training.steps_per_epoch
    return {
        "job": job.name,
        "block": job.block,
        "method": job.method,
        "seed": job.seed,
        "calibrated": job.calibrated,
        "test": training.accuracy(student, data.test),
        "test_last": training.accuracy(training.student, data.test),
        "val": val,
        "test_samples": len(data.test),
        "seconds": round(training.seconds + earlier, 3),
        "ms_per_step": round(training.seconds / steps * 1000, 3),
        "cpu_ms_per_step": cifar.cpu_ms_per_step,
        "steps": steps,
        "peak_mib": round(peak, 1),
        "before_mib": round(before, 1),
        "losses": training.losses,
        "calibration": training.calibration(),
        "teachers": [cifar.teacher_facts.get(t.teacher.key, {"key": t.teacher.key}) for t in teachers],
        "bf16": cifar.numerics.bf16,
        **facts_of(method),
        **machine_facts(cifar.threads),
    }


def data_of(cifar: CifarTrainings, job: Job) -> Dataset:
    """What its student is shown."""
    return cifar.grey if job.block == "pairs" else cifar.colour


def trained(cifar: CifarTrainings, job: Job, method: Method, teachers: list[TeacherOutputs]) -> Training:
    """One network of the student's architecture."""
    blocks, epochs = cifar.settings.student_blocks, cifar.settings.epochs
    training = cifar.training(
        blocks, teachers, method, seed=job.seed, epochs=epochs, data=data_of(cifar, job), calibrated=job.calibrated
    )
    return cifar.train(training, job.name)


def teachers_for(cifar: CifarTrainings, method: Method) -> list[TeacherOutputs]:
    """Those that the method learns from, trained if they never were."""
    teachers = [cifar.teacher(number) for number in range(teachers_of(method))]
    return [cifar.filled(t, cifar.settings.epochs) for t in teachers] if can_use_cache(method.needs) else teachers


def teachers_of(method: Method) -> int:
    """How many trained teachers it is shown."""
    return 0 if method.generations else {"none": 0, "one": 1, "several": TEACHERS}[method.teachers]


def facts_of(method: Method) -> dict[str, Any]:
    """What it costs and needs, for the table."""
    makes_up = any(type(p).draw is not Method.draw for p in method.parts())
    return {
        "needs": sorted(method.needs),
        "shown": teachers_of(method),
        "networks": method.train_cost_factor,
        "generations": method.generations,
        "data_free": makes_up,
        "live_teacher": teachers_of(method) > 0 and not can_use_cache(method.needs),
    }


def line(result: dict[str, Any]) -> str:
    """A run in a few words."""
    if "number" in result:
        return f"teacher {result['number']}, test {result['test']:.2%}"
    return f"test {result['test']:.2%}, {result['ms_per_step']:.1f} ms a step, {result['peak_mib']:.0f} MiB"


def one(name: str, cifar: CifarTrainings) -> dict[str, Any]:
    """The run of that name."""
    if not name.startswith("teacher."):
        return run(cifar, Job.of(name))
    teacher = cifar.filled(cifar.teacher(int(name.removeprefix("teacher."))), cifar.settings.epochs)
    return cifar.teacher_facts[teacher.teacher.key]


def arguments() -> argparse.Namespace:
    """Parse the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of cifar10-train.parquet, cifar10-test.parquet"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/methods"))
    parser.add_argument("--work", type=Path, help="teachers and logits (default: OUT/work)")
    parser.add_argument("--pair", choices=PAIRS, default="small")
    parser.add_argument("--methods", help="comma-separated (default: all there are)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="of the training file")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--teacher-epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", type=worker_of, default=(0, 1), metavar="i/n")
    parser.add_argument("--published-weights", action="store_true", help="without calibration, as a variant")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def settings_of(given: argparse.Namespace) -> Settings:
    """The pair's, where nothing else was asked for."""
    pair: Settings = PAIRS[given.pair]
    epochs = given.epochs or pair.epochs
    teacher_epochs = given.teacher_epochs or given.epochs or pair.teacher_epochs
    return replace(pair, rows=given.rows or pair.rows, epochs=epochs, teacher_epochs=teacher_epochs)


def main() -> int:
    """Run what is missing, then report on all there is."""
    given = arguments()
    folder, work, settings = given.out / given.pair, given.work or given.out / "work", settings_of(given)
    names = given.methods.split(",") if given.methods else [*available("method"), *SUMS]
    try:
        bind(folder, settings)
        todo = jobs(names, given.seeds, not given.published_weights)
    except InputError as error:
        sys.exit(f"methods.py: {error}")
    if given.run:
        return record_cifar_run(settings, given, folder, work, one)
    failed = 0
    if not given.report_only:
        wanted = max(teachers_of(make_method(n)) for n in names)
        teachers = [f"teacher.{number}" for number in range(wanted)]
        first = given.worker[0] % max(1, wanted)
        failed = run_all(folder, work, teachers[first:] + teachers[:first], (0, 1), line)
        failed += run_all(folder, work, [job.name for job in todo], given.worker, line)
    title = f"{net_words(settings.teacher_blocks)} -> {net_words(settings.student_blocks)}"
    write_report(folder, title, settings)
    left = sum(not is_done(folder, job.name) for job in todo)
    print(f"wrote {folder}/report.md; {left} of {len(todo)} runs missing")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
