"""The optimiser of student and method: SGD with Nesterov momentum."""

from collections.abc import Sequence

import torch
from torch import nn

from nas_kd.engine.schedule import Schedule


def make_optimizer(parameters: Sequence[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """Create the optimiser; weights of layers decay, biases and the parameters of normalisation do not.

    Args:
        parameters: what is trained. Those with one dimension or none do not decay.
        schedule: momentum, weight decay and peak learning rate.
    """
    decayed, plain = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        nesterov=schedule.momentum > 0,
        fused=True,
    )
    if schedule.momentum:
        # A fused step cannot take parameters of which some have a buffer and some none yet, as after a first step
        # that gave no gradient to some.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
