"""Read data of your own format: a source, which has options and which a config can name as well.

Shows: a source for CSV files of names and pixels, passed as an object; in a config it is "own_data:CsvImages".
Run:   python own_data.py [RUN_DIR]            default: runs/own_data
Takes: 10 seconds of CPU. See the comments for a real search.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import nas_kd
from nas_kd.config.options import DataOptions
from nas_kd.data.source import Arrays, RawData

QUICK = {  # leave this out for a real search
    "distill.epochs": 4,
    "distill.batch_size": 32,
    "search.rungs": 1,
    "chain.max_assistants": 0,
    "finalists.max": 1,
    "finalists.seeds": 1,
    "finalists.controls": False,
}


class CsvImages:
    """Square grey images, one a row: the name of its class, then its pixels 0..255."""

    name = "csv_images"
    summary = "a CSV file of grey images: class, pixels"
    uses = frozenset({"path"})  # the options of [data] that it reads

    def load(self, options: DataOptions) -> RawData:
        """Read the file; a split that is missing here is carved from the training data."""
        if options.path is None or not options.path.is_file():
            raise nas_kd.InputError(f"data.path must be a CSV file, got {options.path}")
        table = np.loadtxt(options.path, delimiter=",", dtype=str)
        pixels = table[:, 1:].astype(np.uint8)
        side = int(pixels.shape[1] ** 0.5)
        return RawData("csv", Arrays(pixels.reshape(-1, 1, side, side), table[:, 0]), notes=("read as square images",))


def trained_teacher(x: Any, y: Any) -> nn.Module:
    """Stands for the network that you have trained: takes pixels (B, 1, 8, 8) as float32, returns logits (B, 10)."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    net = nn.Sequential(nn.BatchNorm2d(1), *layers, nn.Flatten(), nn.Linear(512, 10))
    return nas_kd.distill(net, train=(x, y), method="none", epochs=2, batch_size=32)


def write_csv(path: Path) -> None:
    """Make a file to read."""
    digits = load_digits()
    pixels = np.rint(digits.data * 255 / 16).astype(int).astype(str)
    names = np.char.add("digit_", digits.target.astype(str))
    np.savetxt(path, np.column_stack([names, pixels]), fmt="%s", delimiter=",")


def main() -> None:
    """Read the file once for a teacher, then search."""
    write_csv(Path("digits.csv"))
    samples = CsvImages().load(DataOptions(path=Path("digits.csv"))).train
    classes = np.unique(samples.y)  # sorted, as the search numbers them
    run = nas_kd.search(
        teacher=trained_teacher(samples.x, np.searchsorted(classes, samples.y)),
        data=CsvImages(),  # or without a class: {"train": (x, y), "val": (x, y), "test": (x, y)}
        budget=nas_kd.Budget(max_latency_ms=0.1, max_size_kb=60),
        trials=1,  # 60
        options={"data.path": "digits.csv", **QUICK},
        run_dir=sys.argv[1] if len(sys.argv) > 1 else "runs/own_data",
    )
    print(run.winner)
    print("classes:", *classes)


if __name__ == "__main__":
    main()
