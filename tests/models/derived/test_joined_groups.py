"""Grouped convolutions, depthwise ones with multipliers and shared key heads: whole groups go, what stays is exact."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.derived import dependency_graph
from nas_kd.models.derived.derived_space import DerivedSpace
from tests.models.derived.networks import PICTURES, Multiplied, ResNeXt, example_of, network_of, trained_like
from tests.models.derived.transformers import N_CLASSES, GroupedQueryAttention, VisionTransformer


def space_of(network: nn.Module) -> DerivedSpace:
    return DerivedSpace(trained_like(network), example_of(PICTURES))


def sizes_of(space: DerivedSpace) -> Iterator[nn.Module]:
    for architecture in space.size_ladder(4):
        yield space.build(architecture, PICTURES, N_CLASSES).eval()


def rows(convolution: nn.Conv2d) -> set[tuple[float, ...]]:
    """The weights of each whole group of a convolution."""
    return {tuple(part.flatten().tolist()) for part in convolution.weight.detach().chunk(convolution.groups)}


def test_whole_groups_of_convolutions_go() -> None:
    torch.manual_seed(0)
    network = ResNeXt()
    space = space_of(network)
    assert set(space.frozen) == {"fc"}
    counts = []
    for smaller in sizes_of(space):
        for path in ("blocks.0.conv2", "blocks.3.conv2"):
            whole, part = network.get_submodule(path), smaller.get_submodule(path)
            assert isinstance(whole, nn.Conv2d)
            assert isinstance(part, nn.Conv2d)
            assert (part.out_channels // part.groups, part.in_channels // part.groups) == (4, 4)
            assert rows(part) <= rows(whole)
            counts.append(part.groups)
    assert (min(counts), max(counts)) == (1, 8)


def test_several_maps_of_a_channel_go_with_it() -> None:
    torch.manual_seed(0)
    space = space_of(Multiplied())
    assert set(space.frozen) == {"fc"}
    for smaller in sizes_of(space):
        depthwise, grouped = smaller.get_submodule("depthwise"), smaller.get_submodule("grouped")
        assert isinstance(depthwise, nn.Conv2d)
        assert isinstance(grouped, nn.Conv2d)
        assert depthwise.groups == depthwise.in_channels == depthwise.out_channels // 3
        assert grouped.in_channels // 4 == grouped.out_channels // 8 == grouped.groups
    assert "8x4 channels" in next(cut.description for cut in space.cuts if "pointwise" in cut.description)


@pytest.mark.parametrize("repeat", ["expand", "interleave", "torch's"])
def test_queries_go_with_the_keys_that_they_share(repeat: str) -> None:
    torch.manual_seed(0)
    network = trained_like(VisionTransformer(lambda dim, heads: GroupedQueryAttention(dim, heads, repeat)))
    space, x = DerivedSpace(network, example_of(PICTURES)), example_of(PICTURES)
    assert set(space.frozen) == {"head"}
    cutter, kept = space._cutter, dict[int, int]()
    for number, group in enumerate(cutter.groups):
        if group.attention:
            kept[number] = group.unit
            for member in group.members:
                if member.reads:  # by hand, in the network itself
                    gone = member.positions[cutter.ranks[number][member.channels] >= group.unit]
                    with torch.no_grad():
                        network.get_parameter(member.tensor).index_fill_(1, gone, 0.0)
    smaller = cutter.cut(kept)
    attention = smaller.get_submodule("blocks.0.attention")
    assert isinstance(attention, GroupedQueryAttention)
    assert (attention.num_heads, attention.num_key_value_heads, attention.num_key_value_groups) == (2, 1, 2)
    assert (attention.q_proj.out_features, attention.v_proj.out_features, attention.o_proj.in_features) == (16, 8, 16)
    with torch.no_grad():
        torch.testing.assert_close(smaller(x), network(x), rtol=1e-4, atol=1e-5)


def test_heads_without_a_number_are_told_by_their_width() -> None:
    class Nameless(GroupedQueryAttention):
        def __init__(self, dim: int, heads: int) -> None:
            super().__init__(dim, heads, "torch's", kv_heads=heads)
            del self.num_heads, self.num_key_value_heads

        def forward(self, x: Tensor) -> Tensor:
            n, t, _ = x.shape
            q, k, v = (
                layer(x).view(n, t, -1, self.head_dim).transpose(1, 2)
                for layer in (self.q_proj, self.k_proj, self.v_proj)
            )
            return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    space = space_of(VisionTransformer(Nameless))
    assert [cut.name for cut in space.cuts if "heads" in cut.name] == ["heads_1", "heads_2", "heads_3"]


class Grouped(nn.Module):
    """Grouped convolutions that read the samples, joined maps, and channels that change places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, 2, 1, groups=3)
        self.a, self.b = nn.Conv2d(24, 16, 1), nn.Conv2d(24, 16, 1)
        self.joined, self.plain = nn.Conv2d(32, 32, 3, 1, 1, groups=4), nn.Conv2d(32, 32, 1)
        self.shuffled, self.fc = nn.Conv2d(32, 32, 3, 1, 1, groups=4), nn.Linear(32, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = F.relu(self.plain(F.relu(self.joined(torch.cat([self.a(x), self.b(x)], 1)))))
        x = x.reshape(len(x), 4, -1, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return self.fc(F.relu(self.shuffled(x)).mean((2, 3)))  # type: ignore[no-any-return]


def test_groups_that_cannot_be_followed_stay_with_a_reason() -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError) as raised:
        DerivedSpace(trained_like(Grouped()), example_of(PICTURES))
    assert "shuffled: its channels are mixed" in str(raised.value)
    assert "the groups of joined are mixed with others" in str(raised.value)
    assert "the groups of first read what cannot be cut" in str(raised.value)


def test_groups_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph's library would follow some networks for hours."""
    monkeypatch.setattr(dependency_graph, "MOST_MEMBERS", 3)
    space = space_of(network_of("resnet"))
    assert {*space.frozen.values()} == {dependency_graph.ENTANGLED, "it gives the network's outputs"}
    assert all(cut.blocks for cut in space.cuts)
