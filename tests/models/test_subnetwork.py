"""Cutting weights: which part is taken, and what is refused."""

import pytest
import torch
from torch import nn

from nas_kd.errors import InputError
from nas_kd.models.subnetwork import cut_weights


def test_leading_channels_and_the_centre_of_the_kernel() -> None:
    larger = nn.Conv2d(3, 4, 5)
    cut = cut_weights(larger.state_dict(), nn.Conv2d(2, 3, 3))
    assert torch.equal(cut["weight"], larger.weight[:3, :2, 1:4, 1:4])
    assert torch.equal(cut["bias"], larger.state_dict()["bias"][:3])


def test_the_cut_does_not_share_memory() -> None:
    larger = nn.Linear(4, 4)
    cut = cut_weights(larger.state_dict(), nn.Linear(2, 4))
    cut["weight"].zero_()
    assert bool((larger.weight != 0).all())


def test_what_is_no_sub_network_is_refused() -> None:
    with pytest.raises(InputError, match="has no 'bias'"):
        cut_weights(nn.Linear(4, 4, bias=False).state_dict(), nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"'weight' is \(4, 4\) in the larger network, needed \(5, 4\)"):
        cut_weights(nn.Linear(4, 4).state_dict(), nn.Linear(4, 5))
    with pytest.raises(InputError, match="'weight'"):
        cut_weights(nn.Conv2d(4, 4, 1).state_dict(), nn.Linear(4, 4))
