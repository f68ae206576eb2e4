"""Search for a small student of your own network: everything is an object, there is no config file.

Shows: a teacher that is your torch module, data as arrays, a budget; export, the winner as a module, and its figures.
Run:   python quick_start.py [RUN_DIR]          default: runs/quick_start; the same call goes on with an unfinished run
Takes: 15 seconds of CPU. For a real search take the values in the comments, and an hour.
"""

import sys
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import nas_kd


class Print(nas_kd.Callback):
    """Says what the search is doing."""

    def on_stage(self, text: str) -> None:
        """Print the stage that begins."""
        print(f"{text} ...")


def trained_teacher(x: Any, y: Any) -> nn.Module:
    """Stands for the network that you have trained: takes pixels (B, 1, 8, 8) as float32, returns logits (B, 10)."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    net = nn.Sequential(nn.BatchNorm2d(1), *layers, nn.Flatten(), nn.Linear(512, 10))
    return nas_kd.distill(net, train=(x, y), method="none", epochs=2, batch_size=32)


def main() -> None:
    """Search, export, and print the winner."""
    digits = load_digits()
    x = np.rint(digits.images[:, None] * 255 / 16).astype(np.uint8)  # (1797, 1, 8, 8) pixels
    run = nas_kd.search(
        teacher=trained_teacher(x, digits.target),
        data=(x, digits.target),  # validation and test data are carved from it
        space="resnet",
        methods=["soft_targets", "dkd"],
        budget=nas_kd.Budget(max_latency_ms=0.1, max_size_kb=60),
        trials=3,  # 60
        options={
            "distill.epochs": 5,  # 60
            "distill.batch_size": 32,
            "search.rungs": 1,  # 3: weak candidates are stopped early
            "chain.max_assistants": 0,  # 2
            "finalists.max": 2,  # 6
            "finalists.seeds": 1,  # 3: intervals need several trainings
            "finalists.max_share": 1,  # 1/3 of the training: more candidates, fewer finalists
            "finalists.controls": False,  # True: what distillation bought, at the same training cost
        },
        run_dir=sys.argv[1] if len(sys.argv) > 1 else "runs/quick_start",
        callbacks=[Print()],
    )
    assert run.winner is not None  # it would be None if nothing had met the budget
    run.winner.export("student.onnx")
    student = run.winner.load_model()  # a torch.nn.Module, which takes pixels, too
    print(run.winner)
    print("the first ten:", student(torch.from_numpy(x[:10]).float()).argmax(dim=1).tolist())
    print(f"report: {run.folder.report / 'index.html'}")


if __name__ == "__main__":
    main()
