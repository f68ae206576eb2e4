"""A grid of training recipes on each case, halved on validation: what an expert finds by trying for an hour.

    python -m benchmarks.recipe.grid --data-dir DATA [--cases digits,crop] [--threads 1]

36 settings for the middle student (batch x optimiser with learning rate x augmentation) are trained for a ninth of the
case's epochs, the best 12 of them for a third, the best 4 for all, and those again from two fresh seeds. Each training
is one line in OUT/CASE.jsonl, and what is there is not done again; several processes share the cases.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import filelock
from torch import nn

from benchmarks.recipe.cases import CASES, Case
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.evaluation import accuracy_of, label_loss_of
from nas_kd.engine.numerics import training_threads
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import TrialError
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.results.candidate import NO_DISTILLATION, Architecture, Candidate, Recipe
from nas_kd.results.training_recipe import WEIGHT_DECAYS, TrainingRecipe

OUT = Path("reports/recipe")
BATCHES = (16, 32, 64)
RATES = (("sgd", 0.03), ("sgd", 0.1), ("sgd", 0.3), ("adamw", 0.001), ("adamw", 0.003), ("adamw", 0.01))
AUGMENTS = ("none", "standard")
HALVING = ((9, 12), (3, 4))  # a share of the epochs -> how many settings go on
FRESH_SEEDS = (1, 2)
LADDER = 9
STUDENTS = {"resnet": {"small": 2, "middle": 4, "large": 5}, "mobilenet": {"small": 2, "middle": 4, "large": 6}}
TEACHER_PLACE = 7  # on the ladder
FOR_LARGE_SAMPLES = -1  # all networks are one size smaller for pictures of 64 pixels
TEACHER_RATES = (("sgd", 0.05), ("adamw", 0.003))
METHOD = "soft_targets"
LARGE_SAMPLE = 10_000  # values


@dataclass(frozen=True)
class Run:
    """One training of one network."""

    student: str
    recipe: TrainingRecipe
    epochs: int
    seed: int

    @property
    def key(self) -> str:
        """All that tells it apart from the case's other trainings."""
        return json.dumps([self.student, self.recipe.to_json(), self.epochs, self.seed], sort_keys=True)


class CaseRuns:
    """Trainings on one case, each done once."""

    def __init__(self, case: Case, data_dir: Path | None, out: Path) -> None:
        """Open the case; `out` keeps results, `out`/work what can be made again."""
        work = out / "work"
        folder = RunFolder(work / "runs" / case.name)
        folder.path.mkdir(parents=True, exist_ok=True)
        config = SearchConfig.model_validate(
            {
                "data": case.data(data_dir, work / "data"),
                "space": {"name": case.space},
                "distill": {"epochs": case.epochs},
                "store": {"max_gb": 1.0},
            }
        )
        self.case, self.path = case, out / "trainings" / f"{case.name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.context = RunContext.prepare(config, folder, Callback(), check_device=False)
        self.builder = NetworkBuilder(self.context.data, self.context.space)
        self._ladder = self.context.space.size_ladder(LADDER)
        self.done: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                with suppress(ValueError):  # torn by a kill
                    row = json.loads(line)
                    self.done[row["key"]] = row

    def architecture(self, student: str) -> Architecture:
        """The small, middle or large student."""
        return self._ladder[STUDENTS[self.case.space][student] + self._shift]

    @property
    def _shift(self) -> int:
        return FOR_LARGE_SAMPLES if self.context.data.train.x[:1].numel() > LARGE_SAMPLE else 0

    @cached_property
    def teacher(self) -> Teacher:
        """The better one on validation of a few trainings of a large network."""
        data = self.context.data
        architecture, found = self._ladder[TEACHER_PLACE + self._shift], []
        for (optimizer, rate), augment in product(TEACHER_RATES, dict.fromkeys(("none", self.usual_augment))):
            recipe = self.recipe(32, optimizer, rate, augment)
            distiller = Distiller.for_run(self.context.with_recipe(recipe), self.builder)
            candidate = Candidate(architecture, (), Recipe(NO_DISTILLATION))
            trained = distiller.distill(candidate, 1000, self.case.epochs)
            loss = label_loss_of(trained.model, data.val, data.task, self.context.numerics)
            found.append((trained.val_accuracy, -loss, distiller.as_teacher(trained, architecture)))
        best = max(found, key=lambda f: f[:2])[2]
        self.write({"key": "teacher", "description": best.description, **self.judged(best.model)})
        return best

    @cached_property
    def _teacher_weights(self) -> str:
        """A fingerprint of the teacher's weights."""
        state = self.teacher.model.state_dict()
        return sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()[:16]

    @property
    def usual_augment(self) -> str:
        """What suits this kind of data by rule."""
        return self.context.data.augmentation.usual_strength

    def recipe(self, batch: int, optimizer: str, rate: float, augment: str) -> TrainingRecipe:
        """Make a setting of the grid at the case's epochs."""
        return TrainingRecipe(self.case.epochs, batch, optimizer, rate, WEIGHT_DECAYS[optimizer], augment)

    def grid(self) -> list[TrainingRecipe]:
        """List the settings of the grid, 36 of them."""
        return [self.recipe(b, o, r, a) for b, (o, r), a in product(BATCHES, RATES, AUGMENTS)]

    def train(self, run: Run, any_teacher: bool = False) -> dict[str, Any]:
        """Do a training, or find its result.

        Args:
            run: which training.
            any_teacher: whether a result under another teacher will do: trained on another kind of processor, the
                teacher is another network.
        """
        found = self.done.get(run.key)
        if found is not None and (any_teacher or found.get("teacher") == self._teacher_weights):
            return found
        distiller = Distiller.for_run(self.context.with_recipe(run.recipe), self.builder, [self.teacher])
        candidate = Candidate(self.architecture(run.student), (), Recipe(METHOD))
        started = time.perf_counter()
        try:
            trained = distiller.distill(candidate, run.seed, run.epochs)
            row: dict[str, Any] = {**self.judged(trained.model), "seconds": round(trained.seconds, 2)}
        except TrialError as error:
            row = {"val": 0.0, "val_loss": 99.0, "test": 0.0, "seconds": 0.0, "failed": str(error)}
        row["wall_s"] = round(time.perf_counter() - started, 2)
        about = {"student": run.student, **run.recipe.to_json(), "trained_epochs": run.epochs, "seed": run.seed}
        return self.write({"key": run.key, **about, **row, "teacher": self._teacher_weights})

    def judged(self, model: nn.Module) -> dict[str, Any]:
        """Accuracy on validation and test, and the loss on validation."""
        data, numerics = self.context.data, self.context.numerics
        return {
            "val": round(accuracy_of(model, data.val, numerics), 5),
            "val_loss": round(label_loss_of(model, data.val, data.task, numerics), 5),
            "test": round(accuracy_of(model, data.test, numerics), 5),
        }

    def write(self, row: dict[str, Any]) -> dict[str, Any]:
        """Append a result to the case's file; of two with the same key the later counts."""
        if row != self.done.get(row["key"]):
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        self.done[row["key"]] = row
        return row

    def halve(self) -> list[TrainingRecipe]:
        """The grid's settings that are left, the best first; chosen once, under whichever teacher there was."""
        if "best" not in self.done:
            self.write({"key": "best", "recipes": [r.to_json() for r in self._halved()]})
        return [TrainingRecipe.from_json(r) for r in self.done["best"]["recipes"]]

    def _halved(self) -> list[TrainingRecipe]:
        left = self.grid()
        for share, count in HALVING:
            epochs = max(1, self.case.epochs // share)
            rows = [self.train(Run("middle", r, epochs, 0), any_teacher=True) for r in left]
            order = sorted(range(len(left)), key=lambda i: (-rows[i]["val"], rows[i]["val_loss"]))
            left = [left[i] for i in order[:count]]
        for recipe, seed in product(left, (0, *FRESH_SEEDS)):
            self.train(Run("middle", recipe, self.case.epochs, seed), any_teacher=True)
        return sorted(left, key=lambda r: -self.mean("middle", r, FRESH_SEEDS, "val"))

    def mean(self, student: str, recipe: TrainingRecipe, seeds: Sequence[int], what: str) -> float:
        """A result's mean over seeds; the trainings must be done."""
        return fmean(self.done[Run(student, recipe, self.case.epochs, s).key][what] for s in seeds)


def main() -> int:
    """Run the grids that no other process runs, in the order given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    for name in given.cases.split(","):
        lock = filelock.FileLock(given.out / "work" / f"{name}.lock")
        lock_folder = given.out / "work"
        lock_folder.mkdir(parents=True, exist_ok=True)
        with suppress(filelock.Timeout), lock.acquire(blocking=False), training_threads(given.threads):
            started = time.monotonic()
            runs = CaseRuns(CASES[name], given.data_dir, given.out)
            best = runs.halve()[0]
            test = runs.mean("middle", best, FRESH_SEEDS, "test")
            print(f"{name}: {time.monotonic() - started:.0f} s, test {test:.2%}, {best}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
