"""Write a task of your own: here networks count, and learn by the absolute error of their counts.

Shows: a `Task` that derives from a built-in one, checked and passed as a class.
Run:   python own_task.py [RUN_DIR]          default: runs/own_task
Takes: 20 seconds of CPU. See the comments for a real search.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import l1_loss

import nas_kd
from nas_kd.errors import InputError
from nas_kd.tasks.base import MixedLabels, Targets
from nas_kd.tasks.regression import Regression
from nas_kd.testing import check_task

QUICK = {  # leave this out for a real search
    "teacher.space": "mobilenet",
    "teacher.epochs": 15,
    "distill.epochs": 6,
    "distill.batch_size": 32,
    "search.rungs": 1,
    "chain.max_assistants": 0,
    "finalists.max": 1,
    "finalists.seeds": 1,
    "finalists.controls": False,
    "finalists.baselines": [],
}


@dataclass(frozen=True)
class Counting(Regression):
    """How many there are of something: whole numbers, judged as in regression."""

    name: ClassVar[str] = "counting"
    title: ClassVar[str] = "counting"
    summary: ClassVar[str] = "how many there are of something; R2"
    scored_as: ClassVar[str] = "regression"

    def read_targets(self, ys: Any, names: tuple[str, ...] | None) -> Targets:
        """Read whole numbers, 0 or more."""
        for split, y in ys.items():
            if not ((np.asarray(y) >= 0) & (np.asarray(y) == np.rint(y))).all():
                raise InputError(f"y of {split} has values that are no counts; want 0, 1, 2, ...")
        return super().read_targets(ys, names)

    def label_loss(self, decided: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """Mean absolute error: a few scenes with very many are no reason to be wrong about all others."""
        return l1_loss(decided, self.targets(y))

    def summed_loss(self, decided: Tensor, y: Tensor) -> Tensor:
        """The same, summed over samples."""
        return self.label_loss(decided, y, None, None) * len(y)


def scenes(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, 1, 16, 16) of up to four handwritten digits, and how many there are."""
    digits, generator = load_digits(), np.random.default_rng(0)
    there = generator.random((n, 2, 2)) < 0.5
    cells = digits.images[generator.integers(len(digits.images), size=there.shape)] * 15 * there[..., None, None]
    return cells.transpose(0, 1, 3, 2, 4).reshape(n, 1, 16, 16).astype(np.uint8), there.sum(axis=(1, 2))


def main() -> None:
    """Check the task, then search a small network that counts digits."""
    x, y = scenes(600)
    check_task(Counting(), {"train": y[:40], "test": y[40:60]})  # the contract that every task holds

    folder = sys.argv[1] if len(sys.argv) > 1 else "runs/own_task"
    run = nas_kd.search(
        data=(x, y),
        task=Counting,  # in a config: data.task = "own_task:Counting"
        budget=nas_kd.Budget(max_size_kb=40),
        trials=2,  # 60
        options=QUICK,
        run_dir=folder,
    )
    if run.winner is not None:
        print(f"{run.winner.description}: R2 {run.winner.test_score.mean:.2f} on test")


if __name__ == "__main__":
    main()
