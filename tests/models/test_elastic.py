"""The elastic network: as any of its sub-networks it says, and learns, what that network of its own would."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from nas_kd.engine.numerics import seeded
from nas_kd.kd.network_builder import load_space
from nas_kd.models.search_space import SearchSpace
from nas_kd.models.subnetwork import cut_weights
from nas_kd.models.supernet import Supernet
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler
from nas_kd.results.candidate import Architecture

SHAPE, CLASSES = (3, 8, 8), 4


def build(space: SearchSpace, architecture: Architecture) -> nn.Module:
    with seeded(0):
        return space.build(architecture, SHAPE, CLASSES)


def elastic_of(space: SearchSpace) -> Supernet:
    ladder = space.size_ladder(3)
    return Supernet(partial(build, space), ladder[-1], ladder[1])


def cut(elastic: Supernet, space: SearchSpace, architecture: Architecture) -> nn.Module:
    """A network of its own with the weights of this part, in training mode."""
    network = build(space, architecture)
    network.load_state_dict(cut_weights(elastic.weights.state_dict(), network))
    return network.train()


@pytest.fixture(params=["resnet", "mobilenet"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return load_space(request.param)


def test_a_sub_network_says_what_the_network_cut_out_says(space: SearchSpace) -> None:
    elastic, draws = elastic_of(space), ArchitectureSampler(space, 1)
    x = torch.randn(6, *SHAPE)
    for architecture in [*space.size_ladder(4), *(draws.architecture(draws.random()) for _ in range(6))]:
        with elastic.as_subnet(architecture):
            shown = elastic(x)
        assert torch.allclose(shown, cut(elastic, space, architecture)(x), atol=1e-5)


def test_gradients_arrive_in_the_part_that_was_used(space: SearchSpace) -> None:
    elastic, small = elastic_of(space), space.size_ladder(3)[0]
    x = torch.randn(6, *SHAPE)
    with elastic.as_subnet(small):
        elastic(x).square().sum().backward()
    alone = cut(elastic, space, small)
    alone(x).square().sum().backward()
    held = dict(elastic.weights.named_parameters())
    reached = 0
    for name, parameter in alone.named_parameters():
        mine, theirs = held[name].grad, parameter.grad
        assert mine is not None
        assert theirs is not None
        assert mine.abs().sum().item() == pytest.approx(theirs.abs().sum().item(), rel=1e-3, abs=1e-5)
        reached += int(theirs.abs().sum() > 0)
    assert reached
    assert any(p.grad is None for name, p in held.items() if name not in dict(alone.named_parameters()))


def test_running_statistics_are_left_alone_and_copies_are_apart(space: SearchSpace) -> None:
    elastic = elastic_of(space)
    before = {k: v.clone() for k, v in elastic.state_dict().items()}
    elastic(torch.randn(6, *SHAPE))
    copy = deepcopy(elastic)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert all(torch.equal(before[k], v) for k, v in elastic.state_dict().items())
    assert not copy(torch.randn(2, *SHAPE)).any()


def test_what_is_shown_is_put_back(space: SearchSpace) -> None:
    elastic, x = elastic_of(space), torch.randn(4, *SHAPE)
    before = elastic(x)
    with pytest.raises(KeyError), elastic.as_subnet(space.size_ladder(2)[0]):
        raise KeyError
    assert torch.equal(elastic(x), before)
