"""Where a network is rounded, and that it is the network itself as long as quantisers are off."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import TrialError
from nas_kd.models.blocks import ConvNorm, InvertedResidual, ResidualBlock
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import available
from nas_kd.quantization.fake_quantized import FakeQuantized, fake_quantized_modules
from nas_kd.quantization.quantizer import N_STEPS, quantized_weight

X = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
HALF, STD = torch.full((3,), 128.0), torch.full((3,), 60.0)


def wrapped(body: nn.Module) -> FakeQuantized:
    return FakeQuantized(Normalized(body, HALF, STD), X[:2]).eval()


def switched_on(network: FakeQuantized) -> FakeQuantized:
    network.enter("observing")
    network(X)
    network.enter("on")
    return network


@pytest.mark.parametrize("space", ["mobilenet", "resnet"])
def test_off_and_observing_it_is_the_network_and_on_it_is_near(space: str) -> None:
    built = available("space")[space]
    torch.manual_seed(0)
    body = built.build(built.size_ladder(4)[1], (3, 8, 8), 10)
    network = wrapped(body)
    plain = network.network(X)
    assert torch.equal(network(X), plain)
    network.enter("observing")
    assert torch.equal(network(X), plain)
    network.enter("on")
    difference = (network(X) - plain).abs().max()
    assert 0 < difference < 0.1 * plain.abs().max()
    assert not network.unquantized
    network.train()
    network(X).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_one_convolution_is_rounded_by_hand_alike() -> None:
    torch.manual_seed(0)
    network = switched_on(wrapped(nn.Sequential(ConvNorm(3, 4, 3), ConvNorm(4, 2, 1))))
    first, second = network.network.body
    given, between = network.ranges
    x = given(network.network.scale * X + network.network.shift)
    y = between(F.relu(first.norm(F.conv2d(x, quantized_weight(first.conv.weight), padding=1))))
    expected = F.relu(second.norm(F.conv2d(y, quantized_weight(second.conv.weight))))
    assert torch.allclose(network(X), expected, atol=1e-6)
    assert len(torch.unique(between(torch.linspace(0, 100, 10_000)))) == N_STEPS + 1


@pytest.mark.parametrize(
    ("body", "places"),
    [
        # the input, between the two layers, before the sum
        (ResidualBlock(3, 3, 3, 1), 3),
        # and the projected shortcut
        (ResidualBlock(3, 6, 1, 2), 4),
        # input, widened, filtered, narrowed
        (InvertedResidual(3, 3, 4, 3, 1, squeeze=False), 4),
    ],
)
def test_a_value_that_is_read_twice_is_rounded_once(body: nn.Module, places: int) -> None:
    assert len(wrapped(body).ranges) == places


class Sums(nn.Module):
    """The same in several ways of writing it."""

    def __init__(self, write: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.write = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), write

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.write(self.a(x), self.b(x)), 1).flatten(1)


def forgetting_the_result(a: Tensor, b: Tensor) -> Tensor:
    a.add_(b)
    F.relu(a, inplace=True)
    return a


def adding_in_place(a: Tensor, b: Tensor) -> Tensor:
    a += b
    return F.relu_(a)


@pytest.mark.parametrize("write", [forgetting_the_result, adding_in_place])
def test_operations_in_place_are_what_they_are_elsewhere(write: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    plain = switched_on(wrapped(Sums(lambda a, b: F.relu(a + b))))
    other = copy.deepcopy(plain)
    other.network.body.write = write
    assert torch.equal(plain(X), other(X))


def test_phase_and_ranges_travel_with_the_state() -> None:
    torch.manual_seed(0)
    trained = switched_on(wrapped(ResidualBlock(3, 6, 1, 2)))
    fresh = wrapped(ResidualBlock(3, 6, 1, 2))
    fresh.load_state_dict(trained.state_dict())
    assert fresh.phase == "on"
    assert torch.equal(fresh(X), trained(X))
    assert torch.equal(copy.deepcopy(trained)(X), trained(X))
    assert fake_quantized_modules(nn.Sequential(nn.Identity(), trained)) == [trained]


def test_observing_begins_anew() -> None:
    network = switched_on(wrapped(ConvNorm(3, 4, 3)))
    before = network.ranges[0].high.item()
    network.enter("off")
    network.enter("observing")
    network(X / 2)
    assert network.ranges[0].high.item() < before - 0.5


def test_weights_without_a_kernel_are_named() -> None:
    assert wrapped(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 2, 2))).unquantized == ("conv_transpose2d",)
    computed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
    network = switched_on(wrapped(nn.Sequential(nn.Conv2d(3, 3, 1), computed)))
    assert network.unquantized == ("a layer with computed weights",)


class Growing(nn.Module):
    """Another network on every call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.times = nn.Conv2d(3, 3, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.times += 1
        for _ in range(self.times):
            x = self.layer(x)
        return x


def test_a_network_that_changes_from_call_to_call_is_refused() -> None:
    network = wrapped(Growing())
    network.enter("on")
    with pytest.raises(TrialError, match="different operations from one call to the next"):
        network(X)
