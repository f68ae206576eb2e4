"""Inverted residuals for small images: two stages, each at half the resolution of its input.

Sandler et al. 2018 (arXiv:1801.04381), with squeeze-excite as in MobileNetV3 (Howard et al. 2019, arXiv:1905.02244)
but with ReLU throughout, which ONNX Runtime fuses into the convolution.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import nn

from nas_kd.models.blocks import ConvNet, ConvNorm, InvertedResidual
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.results.candidate import Architecture

STAGES = (1, 2)
HEAD = 2  # factor by which the last convolution widens the network before pooling
DIMENSIONS = (
    Dimension("stem_stride", 1, 2, decreases_size=True),
    Dimension("stem_width", 4, 16, step=4, log=True),
    Dimension("width_1", 4, 32, step=4, log=True),
    Dimension("depth_1", 1, 3),
    Dimension("expansion_1", 2, 4, log=True),
    Dimension("kernel_1", 3, 5, step=2),
    Dimension("squeeze_1", 0, 1),
    Dimension("width_2", 8, 64, step=4, log=True),
    Dimension("depth_2", 1, 3),
    Dimension("expansion_2", 2, 6, log=True),
    Dimension("kernel_2", 3, 5, step=2),
    Dimension("squeeze_2", 0, 1),
)


class MobileNetSpace(GridSpace):
    """Space of two stages, each with its width, number of blocks, expansion, kernel and squeeze-excite."""

    name = "mobilenet"
    summary = (
        "inverted residuals: stages' widths, depths, expansions, kernels, squeeze-excite; below 96 px; 3 kB to 1.1 MB"
    )
    sides = (1, 95)  # larger images would still be 12x12 and more at its end
    elsewhere = "mobilenet_photo"

    def __init__(self, dimensions: Sequence[Dimension] = DIMENSIONS) -> None:
        """Use the space's own dimensions, or others of the same names."""
        super().__init__(dimensions)

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Build the network for validated choices: (B, channels, H, W) -> (B, n_classes)."""
        widths = [choices["stem_width"], *(choices[f"width_{i}"] for i in STAGES)]
        stem = ConvNorm(channels, widths[0], 3, choices["stem_stride"])
        stages = [_stage(c_in, c_out, choices, i) for i, (c_in, c_out) in zip(STAGES, pairwise(widths), strict=True)]
        width = HEAD * widths[-1]
        return ConvNet(stem, stages, ConvNorm(widths[-1], width), width, n_classes)

    def describe(self, architecture: Architecture) -> str:
        """Describe it: `2 stages, 8-16-32 wide, 4 blocks, expansions 2-4, kernel 3, squeeze-excite in 2, stride 2`."""
        choices = self.checked(architecture)
        widths = "-".join(str(choices[name]) for name in ("stem_width", "width_1", "width_2"))
        blocks = sum(choices[f"depth_{i}"] for i in STAGES)
        squeezed = [str(i) for i in STAGES if choices[f"squeeze_{i}"]]
        parts = [f"{len(STAGES)} stages, {widths} wide, {blocks} blocks", _each(choices, "expansion"),
                 _each(choices, "kernel"), *([f"squeeze-excite in {' and '.join(squeezed)}"] if squeezed else []),
                 f"stride {choices['stem_stride']}"]  # fmt: skip
        return ", ".join(parts)


def _each(choices: Mapping[str, int], kind: str) -> str:
    values = [choices[f"{kind}_{i}"] for i in STAGES]
    return f"{kind} {values[0]}" if len(set(values)) == 1 else f"{kind}s " + "-".join(map(str, values))


def _stage(c_in: int, c_out: int, choices: Mapping[str, int], stage: int) -> list[nn.Module]:
    expansion, kernel, squeeze = (choices[f"{kind}_{stage}"] for kind in ("expansion", "kernel", "squeeze"))
    return [
        InvertedResidual(c_out if block else c_in, c_out, expansion, kernel, 1 if block else 2, squeeze=bool(squeeze))
        for block in range(choices[f"depth_{stage}"])
    ]


PLUGIN = MobileNetSpace()
