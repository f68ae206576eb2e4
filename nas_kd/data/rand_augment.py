"""RandAugment's operations (Cubuk et al. 2019, arXiv:1909.13719): a few of them, drawn at random, for each picture.

Of the paper's fourteen, those that move pixels or change each on its own, at its magnitude 9 of 30: rotation, shears,
shifts, brightness, contrast, saturation, solarised and posterised values, and none. Those that look at a whole picture
first are left out (equalised and stretched histograms, sharpness): they cost more than a training step can spare.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nas_kd.data.colours import HIGHEST, NEVER, ColourParams, both, no_change
from nas_kd.data.resampling import Placements, after, placements, rotations

MAGNITUDE = 9 / 30
ROTATION, SHEAR, SHIFT = 30.0, 0.3, 0.45  # at magnitude 1: degrees, shares of the other side, shares of the side
FACTOR = 0.9  # brightness, contrast and saturation at magnitude 1: 0.1 or 1.9
FEWER_BITS = 4  # at magnitude 1

Numbers = NDArray[np.float64]
# (strength (N,) with its sign; 0 where the operation was not drawn), height, width -> where pixels come from
MOVES: tuple[Callable[[Numbers, int, int], Placements], ...] = (
    lambda s, height, width: rotations(ROTATION * s, height, width),
    lambda s, height, width: placements(1, SHEAR * s * height / width, 0, 0, 1, 0),
    lambda s, height, width: placements(1, 0, 0, SHEAR * s * width / height, 1, 0),
    lambda s, height, width: placements(1, 0, 2 * SHIFT * s, 0, 1, 0),
    lambda s, height, width: placements(1, 0, 0, 0, 1, 2 * SHIFT * s),
)
PAINTS = ("brightness", "contrast", "saturation", "solarize", "posterize")
N_OPERATIONS = len(MOVES) + len(PAINTS) + 1  # the last changes nothing


class Operations:
    """The operations of N samples in one epoch."""

    def __init__(self, random: NDArray[np.float64]) -> None:
        """Choose them.

        Args:
            random: (N, n, 2) uniform in 0..1: which operation, in which direction, for each of n operations.
        """
        self.n = len(random)
        which, direction = random.transpose(2, 1, 0)
        chosen = np.minimum(N_OPERATIONS - 1, (which * N_OPERATIONS).astype(np.int64))
        signed = np.where(direction < 0.5, -MAGNITUDE, MAGNITUDE)
        self._rounds = [
            [np.where(c == i, s, 0.0) for i in range(N_OPERATIONS)] for c, s in zip(chosen, signed, strict=True)
        ]

    def moved(self, places: Placements, height: int, width: int) -> Placements:
        """Place pixels by the operations that move them, in the picture that `places` makes."""
        for strengths in self._rounds:
            for move, strength in zip(MOVES, strengths, strict=False):
                places = after(places, move(strength, height, width))
        return places

    def colours(self) -> ColourParams:
        """What the other operations do to colours."""
        found = no_change(self.n)
        for strengths in self._rounds:
            brightness, contrast, saturation, solarize, posterize = strengths[len(MOVES) : -1]
            lighter, more = 1 + FACTOR * brightness, 1 + FACTOR * contrast
            threshold = np.where(solarize == 0, NEVER, HIGHEST * (1 - np.abs(solarize)))
            levels = 2.0 ** np.round(FEWER_BITS * np.abs(posterize))
            drawn = ColourParams(lighter * more, more, 1 + FACTOR * saturation, threshold, levels)
            found = both(found, drawn)
        return found
