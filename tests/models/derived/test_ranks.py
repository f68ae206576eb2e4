"""Ranks of large linear layers: two thin layers of one, by the singular values of what is kept of its weights."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import verify
from nas_kd.models.derived.derived_space import DerivedSpace
from nas_kd.models.derived.shares import rank_of
from nas_kd.models.low_rank_factors import low_rank_factors
from nas_kd.models.subnetwork import cut_weights, is_subnetwork
from nas_kd.models.supernet import Supernet
from nas_kd.results.candidate import Architecture
from nas_kd.testing import check_space
from tests.models.derived.networks import NETWORKS, PICTURES, example_of, network_of, trained_like
from tests.models.derived.transformers import N_CLASSES, GroupedQueryAttention, VisionTransformer

SHAPE = (80,)


class Perceptron(nn.Module):
    """Two large layers behind each other, and a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(80, 128), nn.Linear(128, 96)
        self.head = nn.Linear(96, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))  # type: ignore[no-any-return]


def perceptron() -> Perceptron:
    torch.manual_seed(0)
    network = Perceptron()
    trained_like(network)
    return network


def samples(n: int = 4) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))


def largest(space: DerivedSpace, **choices: int) -> Architecture:
    """The whole network with some choices changed."""
    return space.canonical({name: int(v) for name, v in space.size_ladder(2)[-1].choices.items()} | choices)


def ranks(space: DerivedSpace, eighths: int) -> dict[str, int]:
    """A choice of all dimensions of ranks."""
    return {cut.name: eighths for cut in space.cuts if cut.layers}


def build(space: DerivedSpace, architecture: Architecture) -> nn.Module:
    return space.build(architecture, space.input_shape, N_CLASSES).eval()


def product(network: nn.Module, path: str) -> Tensor:
    left, right = network.get_parameter(f"{path}.1.weight"), network.get_parameter(f"{path}.0.weight")
    return (left @ right).detach()


def closest(matrix: Tensor, rank: int) -> Tensor:
    """By hand: the matrix without its smallest singular values."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] @ torch.diag(s[:rank]) @ v[:rank]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)])
def test_factors_are_the_closest_of_their_rank_and_exact_at_the_full_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for rank in (1, 3, min(shape)):
        left, right = low_rank_factors(matrix, rank)
        torch.testing.assert_close(left @ right, closest(matrix, rank), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(left.square().sum(0), right.square().sum(1), rtol=1e-4, atol=1e-5)
    zeros = low_rank_factors(torch.zeros(shape), 2)
    assert all(bool(torch.isfinite(factor).all()) for factor in zeros)


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (64, 4096), (100, 70), (32, 32), (768, 3072)])
def test_every_rank_below_the_full_one_saves(outputs: int, inputs: int) -> None:
    whole, found = outputs * inputs, [rank_of(outputs, inputs, eighths) or 0 for eighths in range(1, 8)]
    assert all(0 < rank * (outputs + inputs) < whole for rank in found)
    assert found == sorted(found)
    assert rank_of(outputs, inputs, 8) is None
    assert rank_of(31, inputs, 4) is None


def test_the_rank_of_a_stage_is_a_dimension_whose_largest_choice_is_the_whole_layer() -> None:
    space = DerivedSpace(perceptron(), samples())
    cuts = {cut.name: cut for cut in space.cuts}
    assert (cuts["rank_1"].layers, cuts["rank_2"].layers) == (("first",), ("second",))
    assert cuts["rank_1"].description == "rank of linear layers, stage 1; 1 becomes two: first"
    whole = build(space, largest(space))
    assert torch.equal(whole(samples()), perceptron()(samples()))
    costs = []
    for eighths in range(1, 9):
        network = build(space, largest(space, **ranks(space, eighths)))
        costs.append((sum(p.numel() for p in network.parameters()), count_macs(network, SHAPE)))
        assert costs[-1][0] == space._weights(dict.fromkeys(cuts, 8) | ranks(space, eighths))
    assert [sorted({cost[i] for cost in costs}) for i in (0, 1)] == [[cost[i] for cost in costs] for i in (0, 1)]
    assert space.describe(largest(space, rank_1=4)) == "width 128-96, rank 24-full"
    assert "rank" not in space.describe(largest(space))
    assert space.techniques(largest(space, rank_1=4)) == ("pruning", "low rank")
    assert space.techniques(largest(space)) == ("pruning",)


def test_factors_are_of_what_is_kept_of_the_weights() -> None:
    space = DerivedSpace(perceptron(), samples())
    names = [cut.name for cut in space.cuts if cut.groups]
    choices = dict.fromkeys(names, 5)
    narrow, thin = build(space, largest(space, **choices)), build(space, largest(space, **choices, **ranks(space, 3)))
    for path in ("first", "second"):
        layer = narrow.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        first = thin.get_submodule(f"{path}.0")
        assert isinstance(first, nn.Linear)
        rank = first.out_features
        assert rank == rank_of(layer.out_features, layer.in_features, 3)
        torch.testing.assert_close(product(thin, path), closest(layer.weight.detach(), rank), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(thin.get_parameter(f"{path}.1.bias"), layer.bias)


def test_a_layer_that_has_a_low_rank_loses_nothing() -> None:
    network = perceptron()
    with torch.no_grad():
        network.first.weight.copy_(closest(network.first.weight, 10))
        network.second.weight.copy_(closest(network.second.weight, 12))
    space = DerivedSpace(network, samples())
    thin = build(space, largest(space, **ranks(space, 3)))
    torch.testing.assert_close(thin(samples()), network(samples()), rtol=1e-4, atol=1e-5)


def test_transformers_have_ranks_and_leave_as_verified_files() -> None:
    torch.manual_seed(0)
    network = trained_like(VisionTransformer(GroupedQueryAttention, dim=64))
    space = DerivedSpace(network, example_of(PICTURES))
    assert 6 <= len(space.cuts) <= 14
    assert {"rank_1", "rank_2", "rank_3"} <= {cut.name for cut in space.cuts}
    thin = largest(space, rank_1=2, rank_2=5, heads_2=4)
    for architecture in (*space.size_ladder(3), thin):
        student = build(space, architecture)
        parity = verify(export_onnx(student, PICTURES), student, example_of(PICTURES, 8))
        assert parity.max_abs_difference <= 1e-5


def test_networks_without_large_linear_layers_have_no_ranks() -> None:
    for name, (_, shape) in NETWORKS.items():
        space = DerivedSpace(network_of(name), example_of(shape))
        large = {"vgg": ["rank_4"], "vit, large linear layers": ["rank_1", "rank_2", "rank_3"]}
        assert [cut.name for cut in space.cuts if cut.layers] == large.get(name, [])


def test_layers_that_cost_little_keep_their_rank() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 256, 5, 1, 2), nn.AdaptiveAvgPool2d(4)
            self.more = nn.Conv2d(256, 64, 4)
            self.last, self.head = nn.Linear(64, 64), nn.Linear(64, N_CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.more(self.pool(torch.relu(self.conv(x)))).flatten(1)
            return self.head(torch.relu(self.last(x)))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    space = DerivedSpace(trained_like(Small()), example_of(PICTURES))
    assert all(cut.groups for cut in space.cuts)


def test_ranks_without_effect_are_one_architecture() -> None:
    space = DerivedSpace(perceptron(), samples())
    narrow = dict.fromkeys([cut.name for cut in space.cuts if cut.groups], 1)
    assert len({largest(space, **narrow, rank_1=n) for n in range(1, 9)}) == 1
    assert len({largest(space, rank_1=n) for n in range(1, 9)}) == 8


def test_students_are_counted_as_if_ranks_were_of_layers_that_are_not_narrowed() -> None:
    space = DerivedSpace(network_of("vgg"), example_of(PICTURES))
    names = [d.name for d in space.dimensions]
    every = itertools.product(*(d.values for d in space.dimensions))
    found = len({space.canonical(dict(zip(names, values, strict=True))) for values in every})
    assert found <= space.cardinality() == 8 * space.of_whole_layers().cardinality()


def test_weights_are_found_in_the_whole_network_again() -> None:
    space = DerivedSpace(perceptron(), samples())
    whole, thin = build(space, largest(space)), build(space, largest(space, width_1=6, **ranks(space, 4)))
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.mul_(3)
    before = product(thin, "second")
    inherited = cut_weights(whole.state_dict(), thin)
    thin.load_state_dict(inherited)
    torch.testing.assert_close(product(thin, "second"), 3 * before, rtol=1e-4, atol=1e-5)
    assert is_subnetwork(thin.state_dict(), thin)
    thinner = build(space, largest(space, width_1=6, **ranks(space, 2)))
    assert not is_subnetwork(thin.state_dict(), thinner)
    wrapped = nn.Sequential(thin)
    assert set(cut_weights(nn.Sequential(whole).state_dict(), wrapped)) == set(wrapped.state_dict())


def test_shared_weights_learn_through_both_factors() -> None:
    space = DerivedSpace(perceptron(), samples())
    smallest, whole, thin = (*space.size_ladder(2), largest(space, **ranks(space, 4)))
    elastic = Supernet(lambda a: build(space, a), whole, smallest)
    with elastic.as_subnet(thin):
        torch.testing.assert_close(elastic(samples()), build(space, thin)(samples()), rtol=1e-4, atol=1e-5)
        elastic(samples()).square().sum().backward()
    learned = elastic.weights.get_parameter("second.weight").grad
    assert learned is not None
    assert float(learned.abs().sum()) > 0


class Reader(nn.Module):
    """A weight that another module reads, one that is used twice, and one with a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.free = nn.Linear(80, 80), nn.Linear(80, 80)
        self.one, self.other = nn.Linear(80, 80), nn.Linear(80, 80)
        self.other.weight = self.one.weight
        self.head = nn.Linear(80, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(nn.functional.linear(self.read(x), self.read.weight))
        return self.head(self.other(torch.relu(self.one(torch.relu(self.free(x))))))  # type: ignore[no-any-return]


def test_layers_that_cannot_become_two_stay_with_a_reason() -> None:
    torch.manual_seed(0)
    space = DerivedSpace(trained_like(Reader()), samples())
    assert space.large_layers == ("free",)
    assert "fails" in space.frozen["rank of read"]
    assert "several places" in space.frozen["rank of one"]


def test_layers_stay_whole_where_no_ranks_are_wanted() -> None:
    space = DerivedSpace(perceptron(), samples(), ranks=False)
    assert [cut.name for cut in space.cuts if cut.layers] == []
    assert space.large_layers == ("first", "second")
    fresh = DerivedSpace(perceptron(), samples(), starts=("fresh",))
    assert not torch.equal(build(fresh, largest(fresh))(samples()), perceptron()(samples()))
    whole = fresh.of_whole_layers()
    assert [cut.name for cut in whole.cuts] == [cut.name for cut in space.cuts]
    assert torch.equal(build(whole, largest(whole))(samples()), perceptron()(samples()))
    assert any(cut.layers for cut in fresh.cuts)


def test_a_network_whose_ranks_alone_can_be_chosen() -> None:
    network = nn.Sequential(nn.Linear(80, 100))
    torch.manual_seed(0)
    space = DerivedSpace(trained_like(network), samples())
    assert [cut.name for cut in space.cuts] == ["rank_1"]
    with pytest.raises(InputError, match="too small"):
        space.of_whole_layers()


def test_contract_of_spaces() -> None:
    space = DerivedSpace(network_of("vgg"), example_of(PICTURES), starts=("fresh",))
    assert any(cut.layers for cut in space.cuts)
    check_space(space, input_shapes=(PICTURES,), n_classes=N_CLASSES, nested=False)
