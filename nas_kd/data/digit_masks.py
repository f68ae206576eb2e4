"""The data of the segmentation demo: scenes of handwritten digits, and which pixels belong to which of them."""

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.digit_scenes import DIGITS, SIDE, Scene, scene_data
from nas_kd.data.source import RawData


class DigitMasks:
    """Grey scenes (N, 1, 32, 32) with masks (N, 32, 32): 0 for the background, then a class for each digit."""

    name = "digit_masks"
    summary = "scenes composed of scikit-learn's handwritten 0, 1 and 7, with a mask each (built in)"
    uses = frozenset[str]()

    def load(self, options: DataOptions) -> RawData:
        """Compose the scenes of all splits; those for testing are of digits of their own."""
        return scene_data(self.name, options, ("background", *(f"digit {digit}" for digit in DIGITS)), _mask)


def _mask(scene: Scene) -> NDArray[np.uint8]:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for digit in scene.digits:
        height, width = digit.ink.shape
        mask[digit.top : digit.top + height, digit.left : digit.left + width][digit.pixels] = 1 + digit.number
    return mask


PLUGIN = DigitMasks()
