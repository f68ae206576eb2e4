"""The data of the detection demo: scenes of handwritten digits, and a box around each of them."""

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.digit_scenes import CELLS, DIGITS, Placed, Scene, scene_data
from nas_kd.data.source import RawData

MOST = CELLS * CELLS  # digits of a scene


class DigitBoxes:
    """Grey scenes (N, 1, 32, 32) with boxes (N, 4, 5): a class for each digit; some scenes have none."""

    name = "digit_boxes"
    summary = "scenes composed of scikit-learn's handwritten 0, 1 and 7, with a box around each (built in)"
    uses = frozenset[str]()

    def load(self, options: DataOptions) -> RawData:
        """Compose the scenes of all splits; those for testing are of digits of their own."""
        return scene_data(self.name, options, tuple(f"digit {digit}" for digit in DIGITS), _boxes)


def _boxes(scene: Scene) -> NDArray[np.float32]:
    """(4, 5) class, x1, y1, x2, y2 in pixels; rows of class -1 are no boxes."""
    found = np.full((MOST, 5), -1, dtype=np.float32)
    for row, digit in zip(found, scene.digits, strict=False):
        row[:] = digit.number, *_around(digit)
    return found


def _around(digit: Placed) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(digit.pixels)
    top, left = digit.top, digit.left
    return left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1


PLUGIN = DigitBoxes()
