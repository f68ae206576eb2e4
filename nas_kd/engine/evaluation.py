"""Accuracy of a network on labelled samples, in float32 arithmetic whatever format training used."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.data.dataset import Split, as_input
from nas_kd.engine.numerics import Numerics
from nas_kd.results.confusion import Confusion
from nas_kd.scores.base import Decisions

EVALUATION_BATCH = 512


def accuracy_of(model: nn.Module, split: Split, numerics: Numerics) -> float:
    """Share of a split's samples whose largest logit is their label's, 0..1.

    Args:
        model: (B, ...) in stored units -> (B, C) logits; left in eval mode.
        split: at least one sample.
        numerics: the memory layout that the model is in.
    """
    return accuracy_on(model, _chunks(split), numerics)


def confusion_of(model: nn.Module, split: Split, numerics: Numerics) -> Confusion:
    """Count how often a network gives samples of each class each class.

    Args:
        model: (B, ...) in stored units -> (B, C) logits; left in eval mode.
        split: at least one sample.
        numerics: the memory layout that the model is in.
    """
    return decisions_of(model, split, numerics).confusion


@torch.no_grad()
def decisions_of(model: nn.Module, split: Split, numerics: Numerics) -> Decisions:
    """Find the class that a network gives each sample of a split; see `confusion_of` for the arguments."""
    model.eval()
    found, n_classes = [], 0
    for x, _ in _chunks(split):
        logits = model(numerics.to_layout(x)).float()
        found.append(logits.argmax(dim=1))
        n_classes = logits.shape[1]
    return Decisions(split.y.numpy(), torch.cat(found).numpy(), n_classes)


def decisions_of_logits(logits: Tensor, labels: Tensor) -> Decisions:
    """Find the class that stored logits (N, C) give each sample, beside the samples' own (N,)."""
    return Decisions(labels.numpy(), logits.argmax(dim=1).numpy(), logits.shape[1])


@torch.no_grad()
def accuracy_on(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], numerics: Numerics) -> float:
    """Share of samples whose largest logit is their label's, over batches of (x, y); 0..1.

    Args:
        model: x (B, ...) -> (B, C) logits; left in eval mode.
        batches: at least one sample in total; y: (B,) int64.
        numerics: the memory layout that the model is in.
    """
    model.eval()
    correct, total = 0, 0
    for x, y in batches:
        correct += int((model(numerics.to_layout(x)).float().argmax(dim=1) == y).sum())
        total += len(y)
    return correct / total


@torch.no_grad()
def cross_entropy_of(model: nn.Module, split: Split, numerics: Numerics) -> float:
    """Mean cross-entropy of a network on a split.

    Args:
        model: (B, ...) in stored units -> (B, C) logits; left in eval mode.
        split: at least one sample.
        numerics: the memory layout that the model is in.
    """
    model.eval()
    total = sum(
        float(F.cross_entropy(model(numerics.to_layout(x)).float(), y, reduction="sum")) for x, y in _chunks(split)
    )
    return total / len(split)


def _chunks(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(split), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        yield as_input(split.x[part]), split.y[part]
