"""How an image file became a sample: what a program that runs the exported file has to repeat. Imports no torch."""

from typing import Literal

from nas_kd.results.trial_record import Record

Resize = Literal["crop", "letterbox", "stretch"]


class PictureSteps(Record):
    """The steps from an image file to pixels (C, H, W); orientation tags are applied before, 8 bits a channel.

    Attributes:
        height: in pixels.
        width: in pixels.
        resize: crop: the centre of the target's shape is cut out and resized; letterbox: the whole picture, with black
            bars; stretch: the whole picture, without regard to its shape.
        interpolation: of the resizing.
    """

    height: int
    width: int
    resize: Resize = "crop"
    interpolation: Literal["bicubic"] = "bicubic"
