"""The optimisers of student and method: SGD with Nesterov momentum, and AdamW (Loshchilov & Hutter 2019)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nas_kd.engine.schedule import Schedule

ADAMW_BETA2 = 0.99  # schedules of a few hundred steps are too short for the usual 0.999

ParameterGroups = list[dict[str, Any]]


def make_optimizer(parameters: Sequence[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """Create the optimiser; weights of layers decay, biases and the parameters of normalisation do not.

    Args:
        parameters: what is trained. Those with one dimension or none do not decay.
        schedule: the optimiser, its momentum, weight decay and peak learning rate.
    """
    decayed, plain = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    groups: ParameterGroups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return _OPTIMIZERS[schedule.optimizer](groups, schedule)


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
