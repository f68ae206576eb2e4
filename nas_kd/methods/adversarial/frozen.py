"""Discriminators: trained by one term, they send gradients to the networks that shall fool them by another."""

import torch
from torch import Tensor, nn


def frozen(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)` with gradients for `x` but none for the module's own parameters."""
    fixed = {name: parameter.detach() for name, parameter in module.named_parameters()}
    output: Tensor = torch.func.functional_call(module, fixed, (x,))
    return output
