"""A network whose outputs are numbers in their own units."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ScaledOutputs(nn.Module):
    """A network whose outputs are multiplied by a standard deviation and added to a mean: numbers in their own units.

    Attributes:
        mean: (k,) of each output.
        std: (k,) standard deviation of each output.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a network.

        Args:
            body: returns (B, k).
            mean: of each output.
            std: standard deviation of each output.
        """
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return what `body` returns of x (B, ...), in the outputs' units."""
        return self.body(x) * self.std + self.mean  # type: ignore[no-any-return]
