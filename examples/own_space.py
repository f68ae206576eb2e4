"""Write a search space of your own, look at its networks, and search it.

Shows: a `nas_kd.GridSpace`, passed as an object; in a config its name is "own_space:SPACE".
Run:   python own_space.py [RUN_DIR]           default: runs/own_space
Takes: 10 seconds of CPU. See the comments for a real search.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import nas_kd
from nas_kd.results.candidate import Architecture

QUICK = {  # leave this out for a real search
    "distill.epochs": 4,
    "distill.batch_size": 32,
    "search.rungs": 1,
    "chain.max_assistants": 0,
    "finalists.max": 1,
    "finalists.seeds": 1,
    "finalists.controls": False,
}


class PlainSpace(nas_kd.GridSpace):
    """Plain convolutions of stride 2: their width, and how many there are."""

    name = "plain"
    summary = "plain convolutions of stride 2"

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Build (B, channels, H, W) -> logits (B, n_classes)."""
        width, layers = choices["width"], list[nn.Module]()
        for c_in in [channels, *[width] * choices["depth"]][:-1]:
            layers += [nn.Conv2d(c_in, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes))

    def describe(self, architecture: Architecture) -> str:
        """Describe a network in a few words."""
        return "{depth} layers, {width} wide".format(**self.checked(architecture))


SPACE = PlainSpace([nas_kd.Dimension("width", 16, 32, step=8, log=True), nas_kd.Dimension("depth", 2, 3)])


def trained_teacher(x: Any, y: Any) -> nn.Module:
    """Stands for the network that you have trained: takes pixels (B, 1, 8, 8) as float32, returns logits (B, 10)."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    net = nn.Sequential(nn.BatchNorm2d(1), *layers, nn.Flatten(), nn.Linear(512, 10))
    return nas_kd.distill(net, train=(x, y), method="none", epochs=2, batch_size=32)


def main() -> None:
    """Print what is in the space, then search it."""
    print(f"{SPACE.cardinality()} networks, from {' to '.join(SPACE.describe(a) for a in SPACE.size_ladder(2))}")
    digits = load_digits()
    x, y = np.rint(digits.images[:, None] * 255 / 16).astype(np.uint8), digits.target
    run = nas_kd.search(
        teacher=trained_teacher(x, y),  # or {"space": SPACE}: its largest network, which is trained first
        data=(x, y),
        space=SPACE,
        budget=nas_kd.Budget(max_size_kb=60),
        trials=2,  # 40
        options=QUICK,
        run_dir=sys.argv[1] if len(sys.argv) > 1 else "runs/own_space",
    )
    print(run.winner)


if __name__ == "__main__":
    main()
