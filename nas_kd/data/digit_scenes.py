"""Scenes composed of scikit-learn's real handwritten digits: what demos of dense tasks learn on.

Alpaydin & Kaynak 1998, UCI. A digit's own pixels say where it is, so that masks and boxes are known exactly. Digits of
test scenes are none of those that training scenes are composed of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.source import Arrays, RawData, optional_module

SIDE = 32  # pixels of a scene
CELLS = 2  # along each side, with one digit in each at most
SIZES = (12, 16)  # smallest and largest side of a digit, pixels
DIGITS = (0, 1, 7)  # that are used
INK = 0.4  # share of the darkest ink from which a pixel belongs to its digit
LEVELS = 16  # grey levels of the digits as they are stored
TEST_SHARE = 0.3  # of the digits
SCENES = {"train": 700, "val": 150, "test": 250}


@dataclass(frozen=True)
class Placed:
    """A digit in a scene.

    Attributes:
        number: its place in `DIGITS`.
        top: row of its upper edge, pixels.
        left: column of its left edge.
        ink: (h, w) 0..1, how dark it is.
    """

    number: int
    top: int
    left: int
    ink: NDArray[np.float64]

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """(h, w), which of its pixels are the digit."""
        return self.ink >= INK


@dataclass(frozen=True)
class Scene:
    """A grey picture (SIDE, SIDE) uint8, and the digits in it."""

    picture: NDArray[np.uint8]
    digits: tuple[Placed, ...]


def scene_data(
    name: str, options: DataOptions, classes: tuple[str, ...], target: Callable[[Scene], NDArray[Any]]
) -> RawData:
    """Compose the scenes of all splits; those for testing are of digits of their own.

    Args:
        name: of the data set.
        options: `train_rows` and `test_rows`.
        classes: their names.
        target: makes the target of a scene.
    """
    rows = {"train": options.train_rows, "test": options.test_rows}
    splits = dict[str, Arrays]()
    for seed, (split, n) in enumerate(SCENES.items()):
        scenes = compose(min(n, rows.get(split) or n), seed, test=split == "test")
        x = np.stack([scene.picture for scene in scenes])[:, None]
        splits[split] = Arrays(x, np.stack([target(scene) for scene in scenes]))
    return RawData(
        name=name,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        classes=classes,
        pictures=True,
        notes=("scenes are composed of scikit-learn's handwritten digits; those of test are of other digits",),
    )


def compose(n: int, seed: int, *, test: bool = False) -> list[Scene]:
    """Draw scenes: a slope of grey, up to four digits of several sizes and inks, and noise.

    Args:
        n: how many.
        seed: of all that is random.
        test: of the digits that are kept for testing.
    """
    generator = np.random.default_rng((seed, int(test)))
    return [_scene(generator, test) for _ in range(n)]


def _scene(generator: np.random.Generator, test: bool) -> Scene:
    step, digits = SIDE // CELLS, list[Placed]()
    for cell in range(CELLS * CELLS):
        if generator.random() < 0.6:
            digits.append(_placed(generator, test, step * (cell // CELLS), step * (cell % CELLS), step))
    slope = generator.uniform(-40, 40, 2)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    canvas = generator.uniform(60, 110) + slope[0] * rows + slope[1] * columns
    for digit in digits:
        height, width = digit.ink.shape
        canvas[digit.top : digit.top + height, digit.left : digit.left + width] += digit.ink * generator.uniform(
            60, 130
        )
    noisy = canvas + generator.normal(0, 8, canvas.shape)
    return Scene(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), tuple(digits))


def _placed(generator: np.random.Generator, test: bool, top: int, left: int, step: int) -> Placed:
    number = int(generator.integers(len(DIGITS)))
    pool = _pool(DIGITS[number], test)
    side = int(generator.integers(SIZES[0], SIZES[1] + 1))
    enlarged = Image.fromarray(pool[int(generator.integers(len(pool)))]).resize((side, side), Image.Resampling.BILINEAR)
    ink = np.asarray(enlarged, dtype=np.float64) / 255
    shift = generator.integers(0, step - side + 1, 2)
    return Placed(number, top + int(shift[0]), left + int(shift[1]), ink)


@cache
def _pool(digit: int, test: bool) -> NDArray[np.uint8]:
    """All pictures (n, 8, 8) of a digit that are for testing, or that are not."""
    found = optional_module("sklearn.datasets", "scikit-learn", "digit scenes").load_digits()
    pictures: NDArray[np.uint8] = np.rint(found.images[found.target == digit] * (255 / LEVELS)).astype(np.uint8)
    kept = round(len(pictures) * (1 - TEST_SHARE))
    chosen: NDArray[np.uint8] = pictures[kept:] if test else pictures[:kept]
    return chosen
