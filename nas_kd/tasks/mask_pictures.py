"""Draws test samples with their masks and what a network made of them, for reports."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas_kd.results.finalist_record import PictureRecord
from nas_kd.tasks.masks import VOID

HEIGHT, WIDEST, GAP = 128, 256, 4  # pixels of one panel, and between panels
TINT = 0.6  # of a class over its picture
# Okabe & Ito's palette, which colour-blind readers can tell apart; class 0 is left as it is.
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (230, 159, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66))
UNKNOWN = (128, 128, 128)  # void


def mask_pictures(
    x: NDArray[np.float32], truth: NDArray[np.uint8], given: NDArray[np.int64], names: Sequence[str]
) -> tuple[PictureRecord, ...]:
    """Draw a picture for each sample: as it is, with its mask, and with a network's mask.

    Args:
        x: (N, C, H, W) samples in stored units; one channel or the first three are shown, from darkest to lightest.
        truth: (N, H, W) masks.
        given: (N, H, W) the network's.
        names: of the classes.
    """
    found = []
    for sample, mask, other in zip(x, truth, given, strict=True):
        there = [names[c] for c in np.unique(mask) if c != VOID]
        right = float((mask == other)[mask != VOID].mean()) if there else 0.0
        panels = [_panel(_grey_or_colour(sample), m) for m in (None, mask, other)]
        gap = np.full((panels[0].shape[0], GAP, 3), 255, dtype=np.uint8)
        strip = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
        caption = (
            f"Sample, its mask ({', '.join(there) or 'void'}), and the network's: {100 * right:.0f} % of pixels alike."
        )
        found.append(PictureRecord(caption=caption, png=_png(strip)))
    return tuple(found)


def _grey_or_colour(sample: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) of a sample (C, H, W)."""
    shown = sample[:3] if len(sample) > 2 else sample[:1].repeat(3, axis=0)
    low, high = float(shown.min()), float(shown.max())
    grey: NDArray[np.uint8] = np.rint((shown - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return grey.transpose(1, 2, 0)


def _panel(picture: NDArray[np.uint8], mask: NDArray[np.integer] | None) -> NDArray[np.uint8]:
    """A picture under a tint for each class but the first, enlarged by whole pixels."""
    if mask is not None:
        tinted = picture.copy()
        for number in np.unique(mask):
            if number == 0:
                continue
            colour = UNKNOWN if number == VOID else COLOURS[(int(number) - 1) % len(COLOURS)]
            inside = mask == number
            tinted[inside] = np.rint((1 - TINT) * picture[inside] + TINT * np.array(colour)).astype(np.uint8)
        picture = tinted
    height, width = picture.shape[:2]
    factor = min(HEIGHT / height, WIDEST / width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST), dtype=np.uint8)


def _png(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(128).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
