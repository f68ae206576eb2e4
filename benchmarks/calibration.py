"""When and toward what methods are calibrated: student accuracy of three designs, seeds paired.

    python benchmarks/calibration.py --data DIR [--out reports/calibration] [--methods a,b] [--seeds 3] [--threads 1]
        [--worker i/n] [--report-only]

CIFAR-10, 10,000 rows, 12 epochs, ResNet-20 (30 epochs) -> ResNet-8. The designs:

- `warm-up`: this version's, see `nas_kd/engine/calibration.py`;
- `initial`: once, on the untrained network, toward the ratios of `INITIAL`, as versions before did;
- `published`: published weights, nothing clipped (`distill.calibrate = false`).

A run is a process of its own and leaves one JSON file in OUT/runs: stop it whenever you like and start it again, once
for each core (`--worker 0/2` and `1/2`). OUT/work holds the teacher, and is ignored by git.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import numpy as np

from benchmarks.cifar_trainings import CifarTrainings, Settings, record_cifar_run
from benchmarks.common import machine_facts, markdown_table
from benchmarks.methods import teachers_for
from benchmarks.runs import bind, is_done, read_runs, run_all, worker_of
from nas_kd.engine.training import Training
from nas_kd.errors import InputError
from nas_kd.methods.combine import make_method
from nas_kd.results.intervals import paired_gain, t_quantile
from nas_kd.serialization import write_atomic

SETTINGS = Settings(10_000, 0.1, 12, 30, 128, 0.1, teacher_blocks=3, student_blocks=1)
CONTROL = "none"
METHODS = ("attention_transfer", "similarity", "rkd", "afd", "crd", "soft_targets+similarity")
DESIGNS = ("warm-up", "initial", "published")
INITIAL = {"soft_targets": 2.0}  # of the gradient of cross-entropy; of all other methods here 1
TEACHER = "teacher"


class InitialTraining(Training):
    """A training whose method is calibrated once, on the untrained network."""

    def at_the_start(self) -> None:
        """Forget the steps and ratios of this version."""
        self._calibration_steps = (0,)
        for part in self.method.parts():
            part.target_grad_ratio = INITIAL.get(part.name, 1.0)


def jobs(methods: list[str], seeds: int) -> list[str]:
    """`attention_transfer.warm-up.0` and so on, seed after seed, the control first."""
    return [
        f"{method}.{design}.{seed}"
        for seed in range(seeds)
        for method, designs in [(CONTROL, ("published",)), *((m, DESIGNS) for m in methods)]
        for design in designs
    ]


def one(name: str, cifar: CifarTrainings) -> dict[str, Any]:
    """The run of that name."""
    if name == TEACHER:
        return cifar.teacher_facts[cifar.filled(cifar.teacher(0), SETTINGS.epochs).teacher.key]
    method_name, design, seed = name.split(".")
    method, data = make_method(method_name), cifar.colour
    teachers = teachers_for(cifar, method)
    training = cifar.training(
        SETTINGS.student_blocks,
        teachers,
        method,
        seed=int(seed),
        epochs=SETTINGS.epochs,
        data=data,
        calibrated=design != "published",
        kind=InitialTraining if design == "initial" else Training,
    )
    if isinstance(training, InitialTraining):
        training.at_the_start()
    training = cifar.train(training, name)
    student, val = training.deployed(data.val)
    return {
        "method": method_name,
        "design": design,
        "seed": int(seed),
        "test": training.accuracy(student, data.test),
        "val": val,
        "test_samples": len(data.test),
        "losses": training.losses,
        "factors": training.calibration(),
        "grad_ratios": training.grad_ratios,
        "seconds": round(training.seconds, 1),
        "teacher": [cifar.teacher_facts[t.teacher.key] for t in teachers],
        "bf16": cifar.numerics.bf16,
        **machine_facts(cifar.threads),
    }


def line(result: dict[str, Any]) -> str:
    """A run in a few words."""
    return f"test {result['test']:.2%}"


def report(runs: list[dict[str, Any]]) -> str:
    """Gains over the control, and each design against `initial`, paired by seed."""
    by: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for run in runs:
        by[run["method"], run["design"]][run["seed"]] = run
    control = by[CONTROL, "published"]
    methods = [m for m in dict.fromkeys(m for m, _ in by) if m != CONTROL]
    teacher = next((r["teacher"][0]["test"] for r in runs if r["teacher"]), 0.0)
    head = [
        "method",
        *(f"`{d}`: gain over `none`" for d in DESIGNS),
        "`warm-up` minus `initial`",
        "`warm-up` minus `published`",
    ]
    lines: list[list[str]] = []
    apart: dict[str, list[list[float]]] = defaultdict(list)
    for method in methods:
        cells = [_gain(by[method, design], control) for design in DESIGNS]
        for other in ("initial", "published"):
            cells.append(_gain(by[method, "warm-up"], by[method, other]))
            apart[other] += [_difference(by[method, "warm-up"], by[method, other])]
        lines.append([f"`{method}`", *cells])
    text = [
        f"# {(__doc__ or '').splitlines()[0]}",
        f"CIFAR-10, the first 10,000 rows, 12 epochs, ResNet-20 ({teacher:.2%} on test) -> ResNet-8 (`none`: "
        f"{fmean(r['test'] for r in control.values()):.2%}); {len(control)} seeds, paired. Percentage points of test "
        "accuracy; 95 % intervals over seeds and test images. `warm-up` is what this version does.",
        markdown_table(head, lines).rstrip(),
        *(_mean_line(other, values) for other, values in apart.items()),
    ]
    return "\n\n".join(text) + "\n"


def _shared(ours: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]]) -> list[int]:
    return sorted(set(ours) & set(others))


def _difference(ours: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]]) -> list[float]:
    return [(ours[s]["test"] - others[s]["test"]) * 100 for s in _shared(ours, others)]


def _gain(ours: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]]) -> str:
    if not (seeds := _shared(ours, others)):
        return ""
    mine, theirs = ([group[s]["test"] for s in seeds] for group in (ours, others))
    found = paired_gain(mine, theirs, ours[seeds[0]]["test_samples"])
    return f"{found.mean * 100:+.2f} [{found.low * 100:+.2f}, {found.high * 100:+.2f}]"


def _mean_line(other: str, differences: list[list[float]]) -> str:
    """The mean over methods, with an interval over its values of each seed."""
    whole = [d for d in differences if d]
    n_seeds = min((len(d) for d in whole), default=0)
    if n_seeds < 2:
        return ""
    by_seed = np.array([d[:n_seeds] for d in whole]).mean(axis=0)
    half = t_quantile(n_seeds - 1) * by_seed.std(ddof=1) / n_seeds**0.5
    means = [fmean(d) for d in whole]
    return (
        f"Mean of {len(whole)} methods, `warm-up` minus `{other}`: {by_seed.mean():+.2f} "
        f"[{by_seed.mean() - half:+.2f}, {by_seed.mean() + half:+.2f}] over {n_seeds} seeds; lowest mean of a method "
        f"{min(means):+.2f}."
    )


def main() -> int:
    """Run what is missing, then report on all there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("reports/calibration"))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", type=worker_of, default=(0, 1), metavar="i/n")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder, work = given.out, given.out / "work"
    try:
        bind(folder, SETTINGS)
    except InputError as error:
        sys.exit(f"calibration.py: {error}")
    if given.run:
        return record_cifar_run(SETTINGS, given, folder, work, one)
    todo, failed = jobs(given.methods.split(","), given.seeds), 0
    if not given.report_only:
        failed = run_all(folder, work, [TEACHER], (0, 1), line)
        failed += run_all(folder, work, todo, given.worker, line)
    runs = [r for r in read_runs(folder).values() if "method" in r]
    write_atomic(folder / "report.md", report(runs))
    facts = {"settings": asdict(SETTINGS), "runs": len(runs)}
    print(f"wrote {folder}/report.md {json.dumps(facts)}; {sum(not is_done(folder, n) for n in todo)} runs missing")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
