"""The optimisers of student and method: SGD with Nesterov momentum, and AdamW (Loshchilov & Hutter 2019)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nas_kd.engine.schedule import Schedule

RATE_FACTOR = "rate_factor"  # of a group of weights, on the learning rate
ADAMW_BETA2 = 0.99  # schedules of a few hundred steps are too short for the usual 0.999

ParameterGroups = list[dict[str, Any]]


@dataclass(frozen=True)
class SlowWeights:
    """Weights that are trained at a lower learning rate than the others, as those of a pretrained network are.

    Attributes:
        parameters: the weights.
        factor: on the learning rate.
    """

    parameters: Sequence[nn.Parameter] = ()
    factor: float = 1.0


ALL_ALIKE = SlowWeights()


def make_optimizer(
    parameters: Sequence[nn.Parameter], schedule: Schedule, slow: SlowWeights = ALL_ALIKE
) -> torch.optim.Optimizer:
    """Create the optimiser; weights of layers decay, biases and the parameters of normalisation do not.

    Args:
        parameters: what is trained. Those with one dimension or none do not decay.
        schedule: the optimiser, its momentum, weight decay and peak learning rate.
        slow: those of the parameters that have a lower learning rate.
    """
    slowed = set(map(id, slow.parameters))
    groups = _groups([p for p in parameters if id(p) not in slowed], schedule, 1.0)
    if slowed:
        groups += _groups([p for p in parameters if id(p) in slowed], schedule, slow.factor)
    return _OPTIMIZERS[schedule.optimizer](groups, schedule)


def _groups(parameters: Sequence[nn.Parameter], schedule: Schedule, factor: float) -> ParameterGroups:
    decayed, plain = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    return [
        {"params": decayed, "weight_decay": schedule.weight_decay, RATE_FACTOR: factor},
        {"params": plain, "weight_decay": 0.0, RATE_FACTOR: factor},
    ]


def _sgd(groups: ParameterGroups, schedule: Schedule) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(
        groups, lr=schedule.learning_rate, momentum=schedule.momentum, nesterov=schedule.momentum > 0, fused=True
    )
    if schedule.momentum:
        # A fused step cannot take parameters of which some have a buffer and some none yet, as after a first step
        # that gave no gradient to some.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _adamw(groups: ParameterGroups, schedule: Schedule) -> torch.optim.Optimizer:
    betas = (schedule.momentum, ADAMW_BETA2)
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=betas, fused=True)


_OPTIMIZERS: Mapping[str, Callable[[ParameterGroups, Schedule], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}
