"""Search spaces of whole-number choices: drawing, checking, counting and the ladder of sizes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from optuna.trial import BaseTrial
from torch import nn

from nas_kd.errors import InputError, unknown
from nas_kd.results.candidate import Architecture

IMAGE_AXES = 3
_REFERENCE = ((3, 32, 32), 10)  # input shape and classes with which the ladder counts weights
_LISTED = 6  # up to so many allowed values are spelt out in a message


@dataclass(frozen=True)
class Dimension:
    """One choice: `low`, `low + step`, ..., `high`.

    `log`: drawn on a log scale, as widths should be. `needs`: without effect where the dimension of that name is 0.
    `falling`: the smallest and fastest network has `high` (a stride).
    """

    name: str
    low: int
    high: int
    step: int = 1
    log: bool = False
    needs: str | None = None
    falling: bool = False

    @property
    def values(self) -> tuple[int, ...]:
        """All values, ascending."""
        return tuple(range(self.low, self.high + 1, self.step))

    @property
    def description(self) -> str:
        """The values, for a message."""
        if len(self.values) <= _LISTED:
            return ", ".join(map(str, self.values))
        return f"{self.low} to {self.high} in steps of {self.step}"

    def suggest(self, trial: BaseTrial, prefix: str) -> int:
        """One value; a draw on a log scale is rounded to the nearest."""
        if not self.log:
            return trial.suggest_int(prefix + self.name, self.low, self.high, step=self.step)
        drawn = trial.suggest_int(prefix + self.name, self.low, self.high, log=True)
        return min(self.values, key=lambda value: abs(value - drawn))

    def growth(self) -> list[tuple[float, int]]:
        """(share of the way from the smallest to the largest network, value taken from there on), in order."""
        values = self.values[::-1] if self.falling else self.values
        places = [math.log(v) if self.log else float(v) for v in values]
        length = places[-1] - places[0]
        pairs = zip(pairwise(places), values[1:], strict=True)
        return [(((before + after) / 2 - places[0]) / length, value) for (before, after), value in pairs]


class GridSpace(ABC):
    """A search space over images whose choices are `Dimension`s; a space of its own adds `network` and `describe`."""

    name: str
    summary: str

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self.dimensions = tuple(dimensions)

    @abstractmethod
    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """The network for checked choices: (B, channels, H, W) -> (B, n_classes)."""

    @abstractmethod
    def describe(self, architecture: Architecture) -> str:
        """In words."""

    def suggest(self, trial: BaseTrial, prefix: str = "") -> Architecture:
        """Draw an architecture, in canonical form; always the same Optuna parameters with the same ranges."""
        return self.canonical({d.name: d.suggest(trial, prefix) for d in self.dimensions})

    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        """The architecture of `choices`; those without effect are set to their first value."""
        unused = {d.name for d in self.dimensions if d.needs is not None and choices[d.needs] == 0}
        return Architecture(
            self.name, {d.name: d.low if d.name in unused else choices[d.name] for d in self.dimensions}
        )

    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """The network, freshly initialised: (B, *input_shape) normalised -> (B, n_classes) logits.

        Raises:
            InputError: `input_shape` is not (C, H, W), or the architecture is not one of this space.
        """
        if len(input_shape) != IMAGE_AXES or min(input_shape) < 1:
            raise InputError(f"space {self.name!r} needs images (C, H, W); the data has shape {input_shape}")
        return self.network(self.checked(architecture), input_shape[0], n_classes)

    def checked(self, architecture: Architecture) -> dict[str, int]:
        """The architecture's choices.

        Raises:
            InputError: it belongs to another space, or a choice is missing, unknown or out of range.
        """
        if architecture.space != self.name:
            raise InputError(f"an architecture of space {architecture.space!r} was given to space {self.name!r}")
        by_name = {d.name: d for d in self.dimensions}
        for given in architecture.choices:
            if given not in by_name:
                raise unknown(f"choice of space {self.name!r}", given, by_name)
        choices: dict[str, int] = {}
        for name, dimension in by_name.items():
            if name not in architecture.choices:
                raise InputError(f"space {self.name!r}: {name} is missing; allowed: {dimension.description}")
            value = architecture.choices[name]
            if type(value) is not int or value not in dimension.values:
                raise InputError(f"space {self.name!r}: {name} must be one of {dimension.description}; got {value!r}")
            choices[name] = value
        return choices

    def size_ladder(self, n: int) -> list[Architecture]:
        """`n` architectures, or as many as there are: smallest to largest, log-spaced in weights, strictly increasing.

        Raises:
            ValueError: `n` is below 2.
        """
        if n < 2:
            raise ValueError(f"a ladder of space {self.name!r} has at least 2 rungs, got {n}")
        path = self._path
        n = min(n, len(path))
        logs = [math.log(size) for size, _ in path]
        rungs = [0]
        for i in range(1, n):
            target = logs[0] + (logs[-1] - logs[0]) * i / (n - 1)
            rest = range(rungs[-1] + 1, len(path) - (n - 1 - i))
            rungs.append(min(rest, key=lambda j: abs(logs[j] - target)))
        return [path[j][1] for j in rungs]

    @cached_property
    def _path(self) -> list[tuple[int, Architecture]]:
        """(weights, architecture), growing one choice at a time, all of them at the same pace, sizes increasing."""
        choices = {d.name: d.high if d.falling else d.low for d in self.dimensions}
        steps = sorted((at, i, d.name, value) for i, d in enumerate(self.dimensions) for at, value in d.growth())
        by_size = {self._weights(choices): self.canonical(choices)}
        for _, _, name, value in steps:
            choices[name] = value
            by_size[self._weights(choices)] = self.canonical(choices)
        return sorted(by_size.items(), key=lambda item: item[0])

    def _weights(self, choices: Mapping[str, int]) -> int:
        shape, n_classes = _REFERENCE
        with torch.random.fork_rng(devices=[]):  # on the device "meta" it takes three times as long, and 1.5 s to begin
            return sum(p.numel() for p in self.build(self.canonical(choices), shape, n_classes).parameters())

    def cardinality(self) -> int:
        """How many different students: canonical architectures, counted exactly."""
        total = 1
        for dimension in self.dimensions:
            if dimension.needs is None:
                followers = math.prod(len(d.values) for d in self.dimensions if d.needs == dimension.name)
                total *= sum(followers if value else 1 for value in dimension.values)
        return total
