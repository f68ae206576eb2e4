"""Random changes of colour, pixel by pixel: brightness, contrast, saturation, solarised and posterised values.

Brightness, contrast and saturation by factors around 1 (Krizhevsky et al. 2012; Howard 2013, arXiv:1312.5402). Contrast
is changed about the mean colour of the data set and not of the picture, so that every pixel is changed on its own and
the same in every batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HIGHEST = 255.0  # of 8-bit pictures
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
NEVER = HIGHEST + 1  # a threshold above all values


@dataclass(frozen=True)
class ColourParams:
    """How the colours of N samples are changed in one epoch.

    Attributes:
        gain: (N,) factor of brightness times factor of contrast.
        contrast: (N,) factor of contrast.
        saturation: (N,) factor of the distance from grey.
        threshold: (N,) values from there on are inverted; `NEVER`: none are.
        levels: (N,) distance between values that are left; 1: all are.
    """

    gain: NDArray[np.float64]
    contrast: NDArray[np.float64]
    saturation: NDArray[np.float64]
    threshold: NDArray[np.float64]
    levels: NDArray[np.float64]

    def as_tensor(self) -> Tensor:
        """All of them, (N, 5) float32."""
        columns = (self.gain, self.contrast, self.saturation, self.threshold, self.levels)
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def no_change(n: int) -> ColourParams:
    """Leave the colours of `n` samples as they are."""
    ones = np.ones(n)
    return ColourParams(ones, ones, ones, np.full(n, NEVER), ones)


def jitter(random: NDArray[np.float64], most: float) -> ColourParams:
    """Change brightness, contrast and saturation by random factors.

    Args:
        random: (N, 3) uniform in 0..1.
        most: factors are uniform in 1 - most..1 + most.
    """
    brightness, contrast, saturation = (1 - most + 2 * most * random).T
    n = len(random)
    return ColourParams(brightness * contrast, contrast, saturation, np.full(n, NEVER), np.ones(n))


def both(first: ColourParams, second: ColourParams) -> ColourParams:
    """Make one change of two: factors multiply, of thresholds and levels the stronger counts."""
    return ColourParams(
        first.gain * second.gain,
        first.contrast * second.contrast,
        first.saturation * second.saturation,
        np.minimum(first.threshold, second.threshold),
        np.maximum(first.levels, second.levels),
    )


def painted_(x: Tensor, params: Tensor, mean: Tensor) -> Tensor:
    """Change the colours of pictures, in place.

    y = s g x + (1 - s) g luma(x) + (1 - c) mean with gain g, contrast c and saturation s, limited to 0..255.

    Args:
        x: (B, 3, H, W) float32 in 0..255.
        params: (B, 5), see `ColourParams`.
        mean: (3,) mean colour of the data set.

    Returns:
        The same tensor.
    """
    gain, contrast, saturation, threshold, levels = params.T
    offset = (1 - contrast)[:, None] * mean
    grey = x[:, :1] * LUMA[0]
    for channel in (1, 2):  # products and sums apart, as fused ones round by a sample's place
        grey += x[:, channel : channel + 1] * LUMA[channel]
    grey *= ((1 - saturation) * gain).view(-1, 1, 1, 1)
    x *= (saturation * gain).view(-1, 1, 1, 1)
    x += grey
    x += offset[:, :, None, None]
    x.clamp_(0, HIGHEST)
    if len(rows := (threshold < NEVER).nonzero().flatten()):
        some = x[rows]
        x[rows] = torch.where(some >= threshold[rows].view(-1, 1, 1, 1), HIGHEST - some, some)
    if len(rows := (levels > 1).nonzero().flatten()):
        step = levels[rows].view(-1, 1, 1, 1)
        x[rows] = (x[rows] / step).floor_() * step
    return x
