"""Scenes of scikit-learn's handwritten digits (Alpaydin & Kaynak 1998, UCI) with a box around each: demo data.

Real digits of 8x8 pixels, enlarged and put on dark, noisy pictures without touching each other. A digit is in scenes of
one split only.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.source import Arrays, RawData, optional_module

SIDE, MOST = 48, 4  # pixels of a scene, and most digits in it
SIZES = (12, 20)  # pixels of a digit, from and to
CLASSES = 4  # 0, 1, 2 and 3
SCENES = {"train": 480, "val": 120, "test": 160}
TRIES = 30  # to find a free place for a digit
NOISE = 25  # grey levels
LEVELS = 16  # of the stored digits


class DigitBoxes:
    """Grey scenes (N, 1, 48, 48) of up to four digits, some of none."""

    name = "digit_boxes"
    summary = "scenes of scikit-learn's handwritten digits 0 to 3, 760 grey pictures of 48x48 with boxes (built in)"
    uses = frozenset[str]()

    def load(self, options: DataOptions) -> RawData:
        """Compose all scenes; the same ones every time."""
        images, labels = _digits()
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(labels < CLASSES))
        ends = np.cumsum([round(len(chosen) * n / sum(SCENES.values())) for n in SCENES.values()])[:-1]
        pools = np.split(chosen, ends)
        splits = {
            split: compose(images[pool], labels[pool], n, seed)
            for seed, ((split, n), pool) in enumerate(zip(SCENES.items(), pools, strict=True))
        }
        classes = tuple(str(digit) for digit in range(CLASSES))
        return RawData(name=self.name, classes=classes, pictures=True, **splits)


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Digits (N, 8, 8) in 0..255, and their numbers."""
    load = optional_module("sklearn.datasets", "scikit-learn", DigitBoxes.name).load_digits
    data, target = load(return_X_y=True)
    return np.rint(data * (255 / LEVELS)).astype(np.uint8).reshape(-1, 8, 8), target


def compose(images: NDArray[np.uint8], labels: NDArray[np.int64], n: int, seed: int) -> Arrays:
    """Put digits on scenes.

    Args:
        images: (D, 8, 8) digits.
        labels: (D,) their numbers.
        n: number of scenes.
        seed: decides all that is random.

    Returns:
        (n, 1, 48, 48) scenes, and (n, 4, 5) class, x1, y1, x2, y2 of the boxes; rows of class -1 are none.
    """
    generator = np.random.default_rng(seed)
    x = generator.integers(0, NOISE, (n, 1, SIDE, SIDE)).astype(np.uint8)
    y = np.full((n, MOST, 5), -1, dtype=np.float32)
    for scene, boxes in zip(x[:, 0], y, strict=True):
        taken = np.zeros((SIDE, SIDE), dtype=bool)
        for row in range(generator.integers(0, MOST + 1)):
            which, side = generator.integers(len(images)), int(generator.integers(SIZES[0], SIZES[1] + 1))
            for top, left in generator.integers(0, SIDE - side + 1, (TRIES, 2)).tolist():
                place = slice(top, top + side), slice(left, left + side)
                if not taken[place].any():
                    break
            else:
                continue
            taken[place] = True
            digit = np.asarray(Image.fromarray(images[which]).resize((side, side), Image.Resampling.BICUBIC))
            scene[place] = np.maximum(scene[place], digit)
            rows, columns = np.nonzero(digit > NOISE * 2)
            edges = columns.min() + left, rows.min() + top, columns.max() + left + 1, rows.max() + top + 1
            boxes[row] = [labels[which], *edges]
    return Arrays(x, y)


PLUGIN = DigitBoxes()
