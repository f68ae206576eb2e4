"""How a picture becomes a sample: upright, grey or RGB, resized by one rule."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Resize = Literal["crop", "letterbox", "stretch"]


@dataclass(frozen=True)
class PictureSteps:
    """What turns a decoded picture file into a sample, all of it by Pillow, in this order.

    1. JPEG files only: `draft(None, (2 s, 2 s))` with s the longer side of `image_size`.
    2. `ImageOps.exif_transpose`; the first frame of animations.
    3. Palettes with transparency become RGBA; then `convert("L")` if `colour` is "grey", else `convert("RGB")`, which
       drops transparency.
    4. If the size differs: crop: `ImageOps.fit`, letterbox: `ImageOps.pad` with value `fill`, stretch: `resize`, each
       with `interpolation`.

    Attributes:
        image_size: height and width in pixels.
        resize: the rule.
        colour: channels of a sample: grey has one, rgb three, in this order.
        interpolation: Pillow's filter, which averages over the pixels that it leaves out.
        fill: value of the bars of letterboxed pictures.
    """

    image_size: tuple[int, int]
    resize: Resize
    colour: Literal["grey", "rgb"]
    interpolation: str = "bicubic"
    fill: int = 0

    def to_json(self) -> dict[str, Any]:
        """The steps as values of JSON."""
        return asdict(self) | {"image_size": list(self.image_size)}

    @staticmethod
    def of_arrays(input_shape: Sequence[int]) -> "PictureSteps":
        """The usual steps towards samples (C, H, W): the centre is cut out and resized."""
        channels, height, width = input_shape
        return PictureSteps((height, width), "crop", "grey" if channels == 1 else "rgb")
