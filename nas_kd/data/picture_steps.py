"""How a picture becomes a sample: upright, grey or RGB, resized by one rule; and the size if none is given."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median_low
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Resize = Literal["crop", "letterbox", "stretch"]
Size = tuple[int, int]  # (height, width)
Pixels = NDArray[np.uint8]  # (H, W) grey or (H, W, 3) colour
SPACE_SIDE = 64  # pixels: the built-in search spaces are made for pictures up to this side
GREY = frozenset({"1", "L", "LA", "La"})
COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
ORIENTATION, TURNED = 0x0112, frozenset({5, 6, 7, 8})  # EXIF: width and height change places
_RULES = {
    "crop": "centre crop of the right shape",
    "letterbox": "the whole picture with black bars",
    "stretch": "the whole picture, distorted to the shape",
}


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

    image_size: Size
    resize: Resize
    colour: Literal["grey", "rgb"]
    interpolation: str = "bicubic"
    fill: int = 0

    def to_json(self) -> dict[str, Any]:
        """The steps as values of JSON."""
        return asdict(self) | {"image_size": list(self.image_size)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "PictureSteps":
        """Make the steps of what `to_json` returned."""
        height, width = value["image_size"]
        return PictureSteps(**(value | {"image_size": (height, width)}))

    @staticmethod
    def of_arrays(input_shape: Sequence[int]) -> "PictureSteps":
        """The usual steps towards samples (C, H, W) that came as arrays: the centre is cut out and resized."""
        channels, height, width = input_shape
        return PictureSteps((height, width), "crop", "grey" if channels == 1 else "rgb")


def picture_pixels(
    image: Image.Image, size: Size, resize: Resize, colour: Literal["grey", "rgb"] | None = None
) -> Pixels:
    """Make an opened picture upright, grey or RGB by its own mode, and of this size.

    Args:
        image: opened, not yet decoded; of a mode in `GREY` or `COLOUR`.
        size: height and width in pixels.
        resize: the rule for pictures of another size.
        colour: channels that are wanted whatever the picture's own mode is; None: those of its mode.

    Returns:
        (height, width) for grey pictures, (height, width, 3) for colour.
    """
    height, width = size
    image.draft(None, (2 * max(size), 2 * max(size)))  # large JPEGs decode straight to a smaller scale
    upright = ImageOps.exif_transpose(image) if "exif" in image.info else image
    if upright.mode in ("P", "PA") and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    grey = image.mode in GREY if colour is None else colour == "grey"
    flat = upright.convert("L" if grey else "RGB")
    if flat.size == (width, height):
        return np.asarray(flat)
    bicubic = Image.Resampling.BICUBIC
    if resize == "crop":
        return np.asarray(ImageOps.fit(flat, (width, height), bicubic))
    if resize == "letterbox":
        return np.asarray(ImageOps.pad(flat, (width, height), bicubic))
    return np.asarray(flat.resize((width, height), bicubic))


def letterboxed(shown: Size, size: Size) -> tuple[tuple[float, float], tuple[int, int]]:
    """Where the pixels of a picture go in a letterboxed sample: to scale * (column, row) + start.

    Args:
        shown: height and width of the picture.
        size: height and width of the sample.

    Returns:
        Scale and start, of columns and of rows, as Pillow's `ImageOps.pad` has them.
    """
    (height, width), (wanted_height, wanted_width) = shown, size
    wide = width / height > wanted_width / wanted_height
    inner = (
        (round(height / width * wanted_width), wanted_width)
        if wide
        else (wanted_height, round(width / height * wanted_height))
    )
    scale = inner[1] / width, inner[0] / height
    start = round((wanted_width - inner[1]) * 0.5), round((wanted_height - inner[0]) * 0.5)
    return scale, start


def upright_size(image: Image.Image) -> Size:
    """Height and width of a picture as it is shown; read from its header."""
    turned = "exif" in image.info and image.getexif().get(ORIENTATION) in TURNED
    return (image.width, image.height) if turned else (image.height, image.width)


def default_size(sizes: Sequence[Size]) -> tuple[Size, str]:
    """Choose the size of samples: the pictures' own, bounded by what the search spaces are made for.

    Args:
        sizes: heights and widths of pictures; without any, the bound.

    Returns:
        Height and width, and where they come from. The size of more than half of the pictures is kept, with the shape
        if it is too large; without such a size, samples become square.
    """
    bound = f"at most {SPACE_SIDE} unless data.image_size is set"
    if not sizes:
        return (SPACE_SIDE, SPACE_SIDE), bound
    usual, count = Counter(sizes).most_common(1)[0]
    if 2 * count <= len(sizes):
        shorter = median_low(min(size) for size in sizes)
        side = min(shorter, SPACE_SIDE)
        return (side, side), f"they differ in size, the median of their shorter sides is {shorter}; {bound}"
    which = "their own size" if count == len(sizes) else "the size of most"
    if max(usual) <= SPACE_SIDE:
        return usual, which
    height, width = (max(1, round(side * SPACE_SIDE / max(usual))) for side in usual)
    return (height, width), f"{which} is {size_text(usual)}; {bound}"


def size_sentence(size: Size, why: str, resize: Resize, resized: int, total: int) -> str:
    """Say in one line how large pictures are, why, and by which rule they were resized.

    Args:
        size: height and width.
        why: where they come from.
        resize: the rule.
        resized: pictures that had another size.
        total: all pictures.
    """
    how = f"; {resized:,} of {total:,} were resized: {_RULES[resize]}, bicubic" if resized else ""
    return f"pictures: {size_text(size)} pixels ({why}){how}"


def size_text(size: Size) -> str:
    """Height and width for people, such as `96x128 (height x width)`; squares are plain."""
    height, width = size
    return f"{height}x{width}" + ("" if height == width else " (height x width)")
