"""What a user writes without nas-kd: prune by magnitude with torch-pruning, then fine-tune by soft targets.

All channel groups are narrowed by one ratio, at once or in steps with training in between, as in the examples of
torch-pruning. Training is plain torch with bfloat16 autocast; its schedule follows this process's CPU time.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning
from torch import Tensor, nn

from nas_kd.models.wrappers import Normalized

BATCH, ROUND_TO, WARMUP = 64, 4, 0.05
TEMPERATURE, ALPHA = 4.0, 0.9


@dataclass(frozen=True)
class Plan:
    """How a network is pruned and trained.

    Attributes:
        ratio: of the channels that are removed, 0..1.
        steps: in which they are removed; between steps it is trained for equal parts of half of the time.
        seconds: of CPU time, pruning included.
        learning_rate: peak of SGD's.
        seed: of order and augmentation.
    """

    ratio: float
    steps: int
    seconds: float
    learning_rate: float
    seed: int


def pruner_of(network: Normalized, example: Tensor, ratio: float, steps: int) -> Any:
    """Prepare the pruning of a network in place, by the size of grouped weights.

    Args:
        network: what it wraps is pruned.
        example: (B, C, H, W), normalised.
        ratio: of the channels that are removed in all.
        steps: in which they are removed.
    """
    last = [module for module in network.body.modules() if isinstance(module, nn.Linear)][-1]
    return torch_pruning.pruner.MagnitudePruner(
        network.body,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        iterative_steps=steps,
        pruning_ratio=ratio,
        ignored_layers=[last],
        round_to=ROUND_TO,
    )


def prune_and_train(network: Normalized, teacher: nn.Module, data: tuple[Tensor, Tensor], plan: Plan) -> int:
    """Prune a copy of the teacher in place and train it; returns the number of training steps.

    Args:
        network: the copy.
        teacher: pixels (B, C, H, W) -> logits (B, classes).
        data: (N, C, H, W) pixels and (N,) labels.
        plan: of both.
    """
    torch.manual_seed(plan.seed)
    started, done = time.process_time(), 0
    pruner = pruner_of(network, torch.zeros(2, *data[0].shape[1:]), plan.ratio, plan.steps)
    for step in range(plan.steps):
        pruner.step()
        last = step == plan.steps - 1
        until = plan.seconds if last else plan.seconds / 2 * (step + 1) / (plan.steps - 1)
        done += _train((network, teacher), data, plan.learning_rate, started=started, until=until)
    return done


def _train(
    networks: tuple[nn.Module, nn.Module],
    data: tuple[Tensor, Tensor],
    learning_rate: float,
    *,
    started: float,
    until: float,
) -> int:
    """Train by soft targets (Hinton et al. 2015) until `until` seconds of CPU time after `started`."""
    (network, teacher), (x, y), steps = networks, data, 0
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    begun, order = time.process_time() - started, torch.empty(0, dtype=torch.int64)
    while (progress := (time.process_time() - started - begun) / max(until - begun, 1e-3)) < 1:
        if len(order) < min(BATCH, len(x)):
            order = torch.randperm(len(x))
        rows, order = order[:BATCH], order[BATCH:]
        rate = learning_rate * min(progress / WARMUP, 0.5 * (1 + math.cos(math.pi * progress)))
        optimizer.param_groups[0]["lr"] = rate
        batch = shifted(x[rows].float()).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                taught = F.log_softmax(teacher(batch).float() / TEMPERATURE, dim=1)
            logits = network(batch).float()
        said = F.log_softmax(logits / TEMPERATURE, dim=1)
        soft = F.kl_div(said, taught, reduction="batchmean", log_target=True) * TEMPERATURE**2
        loss = (1 - ALPHA) * F.cross_entropy(logits, y[rows]) + ALPHA * soft
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        steps += 1
    network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return steps


def shifted(x: Tensor, most: int = 4) -> Tensor:
    """Shift by up to `most` pixels, and mirror half of the pictures: (B, C, H, W) -> the same."""
    count, (height, width) = len(x), x.shape[2:]
    top, left = torch.randint(0, 2 * most + 1, (2, count, 1))
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    padded = F.pad(x, [most] * 4).permute(0, 2, 3, 1)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
