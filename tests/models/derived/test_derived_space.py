"""Spaces that are made of a trained network: what is cut is right, what cannot be cut is frozen and said."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import verify
from nas_kd.models.derived.derived_space import FRESH, STARTS, DerivedSpace
from nas_kd.models.subnetwork import cut_weights
from nas_kd.models.supernet import Supernet
from nas_kd.results.candidate import Architecture
from nas_kd.testing import check_space
from tests.models.derived.networks import (
    NETWORKS,
    PICTURES,
    MobileNet,
    ResNet,
    Shuffled,
    ShuffleNet,
    example_of,
    network_of,
    trained_like,
)
from tests.models.derived.transformers import N_CLASSES, FusedAttention

ALL = pytest.mark.parametrize("name", NETWORKS)


def space_of(name: str, starts: tuple[str, ...] = STARTS[:1]) -> DerivedSpace:
    return DerivedSpace(network_of(name), example_of(NETWORKS[name][1]), starts=starts)


def build(space: DerivedSpace, architecture: Architecture) -> nn.Module:
    return space.build(architecture, space.input_shape, N_CLASSES)


def choices_of(architecture: Architecture) -> dict[str, int]:
    return {name: int(value) for name, value in architecture.choices.items()}


def run(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(x)  # type: ignore[no-any-return]


@ALL
def test_the_uncut_copy_is_the_network(name: str) -> None:
    space, x = space_of(name), example_of(NETWORKS[name][1])
    whole = build(space, space.size_ladder(2)[-1])
    difference = float((run(whole, x) - run(network_of(name), x)).abs().max())
    assert difference <= (1e-5 if "torch" in name or name == "text" else 0.0)  # fused attention rounds otherwise


@ALL
def test_every_size_runs_with_the_weights_that_were_counted(name: str) -> None:
    space, x = space_of(name), example_of(NETWORKS[name][1])
    sizes = []
    for architecture in space.size_ladder(5):
        network = build(space, architecture)
        assert run(network, x).shape == (len(x), N_CLASSES)
        sizes.append(sum(p.numel() for p in network.parameters()))
        assert sizes[-1] == space._weights(choices_of(architecture))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 4


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "text"])
def test_cuts_leave_as_verified_files_and_cost_little(name: str) -> None:
    space, shape = space_of(name), NETWORKS[name][1]
    costs = []
    for architecture in space.size_ladder(3):
        network = build(space, architecture).eval()
        verify(export_onnx(network, shape), network, example_of(shape, 8))
        costs.append(count_macs(network, shape))
    assert costs[0] <= costs[-1] / 2


@ALL
def test_a_cut_network_gives_what_the_whole_one_gives_without_those_channels(name: str) -> None:
    """By hand, in the network itself: layers that read a channel get zeros in its place."""
    space, x = space_of(name), example_of(NETWORKS[name][1])
    cutter = space._cutter
    inner = [
        (n, group)
        for n, group in enumerate(cutter.groups)
        if not group.frozen and not any("norm" in m.tensor and not m.reads for m in group.members)
    ]
    number, group = max(inner, key=lambda item: item[1].size)
    kept = group.size // 2 // group.unit * group.unit
    whole = build(space, space.size_ladder(2)[-1])
    tensors = dict(whole.named_parameters())
    rank = cutter.ranks[number]
    with torch.no_grad():
        for member in group.members:
            if member.reads:
                gone = member.positions[rank[member.channels] >= kept]
                tensors[member.tensor].index_fill_(member.axis, gone, 0.0)
    torch.testing.assert_close(run(cutter.cut({number: kept}), x), run(whole, x), rtol=1e-4, atol=1e-4)


def test_the_most_important_channels_stay() -> None:
    network = network_of("vgg")
    first = network.get_submodule("features.0")
    assert isinstance(first, nn.Conv2d)
    second = network.get_submodule("features.3")
    assert isinstance(second, nn.Conv2d)
    with torch.no_grad():
        first.weight[5:7] *= 100
        second.weight[:, 5:7] *= 100
    space = DerivedSpace(network, example_of(PICTURES))
    smallest = build(space, space.size_ladder(2)[0]).get_submodule("features.0")
    assert isinstance(smallest, nn.Conv2d)
    for channel in (5, 6):
        assert any(torch.equal(first.weight[channel], row) for row in smallest.weight)


def test_smaller_networks_are_parts_of_larger_ones() -> None:
    space = space_of("resnet")
    small, large = (build(space, a) for a in space.size_ladder(3)[:2])
    for name, tensor in small.named_parameters():
        if name in dict(large.named_parameters()):
            assert set(tensor.flatten().tolist()) <= set(large.get_parameter(name).flatten().tolist())


def test_blocks_that_change_least_are_left_out_first() -> None:
    network = network_of("resnet")
    quiet = network.get_submodule("stages.0.1.bn2")
    assert isinstance(quiet, nn.BatchNorm2d)
    with torch.no_grad():
        quiet.weight.fill_(1e-3)
        quiet.bias.zero_()
    space = DerivedSpace(network, example_of(PICTURES))
    (depth,) = (cut for cut in space.cuts if cut.name == "depth_1")
    assert depth.blocks[0] == "stages.0.1"


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit, fused attention", "text"])
def test_dimensions_are_few_and_described(name: str) -> None:
    space = space_of(name)
    assert 5 <= len(space.cuts) <= 14
    assert all(cut.name in {d.name for d in space.dimensions} and cut.description for cut in space.cuts)
    assert len({cut.name for cut in space.cuts}) == len(space.cuts)
    assert space.cardinality() > 100


def test_squeezed_channels_are_no_stream() -> None:
    """The layer that excites channels weighs them; a stream is what layers add to."""
    cuts = {cut.name: cut for cut in space_of("mobilenet").cuts}
    roots = [space_of("mobilenet")._cutter.groups[n].root for n in cuts["stream_2"].groups]
    assert all("project" in root for root in roots)


def test_heads_go_as_a_whole() -> None:
    space = space_of("vit, fused attention")
    smallest = build(space, space.size_ladder(2)[0])
    attention = next(m for m in smallest.modules() if isinstance(m, FusedAttention))
    assert (attention.num_heads, attention.head_dim, attention.qkv.out_features) == (1, 8, 24)


def test_groups_that_the_graph_gets_wrong_are_frozen() -> None:
    torch.manual_seed(0)
    space = DerivedSpace(trained_like(Shuffled()), example_of(PICTURES))
    assert "mixed" in space.frozen["first"]
    assert "second" not in space.frozen
    torch.manual_seed(0)
    padded = DerivedSpace(trained_like(ResNet(padded=True)), example_of(PICTURES))
    assert "stem.0" in padded.frozen
    assert any(cut.name.startswith("width") for cut in padded.cuts)


def test_channels_that_are_split_and_joined_are_cut_where_this_is_right() -> None:
    torch.manual_seed(0)
    space = DerivedSpace(trained_like(ShuffleNet()), example_of(PICTURES))
    assert "fails" in space.frozen["units.11.body.2"]
    assert {"width_1", "depth_1"} <= {cut.name for cut in space.cuts}


def test_weights_inherited_fresh_or_either() -> None:
    fresh = space_of("resnet", starts=("fresh",))
    whole = fresh.size_ladder(2)[-1]
    torch.manual_seed(3)
    first = build(fresh, whole).get_parameter("fc.weight")
    assert not torch.equal(first, network_of("resnet").get_parameter("fc.weight"))
    torch.manual_seed(3)
    assert torch.equal(first, build(fresh, whole).get_parameter("fc.weight"))
    both = space_of("resnet", starts=STARTS)
    assert both.cardinality() == 2 * fresh.cardinality()
    assert all(a.choices[FRESH] == 0 for a in both.size_ladder(3))
    assert "fresh" in both.describe(Architecture("own", {**both.size_ladder(2)[0].choices, FRESH: 1}))


def test_identity_follows_the_weights() -> None:
    assert space_of("resnet").identity == space_of("resnet").identity
    other = network_of("resnet")
    with torch.no_grad():
        other.get_parameter("fc.bias")[0] += 1
    assert DerivedSpace(other, example_of(PICTURES)).identity != space_of("resnet").identity


def test_choices_that_change_nothing_are_one_architecture() -> None:
    space = space_of("resnet")
    largest = choices_of(space.size_ladder(2)[-1])
    values = [space.canonical(largest | {"inner_1": value}).choices["inner_1"] for value in range(1, 9)]
    assert len(set(values)) == 4  # of 16 channels in fours


@pytest.mark.parametrize("name", ["conv1d", "vgg"])
def test_students_are_counted(name: str) -> None:
    space = space_of(name).of_whole_layers()
    every = itertools.product(*(d.values for d in space.dimensions))
    names = [d.name for d in space.dimensions]
    assert space.cardinality() == len({space.canonical(dict(zip(names, v, strict=True))) for v in every})


def test_widths_inside_blocks_that_are_left_out_are_one_architecture() -> None:
    space = space_of("resnet")
    choices = choices_of(space.size_ladder(2)[-1]) | {"depth_1": 1}
    (depth,) = (cut for cut in space.cuts if cut.name == "depth_1")
    assert len(depth.blocks) == 2
    assert space.canonical(choices | {"inner_1": 8}) != space.canonical(choices | {"inner_1": 1})
    whole = math.prod(len(set(space._same(cut.name, ()).values())) for cut in space.cuts if cut.groups)
    assert space.cardinality() <= whole * math.prod(len(d.values) for d in space.dimensions if "depth" in d.name)


def test_weights_are_found_in_the_whole_network_again() -> None:
    """What once-for-all trains are the whole network's tensors; a part takes its own places of them."""
    space = space_of("mobilenet")
    smallest, _, largest = space.size_ladder(3)
    whole = build(space, largest)
    with torch.no_grad():
        for p in whole.parameters():
            p.add_(1)
    part = build(space, smallest)
    before = {name: p.clone() for name, p in part.named_parameters()}
    part.load_state_dict(cut_weights(whole.state_dict(), part))
    for name, parameter in part.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 1)


def test_a_supernet_of_the_own_space_learns_in_the_right_places() -> None:
    space = space_of("vit, fused attention")
    smallest, largest = space.size_ladder(2)
    elastic = Supernet(lambda a: build(space, a), largest, largest)
    x = example_of(PICTURES)
    with elastic.as_subnet(smallest):
        torch.testing.assert_close(elastic(x), run(build(space, smallest), x), rtol=1e-4, atol=1e-5)
        elastic(x).sum().backward()
    learned = elastic.weights.get_parameter("blocks.0.fc1.weight").grad
    assert learned is not None
    kept = build(space, smallest).get_submodule("blocks.0.fc1")
    assert isinstance(kept, nn.Linear)
    assert int((learned.abs().sum(1) > 0).sum()) <= kept.out_features


class Tied(nn.Module):
    """Two layers of one weight, behind layers that can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.back = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16)), nn.Linear(16, 4)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.second(self.first(self.front(x)).relu()))  # type: ignore[no-any-return]


def test_a_supernet_of_a_network_that_shares_a_tensor() -> None:
    torch.manual_seed(0)
    net, x = Tied().eval(), torch.rand(4, 8)
    space = DerivedSpace(net, x)
    smallest, largest = space.size_ladder(2)
    elastic = Supernet(lambda a: build(space, a), largest, smallest)
    torch.testing.assert_close(elastic(x), run(build(space, smallest), x))
    elastic(x).sum().backward()
    assert elastic.weights.get_parameter("first.weight") is elastic.weights.get_parameter("second.weight")
    assert elastic.weights.get_parameter("first.weight").grad is not None


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_other_weights_of_the_same_space(name: str) -> None:
    """Architectures keep their meaning: the same places are kept, although other channels are the largest now."""
    space = space_of(name)
    smallest, middle, largest = space.size_ladder(3)
    tensors = build(space, largest).state_dict()
    generator = torch.Generator().manual_seed(1)
    shuffled = {
        n: t[torch.randperm(len(t), generator=generator)] if t.dim() > 1 else t.clone() for n, t in tensors.items()
    }
    other = space.with_weights(shuffled)
    assert other.cardinality() == space.cardinality()
    assert other.size_ladder(3) == [smallest, middle, largest]
    for architecture in (smallest, middle):
        part = build(other, architecture)
        expected = cut_weights(shuffled, build(space, architecture))
        assert all(torch.equal(t, expected[n]) for n, t in part.state_dict().items())
    assert all(torch.equal(t, tensors[n]) for n, t in build(space, largest).state_dict().items())  # left as it was
    assert other.identity != space.identity
    assert other.identity[0] == other.with_weights(shuffled).identity[0]
    assert space.with_weights(tensors).identity == space.identity


@pytest.mark.parametrize("network", [ResNet, MobileNet])
def test_contract_of_spaces(network: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    space = DerivedSpace(trained_like(network()), example_of(PICTURES), starts=("fresh",))
    check_space(space, input_shapes=(PICTURES,), n_classes=N_CLASSES, nested=False)


class Branching(nn.Module):
    """Which layer runs depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 1e9 else self.b(x)  # type: ignore[no-any-return]


def test_what_cannot_be_cut_is_refused_in_one_line() -> None:
    tiny = nn.Sequential(nn.Linear(8, 2))
    cases = {"can be cut": (tiny, (8,)), "run on the example": (network_of("resnet"), (5, 16, 16))}
    for message, (network, shape) in cases.items():
        with pytest.raises(InputError, match=message) as raised:
            DerivedSpace(network, torch.rand(2, *shape))
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="cut"):
        DerivedSpace(Branching(), torch.rand(2, 8))


def test_other_data_are_refused() -> None:
    space = space_of("resnet")
    with pytest.raises(InputError, match="for samples of shape"):
        space.build(space.size_ladder(2)[0], (3, 32, 32), N_CLASSES)
