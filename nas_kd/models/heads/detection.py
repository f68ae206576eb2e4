"""A one-stage head for boxes without anchor boxes, on a pyramid of maps (Tian et al. 2019, FCOS, arXiv:1904.01355).

A level of the pyramid for each grid of anchor points, the coarsest from the backbone's last map, the others from finer
ones: brought to the grid, and to one width by a 1x1 convolution; what is coarser is added to it (Lin et al. 2016,
arXiv:1612.03144). 3x3 convolutions of its own follow on each level, and a 1x1 convolution that decides about classes
and edges.
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
from nas_kd.results.boxes import REACH, SIDES
from nas_kd.tasks.boxes.anchors import grid_sizes, pyramid_strides

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
        self._sources = _sources(len(maps), pyramid_strides(*size))
        self.feature_paths = tuple(f"levels.{level}" for level in range(len(self._grids)))
        self.on_grid = nn.ModuleList(OnGrid(maps[i], g) for i, g in zip(self._sources, self._grids, strict=True))
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
        biases = torch.tensor([at_first[0]] * n_classes + [at_first[1]] * SIDES)
        for layer in decide:
            layer.bias = nn.Parameter(biases.clone())

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decide from the maps of the stages: logits (B, A, n_classes + 4)."""
        found, coarser = list[Tensor](), None
        for level in reversed(range(len(self._grids))):
            grid = self._grids[level]
            x = self.laterals[self._laterals[level]](self.on_grid[level](maps[self._sources[level]]))
            coarser = x if coarser is None else x + F.interpolate(coarser, grid, mode="nearest")
            decided = self.decide[level](self.blocks[level](self.levels[level](coarser)))
            found.append(decided.flatten(2).transpose(1, 2))
        return torch.cat(found[::-1], dim=1)


def _sources(n_maps: int, strides: Sequence[int]) -> list[int]:
    """The map that each level reads: the last for the coarsest, and no deeper ones than of its stride for the others.

    Map i is taken to have stride 2 ** (i + 1), whatever an architecture makes of it, so that all networks of a space
    read the same ones.
    """
    *finer, _ = (min(n_maps - len(strides) + n, int(math.log2(s)) - 1) for n, s in enumerate(strides))
    return [*(max(0, source) for source in finer), n_maps - 1]


class OnGrid(nn.Module):
    """Brings maps (B, c, h, w) of one size to a grid: means of cells where it divides them, else bilinearly."""

    def __init__(self, shape: MapShape, grid: Grid) -> None:
        """Set both sizes; they are no matter of the input, so that they are constants of exported files."""
        super().__init__()
        self._grid = grid
        divides = shape.height % grid[0] == 0 and shape.width % grid[1] == 0
        self._cell = (shape.height // grid[0], shape.width // grid[1]) if divides else None

    def forward(self, x: Tensor) -> Tensor:
        """Bring a map to the grid."""
        if self._cell is None:
            return F.interpolate(x, self._grid, mode="bilinear", align_corners=False)
        return x if self._cell == (1, 1) else F.avg_pool2d(x, self._cell)


PLUGIN = DetectionHead()
