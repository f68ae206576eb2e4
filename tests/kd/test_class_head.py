"""The layers that give a network's logits, and new ones for another number of classes."""

import pytest
import torch
from torch import Tensor, nn

from nas_kd.kd.class_head import find_head, with_new_head

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Averaged(nn.Module):
    """Two heads, as in distilled transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 3)
        self.one, self.other = nn.Linear(4, 7), nn.Linear(4, 7)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.trunk(x).mean((2, 3))
        return {"logits": (self.one(y) + self.other(y)) / 2}


class Shared(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 7)
        self.same = self.head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.same(x.flatten(1)), x


def squeezed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 7, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def convolutional() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 7, 1, bias=False))


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, 7))


@pytest.mark.parametrize(
    ("network", "n_layers", "gives_logits"),
    [
        (plain(), 1, True),
        (convolutional(), 1, True),
        (Shared(), 1, True),
        (Averaged(), 2, False),
        (squeezed(), 1, False),
    ],
)
def test_heads(network: nn.Module, n_layers: int, gives_logits: bool) -> None:
    head = find_head(network, X)
    assert head is not None
    assert (len(head.layers), head.n_classes, head.gives_logits, head.is_new) == (n_layers, 7, gives_logits, False)
    new = with_new_head(network, head, 4)
    assert (new.is_new, new.n_classes) == (True, 7)
    found = find_head(network, X)
    assert found is not None
    assert found.n_classes == 4
    assert found.layers == new.layers
    assert not any(layer in head.layers for layer in network.modules())


class Unfindable(nn.Module):
    """A parameter gives the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.weight = nn.Linear(192, 5), nn.Parameter(torch.ones(5, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) @ self.weight


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_networks_without_a_head_that_could_be_replaced() -> None:
    assert find_head(Unfindable(), X) is None
    assert find_head(nn.Sequential(nn.Conv2d(3, 7, 3), nn.AdaptiveAvgPool2d(1)), X) is None
    assert find_head(nn.Linear(5, 7), X) is None  # which cannot be run
    assert find_head(torch.jit.trace(plain(), X), X) is None
    assert find_head(nn.Flatten(), X) is None
