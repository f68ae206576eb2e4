"""Residual networks for photographs of 64 to 256 pixels: a stem with pooling and four stages.

He et al. 2015 (arXiv:1512.03385), table 1, at up to half of ResNet-18's widths. The resolution at which the network
looks at a picture is a choice of its own; it resizes what it is given, so that samples stay as they are stored.

A bottleneck here is a basic block with fewer channels between its two convolutions, the second 1x1 or 3x3, so that its
weights are a leading part of the basic block's; He et al.'s has another 1x1 convolution in front, and is deeper.

Published: ResNet-18 has 69.8 % on ImageNet at 224 pixels with 11.7 M weights and 1.8 G multiply-adds (torchvision).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import nn

from nas_kd.models.blocks import ConvNet, ConvNorm, ResidualBlock
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.results.candidate import Architecture

EIGHTHS, QUARTERS = 8, 4
EARLY = (1, 2)  # stages at a quarter and an eighth of the resolution
STAGES = (1, 2, 3, 4)
DIMENSIONS = (
    Dimension("resolution", 4, EIGHTHS),
    Dimension("stride", 16, 32, step=16, decreases_size=True),
    Dimension("width_1", 4, 32, step=4, log=True),
    Dimension("width_2", 8, 64, step=8, log=True),
    Dimension("width_3", 8, 128, step=8, log=True),
    Dimension("width_4", 16, 256, step=16, log=True),
    Dimension("depth_1", 1, 2),
    Dimension("depth_2", 1, 2),
    Dimension("depth_3", 1, 3),
    Dimension("depth_4", 1, 2),
    Dimension("inner_early", 1, QUARTERS),
    Dimension("inner_late", 1, QUARTERS),
    Dimension("kernel_early", 1, 3, step=2),
    Dimension("kernel_late", 1, 3, step=2),
)


class ResNetPhotoSpace(GridSpace):
    """Space of four stages: widths and depths of each, the blocks' form for early (1 and 2) and late ones (3 and 4)."""

    name = "resnet_photo"
    summary = "residual networks for photographs, 64 to 256 px: resolution, widths, bottlenecks, ...; 6 kB to 12 MB"
    sides = (64, None)
    elsewhere = "resnet"

    def __init__(self, dimensions: Sequence[Dimension] = DIMENSIONS) -> None:
        """Use the space's own dimensions, or others of the same names."""
        super().__init__(dimensions)

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Build the network for validated choices: (B, channels, H, W) -> (B, n_classes)."""
        widths = [choices[f"width_{i}"] for i in STAGES]
        stem = nn.Sequential(ConvNorm(channels, widths[0], 3, 2), nn.MaxPool2d(3, 2, padding=1))
        stages = [
            _stage(c_in, c_out, choices, i)
            for i, (c_in, c_out) in zip(STAGES, pairwise([widths[0], *widths]), strict=True)
        ]
        resolution = choices["resolution"] / EIGHTHS
        return ConvNet(stem, stages, None, widths[-1], n_classes, resolution=resolution)

    def describe(self, architecture: Architecture) -> str:
        """Describe it: `4 stages, 16-32-64-128 wide, 5 blocks, inner 4/4-2/4, kernels 3-1, at 6/8, stride 32`."""
        choices = self.checked(architecture)
        widths = "-".join(str(choices[f"width_{i}"]) for i in STAGES)
        blocks = sum(choices[f"depth_{i}"] for i in STAGES)
        inner = "-".join(f"{choices[f'inner_{part}']}/{QUARTERS}" for part in ("early", "late"))
        return (
            f"{len(STAGES)} stages, {widths} wide, {blocks} blocks, inner {inner}, "
            f"kernels {choices['kernel_early']}-{choices['kernel_late']}, at {choices['resolution']}/{EIGHTHS}, "
            f"stride {choices['stride']}"
        )


def _stage(c_in: int, c_out: int, choices: Mapping[str, int], stage: int) -> list[nn.Module]:
    part = "early" if stage in EARLY else "late"
    stride = {STAGES[0]: 1, STAGES[-1]: choices["stride"] // 16}.get(stage, 2)
    inner, kernel = c_out * choices[f"inner_{part}"] // QUARTERS, choices[f"kernel_{part}"]
    return [
        ResidualBlock(c_out if block else c_in, c_out, kernel, 1 if block else stride, inner)
        for block in range(choices[f"depth_{stage}"])
    ]


PLUGIN = ResNetPhotoSpace()
