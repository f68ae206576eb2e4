"""Joins the channels on both sides of grouped convolutions, so that whole groups of a convolution are cut.

The g-th of G groups makes its outputs from its inputs alone. Where that group is left out, its inputs and outputs go
together; groups that are left keep their width (ResNeXt; depthwise convolutions with several outputs per channel).
"""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

import torch
from torch import Tensor

from nas_kd.models.derived.channel_groups import ChannelGroup, GroupedSide


def join_grouped(groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
    """Join groups of channels that grouped convolutions connect.

    Args:
        groups: as they were found between layers.

    Returns:
        The groups without `sides`: joined ones in the place of the first of them.
    """
    clusters: dict[int, list[int]] = {number: [number] for number in range(len(groups))}
    of_layer: dict[str, int] = {}
    for number, group in enumerate(groups):
        for side in group.sides:
            one, other = clusters[number], clusters[of_layer.setdefault(side.layer, number)]
            if one is not other:
                merged = sorted(one + other)
                clusters |= dict.fromkeys(merged, merged)
    return [_joined([groups[n] for n in cluster]) for number, cluster in clusters.items() if cluster[0] == number]


def _joined(parts: Sequence[ChannelGroup]) -> ChannelGroup:
    sides = [side for part in parts for side in part.sides]
    if not sides:
        return parts[0]
    units = gcd(*(side.groups for side in sides), *(part.size // part.unit for part in parts))
    base = min(parts, key=lambda part: part.size)
    unit = base.size // units
    frozen = next((part.frozen for part in parts if part.frozen), "") or _fault(parts, units)
    return replace(
        base,
        unit=unit,
        members=tuple(
            replace(member, channels=_channels(member.channels, part.size, base.size, unit))
            for part in parts
            for member in part.members
        ),
        producers=tuple(dict.fromkeys(path for part in parts for path in part.producers)),
        attention=tuple(dict.fromkeys(path for part in parts for path in part.attention)),
        frozen=frozen,
        sides=(),
    )


def _channels(channels: Tensor, size: int, new_size: int, unit: int) -> Tensor:
    """Channels of a part as those of the joined group: themselves, or the first one of their unit."""
    return channels if size == new_size else channels * (new_size // unit) // size * unit


def _fault(parts: Sequence[ChannelGroup], units: int) -> str:
    """Why whole groups of the convolutions cannot be cut, in a few words; empty: they can."""
    seen: dict[str, set[bool]] = {}
    for part in parts:
        for side in part.sides:
            seen.setdefault(side.layer, set()).add(side.makes)
            if not _in_order(side, part.size, units):
                return f"the groups of {side.layer} are mixed with others"
    unfollowed = [layer for layer, sides in seen.items() if len(sides) < 2]
    return f"the groups of {unfollowed[0]} read what cannot be cut" if unfollowed else ""


def _in_order(side: GroupedSide, size: int, units: int) -> bool:
    """Whether the places of a side are as many blocks as there are units, in the order of the channels' units."""
    blocks = side.positions * units // len(side.positions)
    return side.whole and torch.equal(blocks, side.channels * units // size)
