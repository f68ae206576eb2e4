"""Runs a network as it is deployed, then restores the mode of every sub-module."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Switch to evaluation mode without gradients while open; restore each sub-module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Let torch's attention run step by step inside, as it is written.

    Its fast path of evaluation mode has no ONNX operator, and gives nested tensors where tokens are masked.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def device_of(model: nn.Module) -> torch.device:
    """Device of the network's first weight or buffer; the CPU for a network without any."""
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")
