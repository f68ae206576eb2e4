"""The built-in demo data: scikit-learn's handwritten digits (Alpaydin & Kaynak 1998, UCI), 1,797 images of 8x8."""

import numpy as np

from nas_kd.config.options import DataOptions
from nas_kd.data.source import Arrays, RawData, optional_module

LEVELS = 16  # stored grey levels run from 0 to 16


class Digits:
    """Grey images (N, 1, 8, 8); level v is stored as round(255 v / 16), which keeps all 17 levels distinct."""

    name = "digits"
    summary = "scikit-learn's handwritten digits, 1,797 grey images of 8x8, 10 classes (built in)"
    uses = frozenset[str]()

    def load(self, options: DataOptions) -> RawData:
        """Load all samples as one training split, from which validation and test are carved."""
        data, target = optional_module("sklearn.datasets", "scikit-learn", self.name).load_digits(return_X_y=True)
        x = np.rint(data * (255 / LEVELS)).astype(np.uint8).reshape(-1, 1, 8, 8)
        return RawData(name=self.name, train=Arrays(x, target), classes=tuple("0123456789"), pictures=True)


PLUGIN = Digits()
