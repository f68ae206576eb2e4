"""One step of each optimiser by its formula, and what does not decay."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nas_kd.engine.optimizer import ADAMW_BETA2, make_optimizer
from nas_kd.engine.schedule import Schedule

SGD = Schedule(1, 8, 0.1, 0.9, 0.02, 0.1, 0.1, 5.0)
ADAMW = replace(SGD, optimizer="adamw", learning_rate=0.01, weight_decay=0.5)
BOTH = pytest.mark.parametrize("schedule", [SGD, ADAMW], ids=lambda s: str(s.optimizer))


def gradients(step: int, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step))


def stepped(layer: nn.Linear, schedule: Schedule, steps: int) -> None:
    """Take steps with made-up gradients, at a learning rate that changes."""
    optimizer = make_optimizer(list(layer.parameters()), schedule)
    for step in range(steps):
        for parameter in layer.parameters():
            parameter.grad = gradients(step, parameter.shape)
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate / (1 + step)
        optimizer.step()


def adamw(w: Tensor, schedule: Schedule, decay: float, steps: int) -> Tensor:
    """Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2, with weight decay times the learning rate."""
    beta1, beta2, epsilon = schedule.momentum, ADAMW_BETA2, 1e-8
    w = w.detach().double()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for step in range(steps):
        rate, g = schedule.learning_rate / (1 + step), gradients(step, w.shape).double()
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        unbiased = m / (1 - beta1 ** (step + 1)), v / (1 - beta2 ** (step + 1))
        w = w - rate * (unbiased[0] / (unbiased[1].sqrt() + epsilon) + decay * w)
    return w


def sgd(w: Tensor, schedule: Schedule, decay: float, steps: int) -> Tensor:
    """Nesterov's momentum as Sutskever et al. 2013 write it, with L2 decay."""
    w = w.detach().double()
    velocity = torch.zeros_like(w)
    for step in range(steps):
        g = gradients(step, w.shape).double() + decay * w
        velocity = schedule.momentum * velocity + g
        w = w - schedule.learning_rate / (1 + step) * (g + schedule.momentum * velocity)
    return w


@BOTH
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_steps_follow_the_formula(schedule: Schedule, steps: int, momentum: float) -> None:
    schedule = replace(schedule, momentum=momentum)
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    formula = {"sgd": sgd, "adamw": adamw}[schedule.optimizer]
    weight = formula(layer.weight, schedule, schedule.weight_decay, steps)
    bias = formula(layer.bias, schedule, 0.0, steps)
    stepped(layer, schedule, steps)
    torch.testing.assert_close(layer.weight.detach().double(), weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.bias.detach().double(), bias, rtol=1e-5, atol=1e-6)


@BOTH
def test_without_a_gradient_weights_decay_and_biases_and_normalisation_do_not(schedule: Schedule) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(list(model.parameters()), schedule)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # Nesterov's first step counts the decay once for itself and once for the momentum.
    times = 1 + schedule.momentum if schedule.optimizer == "sgd" else 1
    shrunk = 1 - schedule.learning_rate * schedule.weight_decay * times
    for name, parameter in model.named_parameters():
        decays = name in ("0.weight", "3.weight")
        torch.testing.assert_close(parameter.detach(), before[name] * (shrunk if decays else 1), rtol=1e-6, atol=0)


def test_an_optimiser_that_a_schedule_does_not_name_is_sgd() -> None:
    assert isinstance(make_optimizer([nn.Parameter(torch.zeros(2, 2))], SGD), torch.optim.SGD)
    assert isinstance(make_optimizer([nn.Parameter(torch.zeros(2, 2))], ADAMW), torch.optim.AdamW)
