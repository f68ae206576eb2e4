"""A one-stage head for boxes without anchor boxes, on a pyramid of maps (Tian et al. 2019, FCOS, arXiv:1904.01355).

A level of the pyramid for each grid of anchor points, the coarsest from the backbone's last map, the next from the one
before: brought to the grid and to one width by a 1x1 convolution, and what is coarser is added to it (Lin et al. 2016, arXiv:1612.03144). 3x3 convolutions of its own
follow on each level, and a 1x1 convolution that decides about classes and edges.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.models.blocks import ConvNorm
from nas_kd.models.grid import Dimension
from nas_kd.models.heads.base import Head, HeadInputs, MapShape, initialised
from nas_kd.models.heads.lraspp import resized
from nas_kd.results.boxes import REACH, SIDES
from nas_kd.tasks.boxes.anchors import grid_sizes

PRIOR = 0.01  # probability of each class at first (Lin et al. 2017, arXiv:1708.02002, section 3.3)
NEAR = 1.5  # cells from a point to each edge at first
Grid = tuple[int, int]  # rows and columns


class DetectionHead(Head):
    """Its width, and its number of 3x3 convolutions on each level."""

    name: ClassVar[str] = "detection"
    summary: ClassVar[str] = "boxes at anchor points on a pyramid of two or three levels (FCOS)"
    dimensions: ClassVar[tuple[Dimension, ...]] = (
        Dimension("width", 8, 96, step=8, log=True),
        Dimension("depth", 1, 3),
    )

    def module(self, choices: Mapping[str, int], inputs: HeadInputs) -> nn.Module:
        """Build it: maps -> logits (B, A, n_classes + 4), see `nas_kd.tasks.detection`."""
        return DetectionLayers(choices["width"], choices["depth"], inputs)

    def describe(self, choices: Mapping[str, int]) -> str:
        """Describe it: `head 32 wide, 2 deep`."""
        return f"head {choices['width']} wide, {choices['depth']} deep"


class DetectionLayers(nn.Module):
    """Layers of the head.

    Attributes:
        feature_paths: of the levels, where methods read features.
    """

    def __init__(self, width: int, depth: int, inputs: HeadInputs) -> None:
        """Build the layers: `width` channels of each level, and `depth` 3x3 convolutions on it."""
        super().__init__()
        maps, size, n_classes = inputs
        self._grids = grid_sizes(*size)
        self._sources = [max(0, len(maps) - n) for n in range(len(self._grids), 0, -1)]
        self.feature_paths = tuple(f"levels.{level}" for level in range(len(self._grids)))
        self._laterals = [f"{source}_{level}" for level, source in enumerate(self._sources)]
        self.laterals = nn.ModuleDict(
            {
                name: ConvNorm(maps[source].channels, width, activate=False)
                for name, source in zip(self._laterals, self._sources, strict=True)
            }
        )
        self.levels = nn.ModuleList(nn.ReLU() for _ in self._grids)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ConvNorm(width, width, 3) for _ in range(depth))) for _ in self._grids
        )
        decide = [nn.Conv2d(width, n_classes + SIDES, 1, bias=True) for _ in self._grids]
        self.decide = nn.ModuleList(decide)
        initialised(self, decide)
        at_first = [math.log(share / (1 - share)) for share in (PRIOR, NEAR / REACH)]
        biases = torch.tensor(at_first).repeat_interleave(torch.tensor([n_classes, SIDES]))
        for layer in decide:
            layer.bias = nn.Parameter(biases.clone())

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decide from the maps of the stages: logits (B, A, n_classes + 4)."""
        found, coarser = list[Tensor](), None
        for level in reversed(range(len(self._grids))):
            grid = self._grids[level]
            x = self.laterals[self._laterals[level]](on_grid(maps[self._sources[level]], grid))
            coarser = x if coarser is None else x + F.interpolate(coarser, grid, mode="nearest")
            decided = self.decide[level](self.blocks[level](self.levels[level](coarser)))
            found.append(decided.flatten(2).transpose(1, 2))
        return torch.cat(found[::-1], dim=1)


def on_grid(x: Tensor, grid: Grid) -> Tensor:
    """Bring a map (B, c, h, w) to a grid: means of cells where it is a multiple of it, else bilinearly."""
    height, width = x.shape[2:]
    if height % grid[0] == 0 and width % grid[1] == 0:
        cell = height // grid[0], width // grid[1]
        return x if cell == (1, 1) else F.avg_pool2d(x, cell)
    return resized(x, grid)


PLUGIN = DetectionHead()
