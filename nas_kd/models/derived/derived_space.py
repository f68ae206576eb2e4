"""The search space of a network's own smaller versions: narrower, with fewer heads and blocks, of lower rank."""

from collections.abc import Iterable, Mapping
from copy import copy, deepcopy
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.derived.cutting import Cutter
from nas_kd.models.derived.derive import derive
from nas_kd.models.derived.dimensions import CutDimension, dimensions_of
from nas_kd.models.derived.fresh import fresh_weights
from nas_kd.models.derived.shares import FULL, rank_of, width_of
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.results.candidate import Architecture
from nas_kd.serialization import fingerprint, sha256

FLAT = 2  # axes of logits (B, C)
FRESH = "fresh"  # the choice between inherited weights (0) and random ones (1)
STARTS = ("inherited", "fresh")


class DerivedSpace(GridSpace):
    """A space made of a trained network: each student is a part of it, with the weights of that part.

    Channels that must be cut together are found in the network's graph, ranked once by the size of their weights, and
    merged into dimensions by stage and role. Large linear layers may become two of a lower rank, by the singular values
    of what is kept of their weights. What cannot be cut is left as it is, see `frozen`.

    Attributes:
        cuts: what each dimension does, in the order of `dimensions`; the choice of a start comes after them.
        frozen: why groups of channels cannot be cut, by their first layer, and why linear layers stay one.
        input_shape: of one sample.
        n_classes: width of the logits (B, C); None where outputs have further sides.

    Examples:
        >>> import nas_kd, torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
        >>> space = nas_kd.DerivedSpace(net, torch.zeros(2, 3, 8, 8))
        >>> space.cardinality(), [space.describe(a) for a in space.size_ladder(2)]
        (4, ['width 4', 'width 16'])
    """

    name = "own"
    takes_stored_units = True
    summary = "networks cut out of the teacher's own: widths, heads, blocks and ranks of its stages"

    def __init__(
        self, network: nn.Module, example: Tensor, *, starts: tuple[str, ...] = STARTS[:1], ranks: bool = True
    ) -> None:
        """Derive the space of a network.

        Args:
            network: trained, of any kind; it is copied.
            example: (B, ...) samples as it takes them, two at least; more of them rank its blocks better.
            starts: the starts that students may have, of `STARTS`: several are a choice of the search.
            ranks: whether the rank of large linear layers is a choice; otherwise they stay as they are.

        Raises:
            InputError: the network cannot be run on the example, traced, or cut anywhere.
        """
        self._derived = derive(network, example)
        self._ranked_by: str | None = None
        self._cutter = self._derived.cutter
        with torch.no_grad():
            outputs = self._cutter.model(example[:2])
        self.n_classes = int(outputs.shape[1]) if outputs.dim() == FLAT else None
        self.input_shape = tuple(example.shape[1:])
        self.frozen = {group.root: group.frozen for group in self._cutter.groups if group.frozen}
        self.frozen |= {f"rank of {x.path}": x.fixed for x in self._derived.large_layers if x.fixed}
        self._offer(starts, ranks=ranks)

    def _offer(self, starts: tuple[str, ...], *, ranks: bool) -> None:
        self.cuts = dimensions_of(self._derived, ranks=ranks)
        if not self.cuts:
            raise InputError("the network is too small: nothing of it can be narrowed by a useful amount")
        self._starts = starts
        start = [Dimension(FRESH, 0, 1)] if len(starts) > 1 else []
        super().__init__([*map(self._dimension, self.cuts), *start])

    def of_whole_layers(self) -> "DerivedSpace":
        """The space of the same network in which linear layers stay one, and all weights are inherited."""
        other = copy(self)
        for cached in ("_growth_path", "identity"):
            vars(other).pop(cached, None)
        other._offer(STARTS[:1], ranks=False)
        return other

    @property
    def large_layers(self) -> tuple[str, ...]:
        """Paths of the linear layers whose rank can be a choice."""
        cuts = dimensions_of(self._derived)
        return tuple(path for cut in cuts for path in cut.layers)

    def _dimension(self, cut: CutDimension) -> Dimension:
        if cut.blocks:
            return Dimension(cut.name, cut.fewest, len(cut.blocks))
        return Dimension(cut.name, 1, FULL, log=not cut.layers)

    @cached_property
    def identity(self) -> list[Any]:
        """What students' initial weights depend on, beside their architecture and seed."""
        weights = self._weights_digest
        return [weights, list(self._starts), *([] if self._ranked_by in (None, weights) else [self._ranked_by])]

    @cached_property
    def _weights_digest(self) -> str:
        return fingerprint({name: _digest(tensor) for name, tensor in self._cutter.model.state_dict().items()})

    @property
    def inherits(self) -> bool:
        """Whether networks of the space may begin with the weights of the whole one."""
        return self._starts != ("fresh",)

    def with_weights(self, tensors: Mapping[str, Tensor]) -> "DerivedSpace":
        """The same space with other weights: architectures keep their meaning, as channels and blocks keep their ranks.

        Args:
            tensors: state dict of the whole network, by its names in the largest one that the space builds.
        """
        model = deepcopy(self._cutter.model)
        model.load_state_dict(dict(tensors))
        other = copy(self)
        for cached in ("identity", "_weights_digest"):
            other.__dict__.pop(cached, None)
        cutter = self._cutter
        other._cutter = Cutter(model, cutter.groups, cutter.ranks, list(cutter.blocks.values()))
        other._ranked_by = self._ranked_by or self._weights_digest
        return other

    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        """Make the architecture of `choices`, each share set to the smallest that gives the same network."""
        left_out, kept = self._left_out(choices), self._kept(choices)
        found = dict(choices)
        for cut in self.cuts:
            if cut.groups:
                found[cut.name] = self._same(cut.name, left_out)[choices[cut.name]]
            elif cut.layers:
                found[cut.name] = self._same_rank(cut, kept, left_out)[choices[cut.name]]
        return Architecture(self.name, {d.name: found[d.name] for d in self.dimensions})

    def _left_out(self, choices: Mapping[str, int]) -> tuple[str, ...]:
        """Paths of the blocks that are left out."""
        return tuple(path for cut in self.cuts for path in cut.blocks[: len(cut.blocks) - choices.get(cut.name, 0)])

    def _same(self, name: str, left_out: tuple[str, ...]) -> dict[int, int]:
        """For each share of a dimension of widths the smallest that gives the same network without these blocks."""
        (cut,) = (cut for cut in self.cuts if cut.name == name)
        gone = tuple(f"{path}." for path in left_out)
        groups = [self._cutter.groups[number] for number in cut.groups]
        there = [g for g in groups if not all(m.tensor.startswith(gone) for m in g.members)]
        smallest: dict[tuple[int, ...], int] = {}
        return {v: smallest.setdefault(tuple(width_of(g, v) for g in there), v) for v in range(1, FULL + 1)}

    def _same_rank(self, cut: CutDimension, kept: Mapping[int, int], left_out: tuple[str, ...]) -> dict[int, int]:
        """For each share of a dimension of ranks the smallest that gives the same network, cut to these widths."""
        sizes = self._sizes(cut, kept, left_out).values()
        smallest: dict[tuple[int | None, ...], int] = {}
        return {v: smallest.setdefault(tuple(rank_of(*size, v) for size in sizes), v) for v in range(1, FULL + 1)}

    def _sizes(
        self, cut: CutDimension, kept: Mapping[int, int], left_out: tuple[str, ...]
    ) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of the linear layers of a dimension that are there, by path."""
        weights = [f"{path}.weight" for path in _there(cut.layers, left_out)]
        return {n.removesuffix(".weight"): (s[0], s[1]) for n, s in self._cutter.shapes(weights, kept).items()}

    def cardinality(self) -> int:
        """Count the different students of the space; ranks as if each were one of layers that are not cut otherwise."""
        depths = [[(cut.name, n) for n in range(cut.fewest, len(cut.blocks) + 1)] for cut in self.cuts if cut.blocks]
        widths = [cut.name for cut in self.cuts if cut.groups]
        ranks = [cut for cut in self.cuts if cut.layers]
        total = 0
        for chosen in product(*depths):
            left_out = self._left_out(dict(chosen))
            of_widths = prod(len(set(self._same(name, left_out).values())) for name in widths)
            total += of_widths * prod(len(set(self._same_rank(cut, {}, left_out).values())) for cut in ranks)
        return total * (2 if len(self._starts) > 1 else 1)

    def _kept(self, choices: Mapping[str, int]) -> dict[int, int]:
        """Channels kept of each group that loses any."""
        widths = {n: width_of(self._cutter.groups[n], choices[cut.name]) for cut in self.cuts for n in cut.groups}
        return {n: width for n, width in widths.items() if width < self._cutter.groups[n].size}

    def _ranks(self, choices: Mapping[str, int]) -> dict[str, int]:
        """Ranks of the layers that become two, by their path."""
        left_out, kept, found = self._left_out(choices), self._kept(choices), dict[str, int]()
        for cut in self.cuts:
            for path, (outputs, inputs) in self._sizes(cut, kept, left_out).items():
                if (rank := rank_of(outputs, inputs, choices[cut.name])) is not None:
                    found[path] = rank
        return found

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Cut the network of validated choices, with inherited or fresh weights."""
        model = self._cutter.cut(self._kept(choices), self._left_out(choices), self._ranks(choices))
        model.requires_grad_(True)
        is_fresh = choices.get(FRESH, int(self._starts == ("fresh",)))
        return fresh_weights(model) if is_fresh else model

    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Cut a network: (B, *input_shape) as the whole one takes them -> logits (B, n_classes).

        Raises:
            InputError: the data are not those of the whole network, or the architecture is not one of this space.
        """
        if tuple(input_shape) != self.input_shape or self.n_classes not in (None, n_classes):
            raise InputError(
                f"space {self.name!r} is cut out of a network of {self.n_classes or n_classes} classes for samples of "
                f"shape {self.input_shape}; got {n_classes} classes, {tuple(input_shape)}"
            )
        return self.network(self.checked(architecture), input_shape[0], n_classes)

    def techniques(self, architecture: Architecture) -> tuple[str, ...]:
        """The techniques that a network is compressed by before it is trained; none if its weights are fresh."""
        choices = self.checked(architecture)
        if choices.get(FRESH, int(self._starts == ("fresh",))):
            return ()
        return ("pruning", *(["low rank"] if self._ranks(choices) else []))

    def describe(self, architecture: Architecture) -> str:
        """Describe it by its widest groups: `stream 16-24-48, inner 8-16-32, heads 2-2-2, 3 blocks left out`."""
        choices = self.checked(architecture)
        widths: dict[str, list[str]] = {}
        n_blocks, kept_blocks = 0, 0
        ranks = self._ranks(choices)
        for cut in self.cuts:
            role = cut.name.rpartition("_")[0]
            if cut.blocks:
                n_blocks, kept_blocks = n_blocks + len(cut.blocks), kept_blocks + choices[cut.name]
            elif cut.layers:
                highest = max((ranks[path] for path in cut.layers if path in ranks), default="full")
                widths.setdefault(role, []).append(str(highest))
            else:
                widest = max((self._cutter.groups[n] for n in cut.groups), key=lambda group: group.size)
                width = width_of(widest, choices[cut.name])
                widths.setdefault(role, []).append(str(width // widest.unit if role == "heads" else width))
        if not ranks:
            widths.pop("rank", None)
        parts = [f"{role} {'-'.join(sizes)}" for role, sizes in widths.items()]
        if kept_blocks < n_blocks:
            parts.append(f"{n_blocks - kept_blocks} block{'s' if n_blocks - kept_blocks > 1 else ''} left out")
        return ", ".join([*parts, *(["fresh weights"] if choices.get(FRESH) else [])])

    @cached_property
    def _growth_path(self) -> list[tuple[int, Architecture]]:
        """The path of sizes with inherited weights, where there is a choice."""
        path = super()._growth_path
        return [
            (n, Architecture(a.space, {**a.choices, FRESH: 0} if FRESH in a.choices else a.choices)) for n, a in path
        ]

    def _weights(self, choices: Mapping[str, int]) -> int:
        kept, ranks = self._kept(choices), self._ranks(choices)
        names = _there((name for name, _ in self._cutter.model.named_parameters()), self._left_out(choices))
        shapes = self._cutter.shapes(names, kept)
        matrices = {f"{path}.weight": rank for path, rank in ranks.items()}
        return max(1, sum(matrices[n] * sum(s) if n in matrices else prod(s) for n, s in shapes.items()))


def _there(paths: Iterable[str], left_out: tuple[str, ...]) -> tuple[str, ...]:
    """The paths that are not inside blocks that are left out."""
    gone = tuple(f"{path}." for path in left_out)
    return tuple(path for path in paths if not path.startswith(gone))


def _digest(tensor: Tensor) -> str:
    return sha256(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
