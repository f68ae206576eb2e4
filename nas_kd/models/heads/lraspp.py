"""Lite R-ASPP, a light head for masks (Howard et al. 2019, arXiv:1905.02244, section 6.4, figure 10).

The coarsest map, weighted by channels as its mean over the picture says, and finer ones for the edges. Each decides by
a 1x1 convolution, and their logits are added up, from the coarsest to the finest. The mean is that of the whole map, as
in torchvision; the paper's is over large windows, and it reads one finer map.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.models.blocks import ConvNorm
from nas_kd.models.grid import Dimension
from nas_kd.models.heads.base import Head, HeadInputs, finest, initialised


class LiteRaspp(Head):
    """Its width, and the finest map that it reads."""

    name: ClassVar[str] = "lraspp"
    summary: ClassVar[str] = "masks from the coarsest map, with logits of finer ones added; light (Lite R-ASPP)"
    dimensions: ClassVar[tuple[Dimension, ...]] = (
        Dimension("width", 8, 64, step=8, log=True),
        Dimension("finest", 1, 2, decreases_size=True),
    )

    def module(self, choices: Mapping[str, int], inputs: HeadInputs) -> nn.Module:
        """Build it: maps -> logits (B, n_classes, h, w), as fine as the finest map that it reads."""
        return LiteRasppLayers(choices["width"], finest(choices, inputs.maps), inputs)

    def describe(self, choices: Mapping[str, int]) -> str:
        """Describe it by its width and finest map: `head 32-1`."""
        return f"head {choices['width']}-{choices['finest']}"


class LiteRasppLayers(nn.Module):
    """Layers of the head; see `LiteRaspp.module`."""

    feature_paths = ("fused",)

    def __init__(self, width: int, fine: int, inputs: HeadInputs) -> None:
        """Build the layers; `fine`: position of the finest map that is read."""
        super().__init__()
        maps, n_classes = inputs.maps, inputs.n_classes
        self._sizes = [shape[1:] for shape in maps]
        self._finer = range(fine, len(maps) - 1)
        self.values = ConvNorm(maps[-1].channels, width)
        self.weights = nn.Conv2d(maps[-1].channels, width, 1)
        self.fused = nn.Identity()
        self.decide = nn.Conv2d(width, n_classes, 1)
        finer = {str(i): nn.Conv2d(maps[i].channels, n_classes, 1, bias=False) for i in self._finer}
        self.finer = nn.ModuleDict(finer)
        initialised(self, [self.decide, *finer.values()])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decide from the maps of the stages: logits (B, n_classes, h, w)."""
        weights = F.hardsigmoid(self.weights(F.adaptive_avg_pool2d(maps[-1], 1)))
        logits: Tensor = self.decide(self.fused(self.values(maps[-1]) * weights))
        for place in reversed(self._finer):
            logits = resized(logits, self._sizes[place]) + self.finer[str(place)](maps[place])
        return logits


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a map (B, C, h, w) to another size, bilinearly; of this size it stays as it is."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


PLUGIN = LiteRaspp()
