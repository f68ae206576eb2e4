"""Conditional adversarial networks on logits (Xu et al. 2018, arXiv:1709.00513).

Student: L = CE + mean |z_s - z_t| - log D(z_s) - log D_y(z_s). Discriminator: -log D(z_t) - log(1 - D(z_s))
- log D_y(z_t) - log D_y(z_s). D: whether logits come from the teacher; D_y: the probability of the label, which keeps
the student from fooling D with logits of another class. Both are trained in the same step; the discriminator, three
hidden layers of 128, 256 and 128, by the student's optimiser, whatever the strength.

The discriminator's layers are spectrally normalised (Miyato et al. 2018, arXiv:1802.05957), which the paper does not
do: its gradient on the student then stays as large as cross-entropy's, however sure it is. Without it, on 8x8 digits,
students ended at chance. Calibrated to half of cross-entropy's gradient (balance .5): at 1, after 12 epochs of 640
digits, students were a point worse (three seeds).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nas_kd.methods.adversarial.frozen import frozen
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs

HIDDEN = (128, 256, 128)


class AdversarialLogits(Method):
    """A discriminator learns what sets the student's logits apart from the teacher's; the student learns to fool it."""

    name = "adversarial_logits"
    source = "Xu 2018, arXiv:1709.00513"
    summary = "a discriminator on logits, that also tells the class, learns the loss"
    target_grad_ratio = 0.5
    unscaled_terms = frozenset({"adversarial_logits_discriminator"})
    discriminator: nn.Module

    def attach(self, context: MethodContext) -> None:
        """Build the discriminator: C logits -> whether they are a teacher's, then C classes."""
        widths = (context.n_classes, *HIDDEN)
        layers: list[nn.Module] = []
        for before, after in zip(widths, HIDDEN, strict=False):
            layers += [spectral_norm(nn.Linear(before, after)), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*layers, spectral_norm(nn.Linear(HIDDEN[-1], 1 + context.n_classes)))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Towards the teacher's logits; to fool the discriminator; its own."""
        taught = teachers[0].logits
        fooling = judged(frozen(self.discriminator, student.logits), batch.y, 1.0)
        real, fake = self.discriminator(torch.cat([taught, student.logits.detach()])).chunk(2)
        return {
            "adversarial_logits_l1": F.l1_loss(student.logits, taught),
            "adversarial_logits_fooling": fooling,
            "adversarial_logits_discriminator": judged(real, batch.y, 1.0) + judged(fake, batch.y, 0.0),
        }


def judged(verdicts: Tensor, labels: Tensor, real: float) -> Tensor:
    """Loss of verdicts (B, 1 + C) that shall say `real` (1: the teacher's, 0: the student's) and the labels (B,)."""
    truth = torch.full_like(verdicts[:, 0], real)
    return F.binary_cross_entropy_with_logits(verdicts[:, 0], truth) + F.cross_entropy(verdicts[:, 1:], labels)


PLUGIN = AdversarialLogits
