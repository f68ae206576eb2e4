"""Normalisation inside the network: values by hand, and what it refuses."""

import pytest
import torch
from torch import nn

from nas_kd.models.wrappers import Normalized


def test_images_are_normalised_per_channel() -> None:
    net = Normalized(nn.Identity(), torch.tensor([100.0, 50.0]), torch.tensor([50.0, 25.0]))
    x = torch.tensor([[[[100.0, 200.0]], [[0.0, 255.0]]]])
    torch.testing.assert_close(net(x), torch.tensor([[[[0.0, 2.0]], [[-2.0, 8.2]]]]))


@pytest.mark.parametrize("shape", [(4, 7), (4, 3, 5), (4, 1, 8, 8)])
def test_one_number_fits_any_shape(shape: tuple[int, ...]) -> None:
    net = Normalized(nn.Identity(), torch.tensor([3.0]), torch.tensor([2.0]))
    x = torch.randn(shape)
    torch.testing.assert_close(net(x), (x - 3) / 2)


def test_weights_are_under_body_and_come_back() -> None:
    net = Normalized(nn.Linear(4, 2), torch.tensor([3.0]), torch.tensor([2.0]))
    assert set(net.state_dict()) == {"body.weight", "body.bias", "scale", "shift"}
    other = Normalized(nn.Linear(4, 2), torch.tensor([0.0]), torch.tensor([1.0]))
    other.load_state_dict(net.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(net(x), other(x))


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.0], [0.0]), ([0.0], [-1.0]), ([float("nan")], [1.0]), ([0.0], [float("inf")]), ([0.0], [1, 1])],
)
def test_impossible_statistics_are_refused(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="mean"):
        Normalized(nn.Identity(), torch.tensor(mean), torch.tensor(std))
