"""Search spaces of whole-number choices: drawing, validating, counting, and a ladder of sizes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from optuna.trial import BaseTrial
from torch import nn

from nas_kd.errors import InputError, unknown
from nas_kd.results.candidate import Architecture
from nas_kd.user_code import describe_error, unchanged_settings

IMAGE_AXES = 3
_REFERENCE_SIDE, _REFERENCE_CLASSES = 32, 10  # of the networks whose weights the size ladder counts
_MAX_LISTED = 6  # allowed values in a message; above that only the range is given


@dataclass(frozen=True)
class Dimension:
    """One whole-number choice of a space: `low`, `low + step`, ..., `high`.

    Attributes:
        name: the choice's name, and the end of the Optuna parameter's.
        low: smallest value.
        high: largest value.
        step: distance between values.
        log: draw on a log scale, as suits widths.
        conditional_on: name of another dimension; where that one is 0, this one has no effect.
        decreases_size: the smallest and fastest network has `high`, not `low` (a stride).

    Examples:
        >>> import nas_kd
        >>> nas_kd.Dimension("width", 8, 32, step=8, log=True).values
        (8, 16, 24, 32)
    """

    name: str
    low: int
    high: int
    step: int = 1
    log: bool = False
    conditional_on: str | None = None
    decreases_size: bool = False

    @property
    def values(self) -> tuple[int, ...]:
        """All values of the dimension, ascending."""
        return tuple(range(self.low, self.high + 1, self.step))

    @property
    def description(self) -> str:
        """The allowed values, as text for a message."""
        if len(self.values) <= _MAX_LISTED:
            return ", ".join(map(str, self.values))
        return f"{self.low} to {self.high} in steps of {self.step}"

    def renamed(self, name: str, prefix: str) -> "Dimension":
        """Copy it under another name; what it depends on gets the prefix, too."""
        other = None if self.conditional_on is None else prefix + self.conditional_on
        return replace(self, name=name, conditional_on=other)

    def suggest(self, trial: BaseTrial, prefix: str) -> int:
        """Draw one value as the Optuna parameter `prefix + name`; on a log scale, rounded to the nearest value."""
        if not self.log:
            return trial.suggest_int(prefix + self.name, self.low, self.high, step=self.step)
        drawn = trial.suggest_int(prefix + self.name, self.low, self.high, log=True)
        return min(self.values, key=lambda value: abs(value - drawn))

    def growth(self) -> list[tuple[float, int]]:
        """Place the values on the way from the smallest to the largest network.

        Returns:
            (share 0..1 of the way, value from there on) for all values but the first, in order.
        """
        values = self.values[::-1] if self.decreases_size else self.values
        places = [math.log(v) if self.log else float(v) for v in values]
        length = places[-1] - places[0]
        pairs = zip(pairwise(places), values[1:], strict=True)
        return [(((before + after) / 2 - places[0]) / length, value) for (before, after), value in pairs]


class GridSpace(ABC):
    """A search space for images whose choices are `Dimension`s; subclasses define `network` and `describe`.

    Attributes:
        name: the name in configs.
        summary: one line for `nas-kd list spaces`.
        dimensions: in the order in which they are drawn.
        sides: least and largest shorter side, in pixels, of the images that it is for; None: no largest one.
        elsewhere: name of the space for images of other sizes, if there is one.

    Examples:
        >>> import nas_kd
        >>> from torch import nn
        >>> class Plain(nas_kd.GridSpace):
        ...     name, summary = "plain", "one convolution, of some width"
        ...     def network(self, choices, channels, n_classes):
        ...         layers = nn.Conv2d(channels, choices["width"], 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ...         return nn.Sequential(*layers, nn.Linear(choices["width"], n_classes))
        ...     def describe(self, architecture):
        ...         return "{width} wide".format(**self.checked(architecture))
        >>> space = Plain([nas_kd.Dimension("width", 8, 64, step=8)])
        >>> space.cardinality(), [space.describe(a) for a in space.size_ladder(3)]
        (8, ['8 wide', '24 wide', '64 wide'])
    """

    name: str
    summary: str
    sides: tuple[int, int | None] = (1, None)
    elsewhere: str | None = None

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        """Define the space by its dimensions, in the order in which they are drawn."""
        self.dimensions = tuple(dimensions)

    @abstractmethod
    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Build the network for validated choices.

        Args:
            choices: a value of every dimension.
            channels: channels of the images.
            n_classes: number of classes.

        Returns:
            A network (B, channels, H, W) -> logits (B, n_classes).
        """

    @abstractmethod
    def describe(self, architecture: Architecture) -> str:
        """Describe an architecture in a few words."""

    def suggest(self, trial: BaseTrial, prefix: str = "") -> Architecture:
        """Draw an architecture in canonical form, always from the same Optuna parameters and ranges."""
        return self.canonical({d.name: d.suggest(trial, prefix) for d in self.dimensions})

    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        """Make the architecture of `choices`, with choices without effect set to their first value."""
        unused = {d.name for d in self.dimensions if d.conditional_on is not None and choices[d.conditional_on] == 0}
        return Architecture(
            self.name, {d.name: d.low if d.name in unused else choices[d.name] for d in self.dimensions}
        )

    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Build a freshly initialised network: normalised (B, *input_shape) -> logits (B, n_classes).

        Raises:
            InputError: `input_shape` is not (C, H, W) or of another size than the space is for, or the architecture is
                not one of this space.
        """
        if len(input_shape) != IMAGE_AXES or min(input_shape) < 1:
            raise InputError(f"space {self.name!r} needs images (C, H, W); the data has shape {input_shape}")
        self.check_size(input_shape)
        return self.network(self.checked(architecture), input_shape[0], n_classes)

    def takes(self, input_shape: tuple[int, ...]) -> bool:
        """Whether the space is for images of this size, by their shorter side; samples of other kinds do not count."""
        if len(input_shape) != IMAGE_AXES:
            return True
        (least, most), side = self.sides, min(input_shape[1:])
        return least <= side and (most is None or side <= most)

    def check_size(self, input_shape: tuple[int, ...]) -> None:
        """Refuse images of a size that the space is not for.

        Args:
            input_shape: of one sample.

        Raises:
            InputError: it is for larger or smaller ones; names the space for these.
        """
        if self.takes(input_shape):
            return
        (least, most), (height, width) = self.sides, input_shape[1:]
        sizes = f"{least} pixels and more" if most is None else f"up to {most} pixels"
        other = "" if self.elsewhere is None else f"; use {self.elsewhere!r} in its place"
        raise InputError(f"space {self.name!r} is for images of {sizes}, these have {height}x{width}{other}")

    def checked(self, architecture: Architecture) -> dict[str, int]:
        """Validate an architecture and return its choices.

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
        """`n` architectures from smallest to largest, log-spaced in weights; fewer if the space has no more.

        Raises:
            ValueError: `n` is below 2.
        """
        if n < 2:
            raise ValueError(f"a ladder of space {self.name!r} has at least 2 sizes, got {n}")
        path = self._growth_path
        n = min(n, len(path))
        logs = [math.log(size) for size, _ in path]
        places = [0]
        for i in range(1, n):
            target = logs[0] + (logs[-1] - logs[0]) * i / (n - 1)
            rest = range(places[-1] + 1, len(path) - (n - 1 - i))
            places.append(min(rest, key=lambda j: abs(logs[j] - target)))
        return [path[j][1] for j in places]

    @cached_property
    def _growth_path(self) -> list[tuple[int, Architecture]]:
        """(number of weights, architecture) by increasing size, on a path that raises one choice at a time.

        Members of the space that cannot be built are left out.

        Raises:
            InputError: none on the path can be built; says why the last one cannot.
        """
        choices = {d.name: d.high if d.decreases_size else d.low for d in self.dimensions}
        steps = sorted((at, i, d.name, value) for i, d in enumerate(self.dimensions) for at, value in d.growth())
        path = [dict(choices)]
        for _, _, name, value in steps:
            choices[name] = value
            path.append(dict(choices))
        by_size, reason = dict[int, Architecture](), ""
        for point in path:
            try:
                by_size[self._weights(point)] = self.canonical(point)
            except (Exception, SystemExit) as error:  # a user's `network` may raise anything for some choices
                reason = describe_error(error)
        if not by_size:
            raise InputError(f"space {self.name!r}: none of its networks can be built; the last one: {reason}")
        return sorted(by_size.items(), key=lambda item: item[0])

    def _weights(self, choices: Mapping[str, int]) -> int:
        side = max(_REFERENCE_SIDE, self.sides[0])
        with unchanged_settings():  # the "meta" device is three times slower, after a start of 1.5 s
            network = self.build(self.canonical(choices), (3, side, side), _REFERENCE_CLASSES)
        return max(1, sum(p.numel() for p in network.parameters()))

    def cardinality(self) -> int:
        """Count the canonical architectures of the space exactly."""
        total = 1
        for dimension in self.dimensions:
            if dimension.conditional_on is None:
                followers = math.prod(len(d.values) for d in self.dimensions if d.conditional_on == dimension.name)
                total *= sum(followers if value else 1 for value in dimension.values)
        return total
