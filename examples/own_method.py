"""Write a distillation method of your own, and use it for one student and in a search.

Shows: a `nas_kd.Method`, checked and passed as a class; in a config it is "own_method:CosineLogits".
Run:   python own_method.py [RUN_DIR]          default: runs/own_method
Takes: 10 seconds of CPU. See the comments for a real search.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import nas_kd
from nas_kd.methods.base import Batch, Outputs
from nas_kd.testing import check_method

QUICK = {  # leave this out for a real search
    "distill.epochs": 4,
    "distill.batch_size": 32,
    "search.rungs": 1,
    "chain.max_assistants": 0,
    "finalists.max": 1,
    "finalists.seeds": 1,
    "finalists.controls": False,
}


class CosineLogits(nas_kd.Method):
    """One minus the cosine between the logits of student and teacher: their directions count, not their lengths."""

    name = "cosine_logits"
    source = "this example"  # the paper: first author, year, arXiv id
    summary = "cosine distance of the logits"

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return named terms; the trainer scales them, adds cross-entropy, and logs each."""
        return {"cosine": 1 - cosine_similarity(student.logits, teachers[0].logits, dim=1).mean()}


def trained_teacher(x: Any, y: Any) -> nn.Module:
    """Stands for the network that you have trained: takes pixels (B, 1, 8, 8) as float32, returns logits (B, 10)."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    net = nn.Sequential(nn.BatchNorm2d(1), *layers, nn.Flatten(), nn.Linear(512, 10))
    return nas_kd.distill(net, train=(x, y), method="none", epochs=2, batch_size=32)


def main() -> None:
    """Distill one student with the method, then let a search choose between it and a built-in one."""
    digits = load_digits()
    x, y = np.rint(digits.images[:, None] * 255 / 16).astype(np.uint8), digits.target
    teacher = trained_teacher(x, y)

    check_method(CosineLogits)  # the contract that every method holds, in a second or two

    student = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10))
    nas_kd.distill(student, teacher, train=(x, y), method=CosineLogits, epochs=4)  # 30

    run = nas_kd.search(
        teacher=teacher,
        data=(x, y),
        methods=[CosineLogits, "soft_targets"],
        budget=nas_kd.Budget(max_latency_ms=0.1, max_size_kb=60),
        trials=2,  # 60
        options=QUICK,
        run_dir=sys.argv[1] if len(sys.argv) > 1 else "runs/own_method",
    )
    for trial in run.trials:
        method = trial.candidate.recipe.method_name
        print(f"trial {trial.number}: {method}, validation accuracy {trial.val_accuracy:.1%}")


if __name__ == "__main__":
    main()
