"""Residual networks for small images: three stages, the second and third at half the resolution of the one before.

He et al. 2015 (arXiv:1512.03385), section 4.2, with free widths. Widths are multiples of 4. ONNX Runtime computes
channels in blocks of 16 on AVX512: 16 channels are as fast as 12, and 4 more channels often cost only size.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import nn

from nas_kd.models.blocks import ConvNet, ConvNorm, ResidualBlock
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.results.candidate import Architecture

STAGES = (1, 2, 3)
DIMENSIONS = (
    Dimension("stem_stride", 1, 2, decreases_size=True),
    Dimension("width_1", 4, 16, step=4, log=True),
    Dimension("depth_1", 0, 2),
    Dimension("kernel_1", 1, 3, step=2, conditional_on="depth_1"),
    Dimension("width_2", 4, 48, step=4, log=True),
    Dimension("depth_2", 1, 2),
    Dimension("kernel_2", 1, 3, step=2),
    Dimension("width_3", 8, 96, step=4, log=True),
    Dimension("depth_3", 1, 2),
    Dimension("kernel_3", 1, 3, step=2),
)


class ResNetSpace(GridSpace):
    """Space of three stages, each with its width, number of blocks and kernel of the blocks' second convolution."""

    name = "resnet"
    summary = "residual networks: stages' widths, depths, kernels, stem stride; below 96 px; 3 kB to 1.5 MB"
    sides = (1, 95)  # larger images would still be 12x12 and more at its end
    elsewhere = "resnet_photo"

    def __init__(self, dimensions: Sequence[Dimension] = DIMENSIONS) -> None:
        """Use the space's own dimensions, or others of the same names."""
        super().__init__(dimensions)

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Build the network for validated choices: (B, channels, H, W) -> (B, n_classes)."""
        widths = [choices[f"width_{i}"] for i in STAGES]
        stem = ConvNorm(channels, widths[0], 3, choices["stem_stride"])
        stages = [
            _stage(c_in, c_out, choices[f"depth_{i}"], choices[f"kernel_{i}"], stride=1 if i == 1 else 2)
            for i, (c_in, c_out) in zip(STAGES, pairwise([widths[0], *widths]), strict=True)
        ]
        return ConvNet(stem, stages, None, widths[-1], n_classes)

    def describe(self, architecture: Architecture) -> str:
        """Describe it in words: `3 stages, 16-24-48 wide, 5 blocks, kernel 3, stride 1`."""
        choices = self.checked(architecture)
        widths = "-".join(str(choices[f"width_{i}"]) for i in STAGES)
        used = [choices[f"kernel_{i}"] for i in STAGES if choices[f"depth_{i}"]]
        kernels = f"kernel {used[0]}" if len(set(used)) == 1 else "kernels " + "-".join(map(str, used))
        blocks = sum(choices[f"depth_{i}"] for i in STAGES)
        return f"{len(STAGES)} stages, {widths} wide, {blocks} blocks, {kernels}, stride {choices['stem_stride']}"


def _stage(c_in: int, c_out: int, depth: int, kernel: int, stride: int) -> list[nn.Module]:
    return [ResidualBlock(c_out if block else c_in, c_out, kernel, 1 if block else stride) for block in range(depth)]


PLUGIN = ResNetSpace()
