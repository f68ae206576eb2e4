"""Log a training as CSV, and to TensorBoard where that is installed; the same callbacks can be given to a search.

Shows: callbacks for `nas_kd.distill` (epochs) and `nas_kd.search` (trials).
Run:   python training_log.py [FOLDER]         default: logs
Takes: 5 seconds of CPU.
"""

import csv
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

import nas_kd


class Log(nas_kd.Callback, ABC):
    """Turns events into numbers with a name and a step; what becomes of them is `write`'s."""

    @abstractmethod
    def write(self, name: str, value: float, step: int) -> None:
        """Keep one number under its name."""

    def on_epoch_end(self, event: nas_kd.EpochEnd) -> None:
        """Write an epoch of `distill`, or of a training of a search that has one worker."""
        for name, loss in event.losses.items():
            self.write(f"{event.what}/loss/{name}", loss, event.epoch)
        self.write(f"{event.what}/learning_rate", event.learning_rate, event.epoch)
        if event.val_accuracy is not None:
            self.write(f"{event.what}/val_accuracy", event.val_accuracy, event.epoch)

    def on_trial_end(self, record: Any, trials: Sequence[Any], hypervolume: float) -> None:
        """Write a trial of a search."""
        if record.val_accuracy is not None:
            self.write("search/val_accuracy", record.val_accuracy, record.number)
        self.write("search/hypervolume", hypervolume, len(trials))


class CsvLog(Log):
    """Writes rows (name, value, step) to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_text("name,value,step\n", encoding="utf-8")

    def write(self, name: str, value: float, step: int) -> None:
        """Append a row to the file."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow((name, value, step))


class TensorBoardLog(Log):
    """Writes scalars for `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path) -> None:
        self.writer = import_module("torch.utils.tensorboard").SummaryWriter(str(folder))

    def write(self, name: str, value: float, step: int) -> None:
        """Add a scalar to the writer."""
        self.writer.add_scalar(name, value, step)


def main() -> None:
    """Train a teacher and a student with it, and log both."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "logs")
    folder.mkdir(parents=True, exist_ok=True)
    logs: list[Log] = [CsvLog(folder / "training.csv")]
    if find_spec("tensorboard"):
        logs.append(TensorBoardLog(folder))
    torch.manual_seed(0)
    digits = load_digits()
    x, y = digits.data / 16, digits.target
    train, val = (x[:1400], y[:1400]), (x[1400:], y[1400:])
    teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    nas_kd.distill(teacher, train=train, val=val, method="none", epochs=5, batch_size=32, callbacks=logs)
    nas_kd.distill(nn.Linear(64, 10), teacher, train=train, val=val, epochs=5, batch_size=32, callbacks=logs)
    print(f"{folder / 'training.csv'}: {len((folder / 'training.csv').read_text().splitlines()) - 1} rows")


if __name__ == "__main__":
    main()
