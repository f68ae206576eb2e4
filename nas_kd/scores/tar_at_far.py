"""True accept rate at a false accept rate: whether two samples are of one identity, told by their cosine."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.scores.embeddings import Embeddings, IdentityScore, accepted_above


class TarAtFar(IdentityScore):
    """Share of the pairs of one identity above the cosine that a share of the pairs of two identities is above.

    It is the highest point of the ROC curve whose false accept rate is not above `far`: nothing is interpolated. In a
    resample identity g counts w_g times, its pairs w_g times, its pairs with h w_g w_h times.

    Attributes:
        far: false accept rate.
    """

    name = "tar_at_far"
    title = "TAR at FAR 0.01"
    unit = "share of pairs of one identity that are accepted, 0..1"
    summary = "share of pairs of one identity that are accepted where 1 % of the pairs of two are"
    far: ClassVar[float] = 0.01

    def weighted(self, evidence: Embeddings, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Walk along the pairs from the most alike."""
        pairs, sizes = evidence.pairs, evidence.sizes
        total = (np.square(times @ sizes) - np.square(times) @ np.square(sizes)) / 2
        scale = pairs.n_other / max(1.0, (np.square(sizes.sum()) - np.square(sizes).sum()) / 2)  # some pairs left out
        found = np.zeros(len(times))
        for row, (drawn, others) in enumerate(zip(times, total * scale, strict=True)):
            refused = accepted_above(pairs, self.far * others, drawn[pairs.first] * drawn[pairs.second])
            weights = drawn[pairs.same_of]
            accepted = int(np.searchsorted(-pairs.same, -refused, side="left"))
            found[row] = weights[:accepted].sum() / max(1.0, weights.sum())
        return found

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """Vectors drawn at random accept pairs of one identity as often as others."""
        return self.far


PLUGIN = TarAtFar()
