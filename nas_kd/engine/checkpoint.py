"""Turns the state of a training into named tensors, and back."""

from typing import Any

import torch
from torch import Tensor


def flatten(groups: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Flatten groups of tensors: `{"student": {"a": t}}` becomes `{"student/a": t}`."""
    return {f"{group}/{name}": t for group, tensors in groups.items() for name, t in tensors.items()}


def unflatten(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Undo `flatten`; groups without tensors are lost."""
    groups: dict[str, dict[str, Tensor]] = {}
    for path, tensor in state.items():
        group, _, name = path.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Collect the tensors that an optimiser keeps, as `<number of the parameter>.<name>`."""
    return {
        f"{i}.{name}": value
        for i, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_state` returned, in the memory format of the parameters."""
    whole = optimizer.state_dict()
    states: dict[int, dict[str, Any]] = {}
    for path, tensor in tensors.items():
        number, _, name = path.partition(".")
        states.setdefault(int(number), {})[name] = tensor
    whole["state"] = states
    optimizer.load_state_dict(whole)
    for state in optimizer.state.items():
        parameter, values = state
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
