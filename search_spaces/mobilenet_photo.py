"""Inverted residuals for photographs of 64 to 256 pixels: a stem and five stages, each at half the resolution before.

MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) at a tenth to all of its widths, with larger kernels and
squeeze-excite in late stages as in MobileNetV3 (Howard et al. 2019, arXiv:1905.02244), but with ReLU throughout, which
ONNX Runtime fuses into the convolution. The resolution at which the network looks at a picture is a choice of its own;
it resizes what it is given, so that samples stay as they are stored. Compact filters make a layer's features of half as
many: concatenated ReLU early, where filters come in pairs of opposite phase (Shang et al. 2016, arXiv:1603.05201), and
cheap depthwise convolutions of other features late (GhostNet, Han et al. 2020, arXiv:1911.11907).

Published: MobileNetV2 has 72.0 % on ImageNet at 224 pixels with 3.4 M weights and 300 M multiply-adds, GhostNet 73.9 %
with 5.2 M and 141 M. The largest network here is narrower behind its last stage: 320 channels where they have 1,280.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import nn

from nas_kd.models.blocks import ConcatenatedReLU, ConvNet, ConvNorm, InvertedResidual
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.results.candidate import Architecture

EIGHTHS = 8
EARLY = (1, 2)  # stages at half and a quarter of the resolution
LATE = (3, 4, 5)
STAGES = EARLY + LATE
HEAD = 2  # factor by which the last convolution widens the network before pooling
DIMENSIONS = (
    Dimension("resolution", 4, EIGHTHS),
    Dimension("stride", 16, 32, step=16, decreases_size=True),
    Dimension("width_1", 4, 16, step=4, log=True),
    Dimension("width_2", 4, 24, step=4, log=True),
    Dimension("width_3", 4, 40, step=4, log=True),
    Dimension("width_4", 8, 96, step=8, log=True),
    Dimension("width_5", 16, 160, step=16, log=True),
    Dimension("depth_2", 1, 3),
    Dimension("depth_3", 1, 3),
    Dimension("depth_4", 1, 4),
    Dimension("depth_5", 1, 3),
    Dimension("expansion_early", 2, 6, step=2),
    Dimension("expansion_late", 2, 6, step=2),
    Dimension("kernel_late", 3, 5, step=2),
    Dimension("squeeze_late", 0, 1),
    Dimension("crelu_early", 0, 1, decreases_size=True),
    Dimension("ghost_late", 0, 1, decreases_size=True),
)


class MobileNetPhotoSpace(GridSpace):
    """Space of five stages: widths and depths of each, the rest for early (1 and 2) and late ones (3 to 5)."""

    name = "mobilenet_photo"
    summary = (
        "inverted residuals for photographs, 64 to 256 px: resolution, widths, depths, compact filters, ...; to 5 MB"
    )
    sides = (64, None)
    elsewhere = "mobilenet"

    def __init__(self, dimensions: Sequence[Dimension] = DIMENSIONS) -> None:
        """Use the space's own dimensions, or others of the same names."""
        super().__init__(dimensions)

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        """Build the network for validated choices: (B, channels, H, W) -> (B, n_classes)."""
        widths = [choices[f"width_{i}"] for i in STAGES]
        stem = (ConcatenatedReLU if choices["crelu_early"] else ConvNorm)(channels, 2 * widths[0], 3, 2)
        first = [ConvNorm(2 * widths[0], 2 * widths[0], 3, groups=2 * widths[0])]
        first.append(ConvNorm(2 * widths[0], widths[0], activate=False))
        others = [
            _stage(c_in, c_out, choices, i) for i, (c_in, c_out) in zip(STAGES[1:], pairwise(widths), strict=True)
        ]
        width = HEAD * widths[-1]
        resolution = choices["resolution"] / EIGHTHS
        head = ConvNorm(widths[-1], width)
        return ConvNet(stem, [first, *others], head, width, n_classes, resolution=resolution)

    def describe(self, architecture: Architecture) -> str:
        """Describe it: `5 stages, 8-12-16-32-64 wide, 9 blocks, expansions 2-4, kernel 3, at 6/8, stride 32, ghost`."""
        choices = self.checked(architecture)
        widths = "-".join(str(choices[f"width_{i}"]) for i in STAGES)
        blocks = 1 + sum(choices[f"depth_{i}"] for i in STAGES[1:])
        parts = [
            f"{len(STAGES)} stages, {widths} wide, {blocks} blocks",
            f"expansions {choices['expansion_early']}-{choices['expansion_late']}",
            f"kernel {choices['kernel_late']}, at {choices['resolution']}/{EIGHTHS}, stride {choices['stride']}",
            *(name for kind, name in _EXTRAS.items() if choices[kind]),
        ]
        return ", ".join(parts)


_EXTRAS = {"squeeze_late": "SE", "crelu_early": "CReLU", "ghost_late": "ghost"}


def _stage(c_in: int, c_out: int, choices: Mapping[str, int], stage: int) -> list[nn.Module]:
    late = stage in LATE
    stride = choices["stride"] // 16 if stage == STAGES[-1] else 2
    return [
        InvertedResidual(
            c_out if block else c_in,
            c_out,
            choices["expansion_late" if late else "expansion_early"],
            choices["kernel_late"] if late else 3,
            1 if block else stride,
            squeeze=late and bool(choices["squeeze_late"]),
            crelu=not late and bool(choices["crelu_early"]),
            ghost=late and bool(choices["ghost_late"]),
        )
        for block in range(choices[f"depth_{stage}"])
    ]


PLUGIN = MobileNetPhotoSpace()
