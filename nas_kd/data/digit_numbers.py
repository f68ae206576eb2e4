"""Two-digit numbers composed of scikit-learn's real handwritten digits: identities for the demo of embeddings.

Alpaydin & Kaynak 1998, UCI. An identity is a number from 00 to 99; a picture of it is two handwritten digits side by
side. No digit is used twice, so that identities which are not in training are made of handwriting that is not either.
"""

import numpy as np

from nas_kd.config.options import DataOptions
from nas_kd.data.source import Arrays, RawData, optional_module

NUMBERS, DIGITS, SIDE, LEVELS = 100, 10, 8, 16
PICTURES = 8  # of each number: there are 174 pictures of the rarest digit, and 20 of its places to fill in each round


class DigitNumbers:
    """Grey images (N, 1, 8, 16) of 100 numbers, 8 pictures each; levels are those of source `digits`."""

    name = "digit_numbers"
    summary = "two-digit numbers of scikit-learn's handwritten digits, 100 identities with 8 pictures each (built in)"
    uses = frozenset[str]()

    def load(self, options: DataOptions) -> RawData:
        """Compose all pictures: always the same ones."""
        data, target = optional_module("sklearn.datasets", "scikit-learn", self.name).load_digits(return_X_y=True)
        pixels = np.rint(data * (255 / LEVELS)).astype(np.uint8).reshape(-1, SIDE, SIDE)
        order = np.random.default_rng(0).permutation(len(target))
        unused = {digit: iter(order[target[order] == digit]) for digit in range(DIGITS)}
        numbers = np.tile(np.arange(NUMBERS), PICTURES)
        chosen = [(next(unused[n // DIGITS]), next(unused[n % DIGITS])) for n in numbers.tolist()]
        x = np.stack([np.concatenate([pixels[left], pixels[right]], axis=1) for left, right in chosen])
        return RawData(self.name, Arrays(x[:, None], np.array([f"{n:02d}" for n in numbers])), pictures=True)


PLUGIN = DigitNumbers()
