"""Pretrained weights that the networks of a space start from, as far as names and shapes fit (`space.weights`)."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nas_kd.config.options import SpaceOptions
from nas_kd.errors import InputError
from nas_kd.kd.weights_file import read_weights_file
from nas_kd.models.subnetwork import weight_slice
from nas_kd.serialization import sha256

SHOWN = 3  # names in a note
PROBED_NAMES = 8  # of a network, by which the prefix of names in the file is found


class Started(NamedTuple):
    """What of a network starts from pretrained weights."""

    tensors: int
    random: tuple[str, ...]  # names of those that stay as they were


@dataclass(frozen=True)
class PretrainedStart:
    """Weights of a trained network of a space, usually a large one.

    Attributes:
        space: name of the space whose networks start from them.
        file: name of the file, for people.
        key: sha256 (hex) of the file.
        tensors: by their names in the file.
    """

    space: str
    file: str
    key: str
    tensors: Mapping[str, Tensor]

    @staticmethod
    def of(options: SpaceOptions, space: str) -> "PretrainedStart | None":
        """Read the file that the options of `[space]` name; None if they name none.

        Args:
            options: of the section.
            space: name of the space that they are about.

        Raises:
            InputError: there is no such file, or it is not a safetensors file.
        """
        if options.weights is None:
            return None
        tensors = read_weights_file(options.weights, "space.weights")
        return PretrainedStart(space, options.weights.name, sha256(options.weights.read_bytes()), tensors)

    def give_to(self, network: nn.Module, head: Collection[str]) -> Started:
        """Copy what fits into a network: leading channels, leading blocks, the centre of kernels.

        Args:
            network: of the space, as it was built; changed in place.
            head: names of its tensors whose shapes depend on the number of classes: they need as many in the file.
        """
        targets = {name: t for name, t in network.state_dict().items() if isinstance(t, Tensor)}
        prefix, left = self._prefix(targets), list[str]()
        with torch.no_grad():
            for name, target in targets.items():
                part = self._part(prefix + name, target, same_classes=name in head)
                if part is None:
                    left.append(name)
                elif not target.is_meta:
                    target.copy_(part)
        return Started(len(targets), tuple(left))

    def _prefix(self, targets: Mapping[str, Tensor]) -> str:
        """What stands before the network's names in the file, such as `body.` in one that nas-kd wrote."""
        probed = list(islice(targets, PROBED_NAMES))
        found = {given[: len(given) - len(name)] for name in probed for given in self.tensors if _ends(given, name)}
        return max(sorted(found), key=lambda p: sum(p + name in self.tensors for name in targets), default="")

    def _part(self, name: str, target: Tensor, *, same_classes: bool) -> Tensor | None:
        given = self.tensors.get(name)
        if given is None or given.is_floating_point() != target.is_floating_point():
            return None
        if same_classes and given.shape[:1] != target.shape[:1]:
            return None
        try:
            return weight_slice(self.tensors, name, target.shape)
        except InputError:
            return None


def _ends(given: str, name: str) -> bool:
    return given == name or given.endswith(f".{name}")


def class_tensors(one: nn.Module, other: nn.Module) -> frozenset[str]:
    """Names of tensors whose shapes depend on the number of classes.

    Args:
        one: a network.
        other: the same for another number of classes.
    """
    shapes = [{n: t.shape for n, t in net.state_dict().items() if isinstance(t, Tensor)} for net in (one, other)]
    return frozenset(name for name, shape in shapes[0].items() if shapes[1].get(name) != shape)


def describe_start(start: PretrainedStart, networks: Iterable[tuple[str, Started]]) -> str:
    """Say what networks start from, and what of them does not.

    Args:
        start: the weights.
        networks: some of the space, as (which it is, what of it starts from them).

    Raises:
        InputError: nothing of any of them does.
    """
    parts, fitting = [], 0
    for which, (tensors, random) in networks:
        fitting += tensors - len(random)
        shown = ", ".join(random[:SHOWN]) + (", ..." if len(random) > SHOWN else "")
        rest = f", all but {len(random)} ({shown}), which stay random" if random else ""
        parts.append(f"the {tensors} tensors of {which}{rest}")
    if not fitting:
        raise InputError(
            f"space.weights: {start.file}: none of its {len(start.tensors)} tensors ({_some(start.tensors)}) has the "
            f"name and at least the size of one of space {start.space!r}; give weights of a network of this space"
        )
    return f"networks of space {start.space!r} start from {start.file}: {'; '.join(parts)}"


def start_facts(options: SpaceOptions) -> dict[str, str]:
    """What results depend on of the options, for keys: nothing where networks start at random.

    Args:
        options: of the section.
    """
    return {} if options.weights is None else {"start": sha256(options.weights.read_bytes())}


def _some(names: Iterable[str]) -> str:
    return ", ".join([*islice(names, SHOWN), "..."])
