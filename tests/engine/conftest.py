"""A small data set of made-up stripes, and networks to train on it."""

import pytest
import torch
from torch import nn

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, seeded
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import TrainingSetup

N, CLASSES = 96, 3
FP32 = Numerics(bf16=False, channels_last=True)


class Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = Block(1, width, 1)
        self.stages = nn.ModuleList([Block(width, width, 1), Block(width, 2 * width, 2)])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x / 255)
        for stage in self.stages:
            x = stage(x)
        out: torch.Tensor = self.head(self.dropout(x.mean(dim=(2, 3))))
        return out


def stripes() -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1, 8, 8) uint8: noise with a bright row, column or diagonal."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 120, (N, 1, 8, 8), generator=generator, dtype=torch.uint8)
    y = torch.arange(N) % CLASSES
    for i in range(N):
        where = int(torch.randint(1, 7, (), generator=generator))
        match int(y[i]):
            case 0:
                x[i, 0, where] = 255
            case 1:
                x[i, 0, :, where] = 255
            case _:
                x[i, 0].fill_diagonal_(255)
    return x, y


@pytest.fixture(scope="session")
def setup() -> TrainingSetup:
    x, y = stripes()
    augmenter = Augmenter(x, x.float().mean().view(1), Augmentation(crop=1, flip=False, cutout=0), seed=0)
    schedule = Schedule(6, 32, 0.1, 0.9, 5e-4, 0.1, 0.2, 5.0)
    facts = DatasetInfo(N, CLASSES, torch.tensor([60.0]), torch.tensor([60.0]))
    return TrainingSetup(ArrayBatches(augmenter, y), facts, schedule, FP32, seed=3)


def net(width: int, seed: int = 0, dropout: float = 0.0) -> Net:
    with seeded(seed):
        return Net(width, dropout)


@pytest.fixture
def teacher(setup: TrainingSetup) -> TeacherOutputs:
    model = net(12, seed=9).eval()
    return TeacherOutputs(Teacher(model, "a" * 64, "teacher", 1, 1), setup.source.augmenter, 32, FP32, None)
