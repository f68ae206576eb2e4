"""How good a network is on the samples of a split, in float32 arithmetic whatever format training used."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_kd.data.dataset import Split, as_input
from nas_kd.data.samples import Samples, samples_at_once
from nas_kd.engine.numerics import Numerics
from nas_kd.scores.base import Evidence
from nas_kd.tasks.base import Task


def accuracy_of(model: nn.Module, split: Split, numerics: Numerics) -> float:
    """Share of a split's samples whose largest logit is their label's, 0..1.

    Args:
        model: (B, ...) in stored units -> (B, C) logits; left in eval mode.
        split: at least one sample, of classification.
        numerics: the memory layout that the model is in.
    """
    return accuracy_on(model, _chunks(split), numerics)


def evidence_of(model: nn.Module, split: Split, task: Task, numerics: Numerics) -> Evidence:
    """What a network does with the samples of a split, which its scores follow from.

    Args:
        model: (B, ...) in stored units -> (B, ...) what the task asks for; left in eval mode.
        split: at least one sample.
        task: of the split.
        numerics: the memory layout that the model is in.
    """
    return evidence_on(model, _chunks(split), task, numerics)


@torch.no_grad()
def outputs_of(model: nn.Module, x: Samples, numerics: Numerics) -> NDArray[np.float32]:
    """What a network returns for samples (N, ...) in stored units; see `evidence_of` for the arguments."""
    size = samples_at_once(x.shape[1:])
    inputs = (as_input(x[i : i + size]) for i in range(0, len(x), size))
    return np.concatenate([_output(model.eval(), given, numerics) for given in inputs])


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
    for x, y in _split(batches):
        correct += int((model(numerics.to_layout(x)).float().argmax(dim=1) == y).sum())
        total += len(y)
    return correct / total


@torch.no_grad()
def evidence_on(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], task: Task, numerics: Numerics) -> Evidence:
    """What a network does with the samples of batches (x, y); see `evidence_of`.

    Args:
        model: x (B, ...) -> (B, ...) what the task asks for; left in eval mode.
        batches: at least one sample in total.
        task: of the targets.
        numerics: the memory layout that the model is in.
    """
    model.eval()
    return task.evidence_of_parts((_output(model, x, numerics), y.numpy()) for x, y in _split(batches))


@torch.no_grad()
def label_loss_of(model: nn.Module, split: Split, task: Task, numerics: Numerics) -> float:
    """Mean loss on the labels of a network on a split, unweighted.

    Args:
        model: (B, ...) in stored units -> (B, ...) what the task asks for; left in eval mode.
        split: at least one sample.
        task: of the split.
        numerics: the memory layout that the model is in.
    """
    model.eval()
    total = 0.0
    for x, y in _chunks(split):
        decided = task.decide(model(numerics.to_layout(x)).float())
        total += float(task.summed_loss(decided, y))
    return total / len(split)


def _output(model: nn.Module, x: Tensor, numerics: Numerics) -> NDArray[np.float32]:
    return model(numerics.to_layout(x)).float().numpy()  # type: ignore[no-any-return]


def _chunks(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    size = samples_at_once(split.x.shape[1:])
    for start in range(0, len(split), size):
        part = slice(start, start + size)
        yield as_input(split.x[part]), split.y[part]


def _split(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of as many samples as networks are run on at a time."""
    for x, y in batches:
        size = samples_at_once(x.shape[1:])
        yield from zip(torch.split(x, size), torch.split(y, size), strict=True)
