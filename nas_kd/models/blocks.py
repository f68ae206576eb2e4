"""Building blocks shared by the search spaces: few operations per layer, plain convolutions once exported.

A block depends on its widths and kernel sizes alone, so a narrower block is the leading part of a wider one.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation without a step counter, which takes 5 % of a tiny network's training time."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W) -> the same shape."""
        if self.momentum is None:  # a running mean over all steps needs the counter
            return super().forward(input)
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(input, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps)


class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution that stays in fp32 on CPUs: bf16 was 2 to 25 times slower on 4 of 5 shapes (AVX512)."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        if input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float()).to(input.dtype)
        return super().forward(input)


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation and, if `activate`, ReLU: one ONNX node once fused."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, activate: bool = True
    ) -> None:
        """Create the layer.

        Args:
            c_in: input channels.
            c_out: output channels.
            kernel: side of the kernel, odd; the padding keeps the resolution at stride 1.
            stride: step of the convolution in both directions.
            groups: groups of the convolution; more than 1: depthwise.
            activate: whether a ReLU follows.
        """
        super().__init__()
        convolution = nn.Conv2d if groups == 1 else DepthwiseConv
        self.conv = convolution(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm = BatchNorm(c_out)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        y = self.norm(self.conv(x))
        return F.relu_(y) if self.activate else y


class ResidualBlock(nn.Module):
    """A 3x3 convolution, then one of size `kernel`, and a shortcut (He et al. 2015, arXiv:1512.03385, basic block).

    The shortcut has a 1x1 projection where the stride or the width changes. With kernel 1 the block costs about half;
    with fewer channels between its convolutions, it is a bottleneck.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, inner: int | None = None) -> None:
        """Create the block.

        Args:
            c_in: input channels.
            c_out: output channels.
            kernel: side of the second kernel, odd.
            stride: step of the first convolution in both directions.
            inner: channels between the convolutions (default: `c_out`).
        """
        super().__init__()
        inner = inner or c_out
        self.first = ConvNorm(c_in, inner, 3, stride)
        self.second = ConvNorm(inner, c_out, kernel, activate=False)
        projected = stride != 1 or c_in != c_out
        self.shortcut = ConvNorm(c_in, c_out, 1, stride, activate=False) if projected else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        y = self.second(self.first(x))
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(y)


class SqueezeExcite(nn.Module):
    """Channel weights from the pooled image, with a hard sigmoid (Hu et al. 2017, arXiv:1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // 8)
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of (B, C, H, W) -> the same shape."""
        weights = F.relu_(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.excite(weights), inplace=True)


class ConcatenatedReLU(nn.Module):
    """A 1x1 or larger convolution whose filters each give two features (Shang et al. 2016, arXiv:1603.05201, eq. 1).

    ReLU of the filters' answers and of their negatives: early filters often come in pairs of opposite phase, so that
    half of them are enough.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> None:
        """Create c_out / 2 filters; the other arguments are those of `ConvNorm`."""
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out // 2, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = BatchNorm(c_out // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        y = self.norm(self.conv(x))
        return F.relu_(torch.cat([y, -y], dim=1))


class GhostFeatures(nn.Module):
    """Features, and as many again by a cheap depthwise convolution (Han et al. 2020, arXiv:1911.11907, eq. 3).

    With a stride the features themselves are averaged over 3x3 pixels.
    """

    def __init__(self, c_out: int, kernel: int, stride: int) -> None:
        """Create the layer.

        Args:
            c_out: channels, half of which come in.
            kernel: side of the depthwise kernel, odd.
            stride: step in both directions, 1 or 2.
        """
        super().__init__()
        half, self.stride = c_out // 2, stride
        self.conv = DepthwiseConv(half, half, kernel, stride, padding=kernel // 2, groups=half, bias=False)
        self.norm = BatchNorm(half)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: (B, c_out / 2, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        cheap = F.relu_(self.norm(self.conv(x)))
        kept = x if self.stride == 1 else F.avg_pool2d(x, 3, self.stride, padding=1)
        return torch.cat([kept, cheap], dim=1)


class InvertedResidual(nn.Module):
    """Widen by `expansion`, depthwise convolution, narrow again (Sandler et al. 2018, arXiv:1801.04381).

    The input is added where neither stride nor width changes; `squeeze` adds squeeze-excite. With compact filters half
    as many widen the input: `crelu` adds their negatives, `ghost` what the depthwise convolution makes of them. Their
    weights are leading parts of those without.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        expansion: int,
        kernel: int,
        stride: int,
        *,
        squeeze: bool,
        crelu: bool = False,
        ghost: bool = False,
    ) -> None:
        super().__init__()
        inner = c_in * expansion
        self.expand = ConcatenatedReLU(c_in, inner) if crelu else ConvNorm(c_in, inner // 2 if ghost else inner)
        self.spatial = (
            GhostFeatures(inner, kernel, stride) if ghost else ConvNorm(inner, inner, kernel, stride, groups=inner)
        )
        self.weigh = SqueezeExcite(inner) if squeeze else None
        self.project = ConvNorm(inner, c_out, activate=False)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        y = self.spatial(self.expand(x))
        if self.weigh is not None:
            y = self.weigh(y)
        narrow: Tensor = self.project(y)
        return narrow.add_(x) if self.residual else narrow


class ConvNet(nn.Module):
    """Stem, stages, an optional head, global average pooling, one linear classifier."""

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[nn.Module]],
        head: nn.Module | None,
        width: int,
        n_classes: int,
        *,
        resolution: float = 1.0,
    ) -> None:
        """Join the parts and initialise all weights.

        Args:
            stem: the first layers.
            stages: the blocks of each stage, in order.
            head: layers between the last stage and the pooling; None: nothing.
            width: channels that reach the classifier.
            n_classes: number of logits.
            resolution: share of each image's sides at which the stem sees it, 1/2..1.
        """
        super().__init__()
        self.resolution = resolution
        self.stem = stem
        self.stages = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
        self.head = head
        self.classifier = nn.Linear(width, n_classes)
        initialise(self)

    def backbone(self) -> "Stages":
        """Stem and stages alone, which share their layers with this network."""
        return Stages(self.stem, self.stages, self.resolution)

    def forward(self, x: Tensor) -> Tensor:
        """Classify normalised images (B, channels, H, W): logits (B, n_classes)."""
        if self.resolution != 1:  # two pixels of a row are averaged at 1/2, so that none is left out
            x = F.interpolate(x, scale_factor=self.resolution, mode="bilinear", align_corners=False)
        x = self.stages(self.stem(x))
        if self.head is not None:
            x = self.head(x)
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


class Stages(nn.Module):
    """Stem and stages of a network, which return the map of every stage: what a head stands behind."""

    def __init__(self, stem: nn.Module, stages: nn.Sequential, resolution: float) -> None:
        """Take the layers of a network; see `ConvNet` for the arguments."""
        super().__init__()
        self.stem, self.stages, self.resolution = stem, stages, resolution

    def forward(self, x: Tensor) -> list[Tensor]:
        """Run the stages on normalised images (B, channels, H, W): a map (B, c, h, w) each, the finest first."""
        if self.resolution != 1:
            x = F.interpolate(x, scale_factor=self.resolution, mode="bilinear", align_corners=False)
        x, maps = self.stem(x), list[Tensor]()
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def initialise(network: nn.Module) -> None:
    """Initialise convolutions after He et al. and the classifier near zero, in place.

    Residual branches start at full strength. Starting them at zero, as is usual for deep networks, makes small networks
    learn too slowly (17 kB network on 8x8 digits, 270 steps: test accuracy 92 % instead of 97 %).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
