"""How strong each method's terms are beside the labels: gradient norms on the student, early in published training.

    python -m benchmarks.gradient_ratios --data DIR [--out reports/calibration] [--methods a,b] [--seed 0] [--threads 1]

ResNet-20 -> ResNet-8, the settings and teachers of `benchmarks.calibration`. A method is trained with its published
weights, nothing clipped; before some of the steps its terms' gradient norm on the student is divided by that of
cross-entropy (times 1, whatever `ce_weight` is). `target_grad_ratio` in the methods' files is the ratio around the end
of the warm-up, the geometric mean over steps 70, 94 and 156. What is in OUT/ratios.jsonl is not measured again;
OUT/ratios.md has the table.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.calibration import SETTINGS
from benchmarks.cifar_trainings import CifarTrainings
from benchmarks.common import machine_facts, markdown_table
from benchmarks.methods import teachers_for, weighs
from nas_kd.engine.calibration import gradient_ratios
from nas_kd.engine.numerics import training_threads
from nas_kd.engine.training import Training
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available
from nas_kd.serialization import write_atomic

STEPS = (0, 9, 18, 35, 70, 94, 156, 234)  # the warm-up ends with step 94
AROUND_THE_END = (70, 94, 156)
EPOCHS = 4  # of the schedule, which is long enough for all of them


class MeasuredTraining(Training):
    """A training at published weights that measures ratios where others calibrate."""

    @property
    def clipped(self) -> bool:
        """Nothing is clipped at published weights."""
        return False

    def measure_at(self, steps: tuple[int, ...]) -> None:
        """Measure ratios before these steps of the training."""
        self._calibration_steps = steps
        self.ratios: dict[int, float] = {}

    def _calibrate(self, forward: Any, step: int) -> None:
        def shown(i: int) -> Any:
            return forward((step + i) % self.steps_per_epoch, 0.0)

        self.ratios[self.epoch * self.steps_per_epoch + step] = sum(
            gradient_ratios(self.student, self.method, self.method.parts(), shown)
        )


def measure(cifar: CifarTrainings, name: str, seed: int) -> dict[str, Any]:
    """Train a method for a few epochs."""
    method = make_method(name)
    data = cifar.grey if "pairs" in method.needs else cifar.colour
    settings = cifar.settings
    teachers = teachers_for(cifar, method) or [cifar.teacher(0)] * (method.teachers != "none")
    training = cifar.training(
        settings.student_blocks,
        teachers,
        method,
        seed=seed,
        epochs=settings.epochs,
        data=data,
        kind=MeasuredTraining,
    )
    if not isinstance(training, MeasuredTraining):
        raise TypeError(training)
    training.measure_at(STEPS)
    training.run(EPOCHS)
    return {
        "method": name,
        "seed": seed,
        "ce_weight": method.ce_weight,
        "ratios": training.ratios,
        "ce": training.losses.get("ce"),
        **machine_facts(cifar.threads),
    }


def report(rows: list[dict[str, Any]]) -> str:
    """The table, and where its figures go."""
    end = f"mean of {', '.join(map(str, AROUND_THE_END))}"
    head = ["method", "`ce_weight`", *(f"step {s}" for s in STEPS), end, "`target_grad_ratio`", "CE after 4 epochs"]
    lines = [
        [
            f"`{r['method']}`",
            f"{r['ce_weight']:g}",
            *(f"{r['ratios'][str(s)]:.3g}" for s in STEPS),
            f"{geometric_mean(r['ratios'][str(s)] for s in AROUND_THE_END):.2g}",
            f"{make_method(r['method']).target_grad_ratio:g}",
            "" if r["ce"] is None else f"{r['ce']:.2f}",
        ]
        for r in sorted(rows, key=lambda r: (r["method"], r["seed"]))
    ]
    return f"# {(__doc__ or '').splitlines()[0]}\n\n{markdown_table(head, lines)}"


def main() -> int:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("reports/calibration"))
    parser.add_argument("--methods", help="comma-separated (default: all that are calibrated)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    names = given.methods.split(",") if given.methods else [n for n in available("method") if weighs(n)]
    results = given.out / "ratios.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    with training_threads(given.threads):
        cifar = CifarTrainings(SETTINGS, given.data, given.out / "work", given.threads, given.out / "teachers")
        for name in names:
            if any((r["method"], r["seed"]) == (name, given.seed) for r in rows):
                continue
            row = json.loads(json.dumps(measure(cifar, name, given.seed)))
            rows.append(row)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(name, row["ratios"], flush=True)
    write_atomic(given.out / "ratios.md", report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
