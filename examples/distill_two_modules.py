"""Distill your own student from your own teacher, with your own data loader: no search, no config, no run folder.

Shows: `nas_kd.distill` with a DataLoader that augments, validation data, a callback, and the student without a teacher.
Run:   python distill_two_modules.py
Takes: 5 seconds of CPU.
"""

from copy import deepcopy

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import nas_kd


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Digits (1, 8, 8) with noise: your own augmentation, which student and teacher both see."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """One sample and its class."""
        return self.x[i] + 0.1 * torch.randn(1, 8, 8), self.y[i]


class Net(nn.Module):
    """A small convolutional network: (B, 1, 8, 8) -> logits (B, 10)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, 10) of images (B, 1, 8, 8)."""
        logits: Tensor = self.head(self.body(x).flatten(1))
        return logits


class Print(nas_kd.Callback):
    """Prints every fifth epoch; validation accuracy is computed when it is read."""

    def on_epoch_end(self, event: nas_kd.EpochEnd) -> None:
        """Print one epoch with the terms of its loss."""
        if event.epoch % 5 == 0:
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in event.losses.items())
            print(f"  epoch {event.epoch} of {event.epochs}: {losses}; accuracy {event.val_accuracy:.1%}")


def main() -> None:
    """Train a teacher on much data, and a student on little: with the teacher, then without."""
    torch.manual_seed(0)
    digits, order = load_digits(), torch.randperm(1797)
    x = torch.from_numpy(digits.images[:, None] / 16).float()[order]
    y = torch.from_numpy(digits.target)[order]
    val = (x[1400:], y[1400:])
    teacher = nas_kd.distill(Net(64), train=(x[:1400], y[:1400]), method="none", epochs=8, batch_size=64)  # 30 epochs
    student, loader = Net(3), DataLoader(Noisy(x[:200], y[:200]), batch_size=32, shuffle=True)
    alone = deepcopy(student)
    print("the student with its teacher:")
    nas_kd.distill(student, teacher, train=loader, val=val, method="soft_targets", epochs=15, callbacks=[Print()])  # 60
    print("the student alone:")
    nas_kd.distill(alone, train=loader, val=val, method="none", epochs=15, callbacks=[Print()])


if __name__ == "__main__":
    main()
