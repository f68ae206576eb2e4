"""Draws test samples with their boxes beside those of a network, for reports."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nas_kd.results.finalist_record import PictureRecord
from nas_kd.tasks.mask_pictures import COLOURS, GAP, HEIGHT, WIDEST, png_of, shown_pixels


def box_pictures(
    x: NDArray[np.float32],
    truth: NDArray[np.float32],
    found: Sequence[NDArray[np.float32]],
    names: Sequence[str],
    floor: float,
) -> tuple[PictureRecord, ...]:
    """Draw a picture for each sample: with its boxes, and with those of a network.

    Args:
        x: (N, C, H, W) samples in stored units; one channel or the first three are shown, from darkest to lightest.
        truth: (N, M, 5) class, x1, y1, x2, y2; rows of class -1 are no boxes.
        found: of each sample, (D, 6) class, probability, x1, y1, x2, y2.
        names: of the classes.
        floor: probability from which on boxes are drawn.
    """
    drawn = []
    for sample, boxes, given in zip(x, truth, found, strict=True):
        true, sure = boxes[boxes[:, 0] >= 0], given[given[:, 1] >= floor]
        pixels = shown_pixels(sample)
        panels = [_panel(pixels, rows) for rows in (true, np.delete(sure, 1, axis=1))]
        gap = np.full((panels[0].shape[0], GAP, 3), 255, dtype=np.uint8)
        caption = f"Sample with its boxes ({_counts(true, names)}), and with the network's ({_counts(sure, names)})."
        drawn.append(PictureRecord(caption=caption, png=png_of(np.concatenate([panels[0], gap, panels[1]], axis=1))))
    return tuple(drawn)


def _panel(picture: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture, enlarged, with frames of a colour for each class."""
    height, width = picture.shape[:2]
    factor = min(2 * HEIGHT / height, WIDEST / width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for label, *edges in boxes.tolist():
        x1, y1, x2, y2 = (round(edge * factor) for edge in edges)
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=COLOURS[int(label) % len(COLOURS)], width=2)
    return np.asarray(image, dtype=np.uint8)


def _counts(boxes: NDArray[np.float32], names: Sequence[str]) -> str:
    numbers, counts = np.unique(boxes[:, 0].astype(int), return_counts=True)
    return ", ".join(f"{count} {names[number]}" for number, count in zip(numbers, counts, strict=True)) or "none"
