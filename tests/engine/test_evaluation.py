"""Accuracy and cross-entropy of a network with known logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.data.dataset import Split
from nas_kd.data.samples import MOST_AT_ONCE, samples_at_once
from nas_kd.engine.evaluation import accuracy_of, label_loss_of
from nas_kd.engine.numerics import PLAIN
from nas_kd.tasks.classification import CLASSIFICATION

from .conftest import FP32, net, stripes


class Logits(nn.Module):
    """Takes its samples for logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(3)]])
    split = Split(x, torch.tensor([0, 0, 0]))  # probabilities of the right class: 1/2, 3/4, 1/4
    assert label_loss_of(Logits(), split, CLASSIFICATION, PLAIN) == pytest.approx(-math.log(1 / 2 * 3 / 4 * 1 / 4) / 3)
    assert accuracy_of(Logits(), split, PLAIN) == pytest.approx(2 / 3)


@pytest.mark.parametrize("n", [MOST_AT_ONCE - 1, MOST_AT_ONCE, 2 * MOST_AT_ONCE + 3])
def test_pieces_of_any_size_count_by_their_samples(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = 3 * torch.randn(n, 5, generator=generator), torch.randint(5, (n,), generator=generator)
    assert label_loss_of(Logits(), Split(x, y), CLASSIFICATION, PLAIN) == pytest.approx(
        float(F.cross_entropy(x, y)), rel=1e-5
    )


def test_a_network_is_judged_as_it_is_deployed() -> None:
    x, y = stripes()
    model = net(4, dropout=0.5).train()
    found = [label_loss_of(model, Split(x, y), CLASSIFICATION, FP32) for _ in range(2)]
    assert found[0] == found[1]
    assert not model.training
    assert found[0] == pytest.approx(float(F.cross_entropy(model(x.float()), y).detach()), rel=1e-5)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("shape", "most"), [((8,), 512), ((3, 64, 64), 512), ((3, 128, 128), 128), ((3, 224, 224), 41), ((9, 2**20), 1)]
)
def test_large_samples_are_few_at_a_time(shape: tuple[int, ...], most: int) -> None:
    assert samples_at_once(shape) == most
