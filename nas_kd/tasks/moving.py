"""How targets move with a picture that is augmented: a task whose targets have places names one of these kinds.

Views draw what happens to each picture and show it to the kind of targets, in the order in which it happens.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor


class Shifts(NamedTuple):
    """Whole pixels by which B pictures are moved, in front of a background.

    Attributes:
        offset: (B, 2) int64; pixel (row, column) of what is shown is that at (row, column) + offset of the picture, or
            lies outside of it.
        flip: (B,) bool, shown mirrored left-right, before the shift: the column is width - 1 - column.
        hole: (B, 4) int64 top, bottom, left and right of what is blanked, in what is shown, the second and last
            exclusive; may lie partly outside. Empty where nothing is.
    """

    offset: Tensor
    flip: Tensor
    hole: Tensor


class Placements(NamedTuple):
    """Where the pixels of B pictures come from after crops, mirroring, rotation and shear.

    Attributes:
        matrices: (B, 2, 3) float32; what is shown at (column, row), -1..1 from edge to edge, is at
            M @ (column, row, 1) of the picture. Beyond an edge is the picture's mirror image.
        grid: (B, H, W, 2) float32, the same for the centres of all pixels, as torch's `grid_sample` takes it.
    """

    matrices: Tensor
    grid: Tensor


class MovingTargets(ABC):
    """Targets that have places in a picture, such as masks or boxes.

    Attributes:
        mixes: ways of mixing samples that these targets can follow, of "mixup" and "cutmix".
    """

    mixes: frozenset[str] = frozenset()

    @abstractmethod
    def shifted(self, y: Tensor, shifts: Shifts) -> Tensor:
        """Move the targets y (B, ...) of pictures as their pixels are, whole pixels."""

    @abstractmethod
    def resampled(self, y: Tensor, placements: Placements) -> Tensor:
        """Move the targets y (B, ...) of pictures that are cropped, resized, mirrored or turned."""

    @abstractmethod
    def blanked(self, y: Tensor, boxes: Tensor) -> Tensor:
        """What is left of targets where a rectangle of each picture is blanked.

        Args:
            y: (B, ...).
            boxes: (B, 4) top, bottom, left and right in shares 0..1 of the sides; empty ones change nothing.
        """

    def pasted(self, y: Tensor, other: Tensor, inside: Tensor) -> Tensor:
        """Targets of pictures into which a rectangle of others is pasted (cutmix).

        Args:
            y: (B, ...) of the pictures.
            other: (B, ...) of the others.
            inside: (B, 1, H, W) bool, which pixels are the other picture's.

        Raises:
            TypeError: these targets cannot be pasted; `mixes` has no "cutmix".
        """
        raise TypeError(f"{type(self).__name__} cannot be pasted")
