"""Masks, (N, H, W) numbers of a class for each pixel: how they move with pixels, and which share of a cell is what."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.tasks.moving import MovingTargets, Placements, Shifts

VOID = 255  # of pixels that do not count


class Masks(MovingTargets):
    """Masks go where the pixels go, each with its nearest one; void where nothing of the picture is left.

    With cutmix, the pasted rectangle brings its own part of the mask. Mixup has no class for a pixel that is two.
    """

    mixes = frozenset({"cutmix"})

    def shifted(self, y: Tensor, shifts: Shifts) -> Tensor:
        """Move masks (B, H, W) by whole pixels."""
        height, width = y.shape[1:]
        rows, columns = torch.arange(height, device=y.device), torch.arange(width, device=y.device)
        from_rows = rows + shifts.offset[:, :1]
        from_columns = torch.where(shifts.flip[:, None], width - 1 - columns, columns) + shifts.offset[:, 1:]
        outside = (
            ((from_rows < 0) | (from_rows >= height))[:, :, None]
            | ((from_columns < 0) | (from_columns >= width))[:, None, :]
        )  # fmt: skip
        places = from_rows.clamp(0, height - 1)[:, :, None] * width + from_columns.clamp(0, width - 1)[:, None, :]
        moved = y.flatten(1).gather(1, places.flatten(1)).view_as(y).masked_fill(outside, VOID)
        if not shifts.hole.numel():
            return moved
        top, bottom, left, right = shifts.hole.T[:, :, None]
        in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
        return moved.masked_fill(in_rows[:, :, None] & in_columns[:, None, :], VOID)

    def resampled(self, y: Tensor, placements: Placements) -> Tensor:
        """Take the nearest pixel of masks (B, H, W)."""
        values = y[:, None].float()
        found = F.grid_sample(values, placements.grid, mode="nearest", padding_mode="reflection", align_corners=False)
        return found[:, 0].to(y.dtype)

    def blanked(self, y: Tensor, boxes: Tensor) -> Tensor:
        """Nothing is known of pixels that are blanked."""
        height, width = y.shape[1:]
        top, bottom, left, right = boxes.T[:, :, None]
        rows, columns = (torch.arange(n, device=y.device).add(0.5) / n for n in (height, width))
        in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
        return y.masked_fill(in_rows[:, :, None] & in_columns[:, None, :], VOID)

    def pasted(self, y: Tensor, other: Tensor, inside: Tensor) -> Tensor:
        """The other mask's pixels inside of the rectangle."""
        return torch.where(inside[:, 0], other, y)


def cells(side: int, stride: int) -> int:
    """Number of cells along a side of a picture, the last of which may stick out of it."""
    return -(-side // stride)


def class_shares(y: Tensor, n_classes: int, stride: int) -> Tensor:
    """Which share of the pixels of each cell has each class; void pixels and those beyond an edge have none.

    Args:
        y: (B, H, W) class numbers, or `VOID`.
        n_classes: C.
        stride: pixels along a side of a cell.

    Returns:
        (B, C, h, w) float32; the sum over classes is the share that counts, 0..1.
    """
    beyond = tuple(cells(side, stride) * stride - side for side in (y.shape[2], y.shape[1]))
    padded = F.pad(y, (0, beyond[0], 0, beyond[1]), value=VOID)
    return torch.stack([F.avg_pool2d((padded == c).float(), stride) for c in range(n_classes)], dim=1)
