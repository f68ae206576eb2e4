"""Several networks deployed as one: their logits are added."""

from collections.abc import Sequence

from torch import Tensor, nn


class Summed(nn.Module):
    """(B, ...) -> the sum of the members' logits (B, C); one member alone is better deployed as it is."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, C)."""
        logits: Tensor = self.members[0](x)
        for member in list(self.members)[1:]:
            logits = logits + member(x)
        return logits


def summed(members: Sequence[nn.Module]) -> nn.Module:
    """One network for all of them."""
    return members[0] if len(members) == 1 else Summed(members)
