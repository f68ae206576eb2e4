"""Born-again networks (Furlanello et al. 2018, arXiv:1805.04770); T = 1.

L = CE + T^2 KL(p || q), p the previous generation's probabilities, q the student's. The student's own architecture is
trained twice before: once on the labels alone, then from that network with this loss; the third network is the student.
The paper tries up to three generations after the first; here two, because each costs a whole training.
"""

from collections.abc import Sequence

from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.losses import kl_divergence


class BornAgain(Method):
    """KL to an earlier network of the student's own architecture; ce_weight 1, kd_weight 1."""

    name = "born_again"
    source = "Furlanello 2018, arXiv:1805.04770"
    summary = "generations of the student's own architecture, each learning from the one before"
    decisions = frozenset({"sample", "rows"})
    tunable = ("temperature", "strength")
    generations = 2
    default_temperature = 1.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `born_again`: T^2 KL to the previous generation's probabilities (B, C)."""
        return {"born_again": kl_divergence(student.logits, teachers[0].logits, self.temperature, batch.weights)}


PLUGIN = BornAgain
