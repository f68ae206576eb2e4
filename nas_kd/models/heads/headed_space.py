"""A search space of whole networks for a task: backbones of another space behind a head, both of them searched."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.grid import GridSpace
from nas_kd.models.heads.base import Head, HeadInputs, MapShape, load_head
from nas_kd.results.candidate import Architecture
from nas_kd.tasks.base import Task
from nas_kd.user_code import unchanged_settings

Space = TypeVar("Space")
PREFIX = "head_"  # of the head's dimensions
JOIN = "+"  # between the names of the two
_SIDE = 64  # of pictures where none are given


class Headed(nn.Module):
    """A backbone and a head.

    Attributes:
        backbone: (B, C, H, W) -> maps of its stages.
        head: these maps -> what the task asks for.
        feature_paths: of the modules where methods read features: the stages, and what the head names.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, n_stages: int) -> None:
        """Join the two."""
        super().__init__()
        self.backbone, self.head = backbone, head
        own = getattr(head, "feature_paths", ())
        stages = [f"backbone.stages.{i}" for i in range(n_stages)]
        self.feature_paths = (*stages, *(f"head.{path}" for path in own))

    def forward(self, x: Tensor) -> Tensor:
        """Run both on x (B, C, H, W)."""
        return self.head(self.backbone(x))  # type: ignore[no-any-return]


class HeadedSpace(GridSpace):
    """Backbones of a space of convolutional networks, each behind one of the sizes of a head.

    Dimensions, ladder of sizes and the order of weights are those of any space, so that whatever works on spaces works
    on this one.

    Attributes:
        backbone: the space of backbones.
        head: the head.

    Examples:
        >>> from nas_kd.models.search_space import load_space
        >>> space = load_space("resnet+pyramid")
        >>> [d.name for d in space.dimensions if d.name.startswith("head_")]
        ['head_width', 'head_depth', 'head_finest']
        >>> space.build(space.size_ladder(2)[0], (3, 32, 32), 5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5, 16, 16])
    """

    def __init__(self, backbone: GridSpace, head: Head) -> None:
        """Put a head behind the backbones of a space.

        Raises:
            InputError: networks of the space have no stages of maps.
        """
        if not has_stages(backbone):
            raise InputError(
                f"space {backbone.name!r}: its networks have no stages of maps, so that no head can stand behind them"
            )
        self.backbone, self.head = backbone, head
        self.name = f"{backbone.name}{JOIN}{head.name}"
        self.summary = f"{backbone.name} behind a head: {head.summary}"
        self.sides = backbone.sides
        self.elsewhere = None if backbone.elsewhere is None else f"{backbone.elsewhere}{JOIN}{head.name}"
        self._own = {PREFIX + d.name: d for d in head.dimensions}
        renamed = [d.renamed(name, PREFIX) for name, d in self._own.items()]
        super().__init__([*backbone.dimensions, *renamed])
        self._maps: dict[tuple[Any, ...], tuple[MapShape, ...]] = {}

    @property
    def takes_stored_units(self) -> bool:
        """Whether its networks normalise samples on their own, as the backbones do."""
        return bool(getattr(self.backbone, "takes_stored_units", False))

    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        """Make the architecture of `choices`, those of the backbone as its space has them."""
        of_backbone = self.backbone.canonical({d.name: choices[d.name] for d in self.backbone.dimensions})
        return Architecture(self.name, {**super().canonical(choices).choices, **of_backbone.choices})

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Build the network for pictures of 64 by 64 pixels; see `build` for others."""
        return self._joined(choices, (channels, _SIDE, _SIDE), n_classes)

    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Build a freshly initialised network: normalised (B, *input_shape) -> what the head returns.

        Raises:
            InputError: see `GridSpace.build`.
        """
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise InputError(f"space {self.name!r} needs images (C, H, W); the data has shape {input_shape}")
        self.check_size(input_shape)
        return self._joined(self.checked(architecture), input_shape, n_classes)

    def _joined(self, choices: Mapping[str, int], shape: tuple[int, ...], n_classes: int) -> nn.Module:
        inner = {d.name: choices[d.name] for d in self.backbone.dimensions}
        backbone = self.backbone.network(inner, shape[0], n_classes).backbone()  # type: ignore[operator]
        maps = self._shapes(backbone, inner, shape)
        size, own = (shape[1], shape[2]), self._choices_of_head(choices)
        return Headed(backbone, self.head.module(own, HeadInputs(maps, size, n_classes)), len(maps))

    def _shapes(self, backbone: nn.Module, choices: Mapping[str, int], shape: tuple[int, ...]) -> tuple[MapShape, ...]:
        """Shapes of a backbone's maps for a sample of this shape; found by one run."""
        key = (tuple(choices.items()), shape)
        if key not in self._maps:
            was_training = backbone.training
            with torch.no_grad():
                maps = backbone.eval()(torch.zeros(1, *shape))
            backbone.train(was_training)
            self._maps[key] = tuple(MapShape(*map(int, m.shape[1:])) for m in maps)
        return self._maps[key]

    def _choices_of_head(self, choices: Mapping[str, int]) -> dict[str, int]:
        return {d.name: choices[name] for name, d in self._own.items()}

    def describe(self, architecture: Architecture) -> str:
        """Describe backbone and head: `3 stages, 16-24-48 wide, 5 blocks, ..., head 32-1`."""
        choices = self.checked(architecture)
        inner = self.backbone.canonical({d.name: choices[d.name] for d in self.backbone.dimensions})
        return f"{self.backbone.describe(inner)}, {self.head.describe(self._choices_of_head(choices))}"


def has_stages(space: GridSpace) -> bool:
    """Whether networks of a space have stages of maps that a head can read: a method `backbone`, as `ConvNet` has."""
    try:
        with unchanged_settings(), torch.random.fork_rng(devices=[]):
            network = space.network({d.name: d.low for d in space.dimensions}, 3, 2)
    except (Exception, SystemExit):  # a user's network may raise anything; the run meets it again where it matters
        return False
    return callable(getattr(network, "backbone", None))


def with_head(space: Space, task: Task) -> Space | HeadedSpace:
    """The space of networks for a task: behind the task's usual head where it needs one and the space brings none.

    A space whose networks have no stages is taken to return what the task asks for; whether it does is checked where
    networks are built.

    Args:
        space: as the config names it.
        task: of the data.

    Raises:
        InputError: it ends in a head for another task.
    """
    if isinstance(space, HeadedSpace):
        if space.head.name not in task.heads:
            there = f"heads for {task.title}: {', '.join(task.heads)}" if task.heads else f"{task.title} needs none"
            raise InputError(f"space {space.name!r} ends in head {space.head.name!r}; {there}")
        return space
    if not task.heads or not isinstance(space, GridSpace) or not has_stages(space):
        return space
    return HeadedSpace(space, load_head(task.heads[0]))
