"""Where networks decide about boxes: the grids of cells over a picture of some size."""

import torch
from torch import Tensor

from nas_kd.results.boxes import anchor_points

# Sides of the cells of each grid, by the shorter side of pictures below which they are used, in pixels. Spaces for
# photographs begin at 96 pixels. A grid reaches 8 cells from each point, so that the coarsest covers a whole picture.
STRIDES = ((96, (4, 8)), (224, (4, 8, 16)))
LARGE_STRIDES = (8, 16, 32)


def pyramid_strides(height: int, width: int) -> tuple[int, ...]:
    """Sides of the cells of each grid, in pixels.

    4 and 8 of pictures below 96 pixels, by their shorter side; 16, too, below 224; from there on 8, 16 and 32.

    Args:
        height: of the pictures, in pixels.
        width: likewise.
    """
    return next((strides for below, strides in STRIDES if min(height, width) < below), LARGE_STRIDES)


def grid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of each grid; see `pyramid_strides` for the arguments."""
    return [(-(-height // s), -(-width // s)) for s in pyramid_strides(height, width)]


def anchors_of(height: int, width: int) -> Tensor:
    """Anchor points of a picture, (A, 3): column and row in pixels, and stride."""
    return torch.from_numpy(anchor_points(height, width, pyramid_strides(height, width)))


def owners(points: Tensor, truth: Tensor) -> Tensor:
    """The smallest box around each anchor point, (B, A, 5); rows of class -1 where there is none.

    Args:
        points: (A, 3) column, row and stride.
        truth: (B, M, 5) class, x1, y1, x2, y2; rows of class -1 are no boxes.
    """
    column, row = points[:, 0], points[:, 1]
    label, x1, y1, x2, y2 = (truth[..., i, None] for i in range(5))
    inside = (column > x1) & (column < x2) & (row > y1) & (row < y2) & (label >= 0)  # (B, M, A)
    area = torch.where(inside, (x2 - x1) * (y2 - y1), torch.inf)
    smallest = area.min(dim=1)
    own = truth.gather(1, smallest.indices[..., None].expand(-1, -1, truth.shape[2]))
    return torch.where(torch.isfinite(smallest.values)[..., None], own, -1)
