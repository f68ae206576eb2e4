"""Where the pixels of an augmented picture come from: crops, mirroring, rotation and shear in one bilinear resampling.

Positions are shares of a picture: -1 is its left or upper edge, 1 its right or lower one, as in torch's `grid_sample`.
So the same placements fit the same pictures at another resolution.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Placements = NDArray[np.float64]  # (N, 2, 3): the place in the source is M @ (column, row, 1)

ASPECTS = (3 / 4, 4 / 3)  # width over height of crops (Szegedy et al. 2014, arXiv:1409.4842)


def resized_crops(random: NDArray[np.float64], least_area: float) -> Placements:
    """Place random crops that are resized to the whole picture (Szegedy et al. 2014, arXiv:1409.4842, section 6).

    A crop that would be wider or higher than the picture is as wide or as high as it.

    Args:
        random: (N, 4) uniform in 0..1: area, aspect, row and column.
        least_area: share of the picture's area that the smallest crop has.
    """
    area, aspect, row, column = random.T
    low, high = np.log(ASPECTS)
    ratio = np.exp(low + (high - low) * aspect)
    area = least_area + (1 - least_area) * area
    width, height = np.minimum(1, np.sqrt(area * ratio)), np.minimum(1, np.sqrt(area / ratio))
    return placements(width, 0, (1 - width) * (2 * column - 1), 0, height, (1 - height) * (2 * row - 1))


def placements(*numbers: NDArray[np.float64] | float) -> Placements:
    """Make placements (N, 2, 3) of six numbers, which are (N,) or the same for all, row by row."""
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(n) for n in numbers)), axis=1).reshape(-1, 2, 3)


def rotations(degrees: NDArray[np.float64], height: int, width: int) -> Placements:
    """Rotate pictures of this height and width about their centre; degrees: (N,)."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return placements(cosine, -sine * height / width, 0, sine * width / height, cosine, 0)


def after(inner: Placements, outer: Placements) -> Placements:
    """Place pixels by `outer` in the picture that `inner` makes."""
    turned: Placements = np.einsum("nij,njk->nik", inner[:, :, :2], outer)
    turned[:, :, 2] += inner[:, :, 2]
    return turned


def resampled(x: Tensor, places: Tensor) -> Tensor:
    """Resample pictures bilinearly; what lies beyond an edge is the picture's mirror image.

    Only operations on single numbers, in an order that does not depend on the batch: a product of matrices would round
    the same sample differently in batches of other sizes.

    Args:
        x: (B, C, H, W) float32.
        places: (B, 2, 3) float32, see `Placements`.
    """
    grid = sampling_grid(places, *x.shape[2:])
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def sampling_grid(places: Tensor, height: int, width: int) -> Tensor:
    """Where the centres of all pixels come from, (B, height, width, 2), as torch's `grid_sample` takes it.

    Args:
        places: (B, 2, 3) float32, see `Placements`.
        height: of the pictures, pixels.
        width: likewise.
    """
    rows, columns = _centres(height, places), _centres(width, places)
    grid = torch.empty((len(places), height, width, 2), device=places.device)
    for axis in range(2):
        by_column = places[:, axis, :1] * columns
        by_row = places[:, axis, 1:2] * rows + places[:, axis, 2:]
        torch.add(by_column[:, None, :], by_row[:, :, None], out=grid[..., axis])
    return grid


def _centres(n: int, like: Tensor) -> Tensor:
    """Centres of n pixels, (n,) in -1..1."""
    return (torch.arange(n, device=like.device) * 2 + (1 - n)) / n


def erased(x: Tensor, boxes: Tensor, fill: Tensor) -> Tensor:
    """Blank a rectangle of each picture.

    Args:
        x: (B, C, H, W).
        boxes: (B, 4) top, bottom, left and right in shares 0..1 of the sides; empty ones change nothing.
        fill: (C,) what they are blanked with.
    """
    height, width = x.shape[2:]
    top, bottom, left, right = boxes.T[:, :, None]
    rows, columns = (torch.arange(n, device=x.device).add(0.5) / n for n in (height, width))
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return torch.where(in_rows[:, None, :, None] & in_columns[:, None, None, :], fill.view(-1, 1, 1), x)


ERASED_AREA, ERASED_ASPECTS = (0.02, 1 / 3), (0.3, 1 / 0.3)  # Zhong et al. 2017, arXiv:1708.04896, section 4.2


def erased_boxes(random: NDArray[np.float64], probability: float) -> NDArray[np.float64]:
    """Choose rectangles to blank (Zhong et al. 2017, arXiv:1708.04896), those of most samples empty.

    Args:
        random: (N, 5) uniform in 0..1: whether, area, aspect, row and column.
        probability: that a sample loses one.

    Returns:
        (N, 4), see `erased`.
    """
    whether, area, aspect, row, column = random.T
    low, high = map(math.log, ERASED_ASPECTS)
    ratio = np.exp(low + (high - low) * aspect)
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area) * (whether < probability)
    width, height = np.minimum(1, np.sqrt(area * ratio)), np.minimum(1, np.sqrt(area / ratio))
    top, left = (1 - height) * row, (1 - width) * column
    return np.stack([top, top + height, left, left + width], axis=1)
