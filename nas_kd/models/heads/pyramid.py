"""A feature pyramid for masks (Lin et al. 2016, arXiv:1612.03144; for masks Kirillov et al. 2019, arXiv:1901.02446).

From the coarsest map to a fine one: each map is brought to one width by a 1x1 convolution, and what is coarser is added
to it at twice the resolution. 3x3 convolutions follow on the finest sum, which decides.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.models.blocks import ConvNorm
from nas_kd.models.grid import Dimension
from nas_kd.models.heads.base import Head, HeadInputs, finest, initialised


class Pyramid(Head):
    """Its width, its number of 3x3 convolutions, and the finest map that it reads."""

    name: ClassVar[str] = "pyramid"
    summary: ClassVar[str] = "masks from all maps, added up from the coarsest to a fine one (FPN)"
    dimensions: ClassVar[tuple[Dimension, ...]] = (
        Dimension("width", 8, 64, step=8, log=True),
        Dimension("depth", 1, 3),
        Dimension("finest", 1, 2, decreases_size=True),
    )

    def module(self, choices: Mapping[str, int], inputs: HeadInputs) -> nn.Module:
        """Build it: maps -> logits (B, n_classes, h, w), as fine as the finest map that it reads."""
        return PyramidLayers(choices["width"], choices["depth"], finest(choices, inputs.maps), inputs)

    def describe(self, choices: Mapping[str, int]) -> str:
        """Describe it by its width, depth and finest map: `head 32-2-1`."""
        return f"head {choices['width']}-{choices['depth']}-{choices['finest']}"


class PyramidLayers(nn.Module):
    """Layers of the head; see `Pyramid.module`."""

    feature_paths = ("blocks",)

    def __init__(self, width: int, depth: int, fine: int, inputs: HeadInputs) -> None:
        """Build the layers; `fine`: position of the finest map that is read."""
        super().__init__()
        maps, n_classes = inputs.maps, inputs.n_classes
        self._sizes = [shape[1:] for shape in maps]
        self._places = tuple(range(fine, len(maps)))
        self.laterals = nn.ModuleDict({str(i): ConvNorm(maps[i].channels, width, activate=False) for i in self._places})
        self.blocks = nn.Sequential(*(ConvNorm(width, width, 3) for _ in range(depth)))
        self.decide = nn.Conv2d(width, n_classes, 1)
        initialised(self, [self.decide])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decide from the maps of the stages: logits (B, n_classes, h, w)."""
        *finer, coarsest = self._places
        x: Tensor = self.laterals[str(coarsest)](maps[coarsest])
        for place in reversed(finer):
            lateral = self.laterals[str(place)](maps[place])
            same = tuple(x.shape[2:]) == tuple(self._sizes[place])
            x = lateral + (x if same else F.interpolate(x, self._sizes[place], mode="nearest"))
        logits: Tensor = self.decide(self.blocks(F.relu(x)))
        return logits


PLUGIN = Pyramid()
