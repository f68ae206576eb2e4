"""Data-free learning of student networks (Chen et al. 2019, arXiv:1904.01186), section 3.

A generator learns to make pictures x that the teacher takes for training samples, z_t and e_t its logits and embedding:
L_G = CE(z_t, argmax z_t) + 5 sum_c m_c log10 m_c - 0.1 mean |e_t| + D(x), m the batch's mean softmax. The published 5
belongs to the logarithm of base 10. D, not in the paper, is the distance from the teacher's batch normalisation
statistics (Yin et al. 2020, eq. 4; 0 if it has none): on 8x8 digits it took the student from 57 % to 93 %
(validation, 540 steps, one seed).
L = T^2 KL(p || q) on these pictures, without labels; T = 4.

Also beside the paper: the student learns from a bank of the last pictures, shifted at random, so that it does not
forget what the generator no longer makes (96 to 98 %, 3 seeds); the generator's learning rate is 0.001 (Adam).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.data_free.generator import Generator
from nas_kd.methods.data_free.pictures import Bank, Critic, Seen, shifted
from nas_kd.methods.divergence import kl_divergence


class DAFL(Method):
    """A generator makes up what the student learns from; ce_weight 0, kd_weight 1."""

    name = "dafl"
    source = "Chen 2019, arXiv:1904.01186"
    summary = "no training images: a generator, trained against the teacher, makes them up"
    needs = frozenset({"logits", "embedding", "network"})
    tunable = ("temperature",)
    ce_weight = 0.0
    target_grad_ratio = None
    batch_size = 96
    kept_batches = 20
    entropy_weight = 5.0
    activation_weight = 0.1
    statistics_weight = 1.0
    learning_rate = 1e-3
    generator: Generator
    bank: Bank

    def attach(self, context: MethodContext) -> None:
        """Create the generator, its optimiser and the bank."""
        self._critic = Critic(context, self.name)
        self.generator = Generator(self._critic.shape)
        self.bank = Bank(self.batch_size * self.kept_batches, self._critic.shape)
        self._adam = torch.optim.Adam(self.generator.parameters(), lr=self.learning_rate, betas=(0.5, 0.999))

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The generator's."""
        return {"generator": self._adam}

    def draw(self, real: Callable[[], Batch]) -> Batch:
        """Improve the generator by one step, keep its pictures, and show some of those kept."""
        x = self.generator.make(self.batch_size)
        seen = self._critic(x)
        self._adam.zero_grad()
        self.generator_loss(seen).backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self.bank.put(x, seen.outputs.logits.argmax(dim=1))
        x, y = self.bank.draw(self.batch_size)
        return self._critic.batch(shifted(x), y)

    def generator_loss(self, seen: Seen) -> Tensor:
        """L_G."""
        logits = seen.outputs.logits
        log_mean = logits.log_softmax(dim=1).logsumexp(dim=0) - torch.tensor(float(len(logits))).log()
        return (
            F.cross_entropy(logits, logits.argmax(dim=1))
            + self.entropy_weight * (log_mean.exp() * log_mean).sum() / torch.tensor(10.0).log()
            - self.activation_weight * seen.outputs.embedding.abs().mean()
            + self.statistics_weight * seen.distance
        )

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term."""
        return {"dafl": kl_divergence(student.logits, teachers[0].logits, self.temperature)}


PLUGIN = DAFL
