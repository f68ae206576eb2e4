"""A small problem for one's own modules: images with a bright row, column or diagonal, and networks for them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from nas_kd.commands.distill_modules import distill
from nas_kd.context.callbacks import Callback, EpochEnd
from nas_kd.engine.numerics import seeded

N, CLASSES = 96, 3


def samples(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, 1, 8, 8) float32 in 0..1, and labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((n, 1, 8, 8), generator=generator) * 0.5
    y = torch.arange(n) % CLASSES
    for i, label in enumerate(y.tolist()):
        where = int(torch.randint(1, 7, (), generator=generator))
        match label:
            case 0:
                x[i, 0, where] = 1
            case 1:
                x[i, 0, :, where] = 1
            case _:
                x[i, 0].fill_diagonal_(1)
    return x, y


class Net(nn.Module):
    """As users write them: with `view`, batch normalisation and dropout."""

    def __init__(self, width: int = 4, classes: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()
        )
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        out: Tensor = self.head(self.drop(x.view(x.size(0), -1)))
        return out


def net(width: int = 4, seed: int = 0, classes: int = CLASSES) -> Net:
    with seeded(seed):
        return Net(width, classes)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Items(Dataset[tuple[Any, Any]]):
    """A map-style data set; `noise` draws from NumPy's global generator, as many transforms do."""

    def __init__(self, x: Any, y: Any, noise: float = 0.0) -> None:
        self.x, self.y, self.noise, self.reads = x, y, noise, 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        self.reads += 1
        return self.x[i] + self.noise * float(np.random.rand()), self.y[i]


class Batches:
    """Batches that can be iterated again and again; counts how often."""

    def __init__(self, batches: list[Any], length: int | None = None) -> None:
        self.batches, self.length, self.passes = batches, len(batches) if length is None else length, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return iter(self.batches)


class Log(Callback):
    """Keeps the events of epochs; raises `error` in epoch `at`."""

    def __init__(self, error: BaseException | None = None, at: int = 2) -> None:
        self.epochs: list[EpochEnd] = []
        self.stages: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self.error, self.at = error, at

    def on_stage(self, text: str) -> None:
        self.stages.append(text)

    def on_progress(self, what: str, done: int, total: int) -> None:
        self.steps.append((what, done, total))

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.epochs.append(event)
        if self.error is not None and event.epoch == self.at:
            raise self.error


def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((network(x).argmax(dim=1) == y).double().mean())


def trained(teacher: Net | None, train: Any, method: Any = "soft_targets", **options: Any) -> dict[str, Tensor]:
    """Weights of a student after two epochs."""
    student = distill(net(), teacher, train=train, method=method, **({"epochs": 2, "batch_size": 32} | options))
    return state(student)
