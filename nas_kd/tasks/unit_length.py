"""A network whose outputs have length 1."""

import torch.nn.functional as F
from torch import Tensor, nn


class UnitLength(nn.Module):
    """A network that returns vectors of length 1: their inner product is their cosine."""

    def __init__(self, body: nn.Module) -> None:
        """Wrap a network that returns (B, d)."""
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return what `body` returns of x (B, ...), divided by its length."""
        return F.normalize(self.body(x), dim=1)
