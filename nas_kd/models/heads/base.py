"""The interface of heads: layers that turn a backbone's maps into what a task asks for. A file in this folder adds one.

A head has dimensions of its own, which the search opens beside the backbone's. Make smaller heads leading parts of
larger ones: add maps up where others put them side by side, so that channels keep their places.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import nn

from nas_kd.models.blocks import initialise
from nas_kd.models.grid import Dimension
from nas_kd.plugins import load

LAST_STD = 0.01  # of the initial weights of layers that decide


class MapShape(NamedTuple):
    """Shape of the map of a stage: channels, height and width."""

    channels: int
    height: int
    width: int


class HeadInputs(NamedTuple):
    """What a head is built for.

    Attributes:
        maps: of the backbone's stages, from the finest to the coarsest.
        size: height and width of the pictures, pixels.
        n_classes: number of classes.
    """

    maps: tuple[MapShape, ...]
    size: tuple[int, int]
    n_classes: int


class Head(ABC):
    """A head plug-in.

    Attributes:
        name: in the names of spaces, behind a plus: `resnet+pyramid`.
        summary: one line for `nas-kd list heads`.
        dimensions: its choices; a space has them with `head_` before their names.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    dimensions: ClassVar[tuple[Dimension, ...]]

    @abstractmethod
    def module(self, choices: Mapping[str, int], inputs: HeadInputs) -> nn.Module:
        """Build the layers, freshly initialised.

        Args:
            choices: a value of every dimension.
            inputs: maps that it reads, size of the pictures and number of classes.

        Returns:
            A module that takes the list of maps, (B, c, h, w) each, and returns the network's output. If it has
            `feature_paths`, methods read features at these of its modules, too, behind those of the stages.
        """

    @abstractmethod
    def describe(self, choices: Mapping[str, int]) -> str:
        """Describe it in a few words."""


def finest(choices: Mapping[str, int], maps: Sequence[MapShape]) -> int:
    """Position of the finest map that a head with a dimension `finest` reads: the first is 1, the last at most."""
    return min(choices["finest"], len(maps)) - 1


def initialised(module: nn.Module, last: Sequence[nn.Conv2d]) -> nn.Module:
    """Initialise a head's layers in place; those that decide, near zero. Returns it."""
    initialise(module)
    for layer in last:
        nn.init.normal_(layer.weight, std=LAST_STD)
    return module


def load_head(given: Any) -> Head:
    """Find a head by name.

    Raises:
        InputError: there is none of this name, or it is no head.
    """
    found = load("head", given)
    return load("head", found() if isinstance(found, type) else found, Head)  # type: ignore[type-abstract]
