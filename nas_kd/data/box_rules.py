"""What becomes of boxes as people store them: which are kept, clipped, left out or refused, by rule and counted."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from nas_kd.data.notes import LeftOut
from nas_kd.data.picture_steps import Size
from nas_kd.errors import InputError, printable

SLACK = 1.0  # pixels beyond an edge that are not worth a word: some count from 1
NUMBERS = "its numbers are not finite"
UPSIDE_DOWN = "upside down"
NO_AREA, OUTSIDE, CROWD = "without area", "outside of the picture", "of a crowd or marked as difficult"


class Box(NamedTuple):
    """A box as it was stored.

    Attributes:
        label: name of its class.
        x1: left edge, pixels of the picture as it is shown, or shares of its width (see `BoxPicture.shares`).
        y1: upper edge.
        x2: right edge.
        y2: lower edge.
        ignored: whether scores are not to count it: a crowd, or difficult.
    """

    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    ignored: bool = False


class BoxRules:
    """Cleans the boxes of all pictures, and counts what it did.

    Attributes:
        left_out: boxes that are not learned, by reason.
        clipped: number of boxes that reached beyond the picture.
    """

    def __init__(self, *, skips: bool) -> None:
        """Set what happens to broken boxes.

        Args:
            skips: leave them out; else they are refused.
        """
        self.left_out, self.clipped = LeftOut(), 0
        self._skips = skips

    def cleaned(self, boxes: Sequence[Box], size: Size, where: str) -> list[Box]:
        """Keep the boxes that can be learned, clipped to the picture.

        Args:
            boxes: in pixels.
            size: height and width of the picture as it is shown.
            where: name of the picture.

        Raises:
            InputError: a box is upside down or has numbers that are not finite, and these are to be refused.
        """
        found = (self._cleaned(box, size, where) for box in boxes)
        return [box for box in found if box is not None]

    def _cleaned(self, box: Box, size: Size, where: str) -> Box | None:
        numbers = box[1:5]
        broken = NUMBERS if not all(map(math.isfinite, numbers)) else UPSIDE_DOWN
        if broken is NUMBERS or box.x2 < box.x1 or box.y2 < box.y1:
            shown = ", ".join(f"{number:g}" for number in numbers)
            self.refuse_or_skip(f"{where}: the box {shown} of class {box.label!r} is broken: {broken}", broken, where)
            return None
        height, width = size
        x1, x2 = (min(max(x, 0.0), width) for x in (box.x1, box.x2))
        y1, y2 = (min(max(y, 0.0), height) for y in (box.y1, box.y2))
        flat, outside = box.x1 == box.x2 or box.y1 == box.y2, x1 >= x2 or y1 >= y2
        if box.ignored or flat or outside:
            self.left_out.add(CROWD if box.ignored else NO_AREA if flat else OUTSIDE, where)
            return None
        self.clipped += max(abs(a - b) for a, b in zip((x1, y1, x2, y2), numbers, strict=True)) > SLACK
        return box._replace(x1=x1, y1=y1, x2=x2, y2=y2)

    def refuse_or_skip(self, message: str, reason: str, where: str) -> None:
        """Refuse the data for something broken, or count it as left out.

        Args:
            message: what is wrong.
            reason: a few words that others with the same fault share.
            where: name of the picture or file.

        Raises:
            InputError: broken things are to be refused.
        """
        if not self._skips:
            raise InputError(printable(f'{message}; data.on_error = "skip" leaves such entries out'))
        self.left_out.add(reason, where)

    def notes(self) -> list[str]:
        """What was done to the boxes, one sentence each."""
        clipped = [f"{self.clipped:,} boxes that reached beyond their picture were clipped"] if self.clipped else []
        return [*clipped, *([f"boxes that were left out: {self.left_out.summary()}"] if self.left_out.counts else [])]
