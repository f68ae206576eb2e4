"""Born-again networks (Furlanello et al. 2018, arXiv:1805.04770); T = 1.

L = CE + T^2 KL(p || q), p the previous generation's probabilities, q the student's. The student's own architecture is
trained twice before: once on the labels alone, then from that network with this loss; the third one is the student.
The paper tries up to three behind the first; two here, because each costs a whole training.
"""

from collections.abc import Sequence

from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.divergence import kl_divergence


class BornAgain(Method):
    """The student learns from a network like itself, trained before it."""

    name = "born_again"
    source = "Furlanello 2018, arXiv:1805.04770"
    summary = "generations of the student's own architecture, each learning from the one before"
    tunable = ("temperature", "strength")
    generations = 2
    default_temperature = 1.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term."""
        return {"born_again": kl_divergence(student.logits, teachers[0].logits, self.temperature)}


PLUGIN = BornAgain
