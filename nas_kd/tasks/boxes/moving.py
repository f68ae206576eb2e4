"""How boxes move with a picture that is augmented: with the pixels inside, as long as enough of these can be seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_kd.tasks.boxes.geometry import areas
from nas_kd.tasks.moving import MovingTargets, Placements, Shifts

SEEN = 0.25  # share of a box that has to be seen, else it is none
NONE = -1  # class of rows that are no boxes


@dataclass(frozen=True)
class MovingBoxes(MovingTargets):
    """Boxes (B, M, 5) class, x1, y1, x2, y2 of pictures of one size; rows of class -1 are no boxes.

    Boxes end at the picture's edges. What is left of a box when less than a quarter of it can be seen is no box.

    Attributes:
        height: of the pictures, in pixels.
        width: likewise.
    """

    height: int
    width: int

    def shifted(self, y: Tensor, shifts: Shifts) -> Tensor:
        """Move boxes by whole pixels; a hole hides what it covers."""
        rows, columns = shifts.offset[:, :1].to(y), shifts.offset[:, 1:].to(y)
        x1, x2 = y[..., 1], y[..., 3]
        flip = shifts.flip[:, None]
        left, right = torch.where(flip, self.width - x2, x1), torch.where(flip, self.width - x1, x2)
        across = torch.where(flip, -columns, columns)
        moved = self._seen(y, torch.stack([left - across, y[..., 2] - rows, right - across, y[..., 4] - rows], dim=-1))
        if not shifts.hole.numel():
            return moved
        top, bottom, first, last = shifts.hole.to(y).T
        return self._hidden(moved, torch.stack([first, top, last, bottom], dim=1))

    def resampled(self, y: Tensor, placements: Placements) -> Tensor:
        """Put boxes around where their corners go."""
        sides = y.new_tensor([self.width, self.height])
        inverse = torch.linalg.inv(placements.matrices[:, :, :2].double())
        x1, y1, x2, y2 = y[..., 1:].double().unbind(dim=-1)
        corners = torch.stack([torch.stack(p, dim=-1) for p in ((x1, y1), (x2, y1), (x1, y2), (x2, y2))], dim=2)
        at = corners / sides * 2 - 1 - placements.matrices[:, None, None, :, 2]  # (B, M, 4, 2), -1..1
        shown = (torch.einsum("bij,bmkj->bmki", inverse, at) + 1) / 2 * sides
        return self._seen(y, torch.cat([shown.amin(dim=2), shown.amax(dim=2)], dim=-1).to(y))

    def blanked(self, y: Tensor, boxes: Tensor) -> Tensor:
        """Drop boxes of which a blank hides too much."""
        top, bottom, left, right = boxes.to(y).T
        return self._hidden(
            y, torch.stack([left * self.width, top * self.height, right * self.width, bottom * self.height], 1)
        )

    def _seen(self, y: Tensor, boxes: Tensor) -> Tensor:
        """Rows with these boxes (B, M, 4), clipped to the picture."""
        limit = y.new_tensor([self.width, self.height, self.width, self.height])
        clipped = torch.minimum(boxes.clamp(min=0), limit)
        before, left = (areas(of) for of in (boxes, clipped))
        return _kept(
            torch.cat([y[..., :1], clipped], dim=-1), (y[..., 0] != NONE) & (left > 0) & (left >= SEEN * before)
        )

    def _hidden(self, y: Tensor, blank: Tensor) -> Tensor:
        """Rows without the boxes that a blank (B, 4) x1, y1, x2, y2 hides."""
        low, high = torch.maximum(y[..., 1:3], blank[:, None, :2]), torch.minimum(y[..., 3:], blank[:, None, 2:])
        hidden, area = (high - low).clamp(min=0).prod(dim=-1), areas(y[..., 1:])
        return _kept(y, (y[..., 0] != NONE) & (area - hidden >= SEEN * area))


def _kept(y: Tensor, there: Tensor) -> Tensor:
    return torch.where(there[..., None], y, NONE)
