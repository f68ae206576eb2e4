"""Feature-map-level online adversarial distillation (Chung et al. 2020, arXiv:2002.01775); T = 3.

Two networks k: L_k = CE_k + T^2 KL(q_other || q_k) + .1 mean (1 - D_k(f_k))^2, q_other a constant target, f the last
map. Discriminators: mean (1 - D_k(f_other))^2 + D_k(f_k)^2: D_k tells the other network's maps (1) from those of
network k (0), which learns to fool it (least squares). They are trained in the same step by the student's optimizer, on
detached maps, at any strength. Not calibrated: there is no fixed teacher.

The discriminators' layers are spectrally normalised (Miyato et al. 2018, arXiv:1802.05957) instead of having a learning
rate of their own: at the networks' rate, without it, students on 8x8 digits lost 25 points. The weight .1 is this
project's too: with 1, after 12 epochs of 640 digits, students were one point worse (three seeds).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nas_kd.errors import InputError
from nas_kd.methods.adversarial.adversarial_logits import apply_frozen
from nas_kd.methods.base import Batch, Method, MethodContext, Network, Outputs
from nas_kd.methods.feature.alignment import as_feature_map
from nas_kd.methods.losses import kl_divergence

HIDDEN = 32  # channels inside a discriminator


class AdversarialOnline(Method):
    """Two networks teach each other by logits and by feature maps; the more accurate one is deployed."""

    name = "adversarial_online"
    source = "Chung 2020, arXiv:2002.01775"
    summary = "two networks teach each other; discriminators compare their feature maps"
    needs = frozenset({"logits", "features"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    unscaled_terms = frozenset({"adversarial_online_peer_ce", "adversarial_online_discriminators"})
    train_cost_factor = 2.0
    default_temperature = 3.0
    peer: nn.Module
    discriminators: nn.ModuleList
    fooling_weight = 0.1
    _run: Network

    def attach(self, context: MethodContext) -> None:
        """Build the peer and a discriminator for each of the two networks.

        Raises:
            InputError: the student has no feature map.
        """
        if not context.student_outputs.features:
            raise InputError(f"method {self.name!r} compares feature maps, and the student has none")
        self.peer = context.rebuild(1)
        self._run = context.observe(self.peer, context.example)
        channels = as_feature_map(context.student_outputs.features[-1]).shape[1]
        self.discriminators = nn.ModuleList(Discriminator(channels) for _ in range(2))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Run the peer and return the losses of both networks and of the discriminators.

        Returns:
            For student and peer: KL and fooling; the peer's cross-entropy; the discriminators' own loss.
        """
        peer = self._run(batch.x)
        maps = as_feature_map(student.features[-1]), as_feature_map(peer.features[-1])
        d_student, d_peer = self.discriminators
        return {
            "adversarial_online_kl": kl_divergence(student.logits, peer.logits.detach(), self.temperature),
            "adversarial_online_peer_kl": kl_divergence(peer.logits, student.logits.detach(), self.temperature),
            "adversarial_online_fooling": self.fooling_weight * (1 - apply_frozen(d_student, maps[0])).square().mean(),
            "adversarial_online_peer_fooling": self.fooling_weight
            * (1 - apply_frozen(d_peer, maps[1])).square().mean(),
            "adversarial_online_peer_ce": batch.label_loss(peer.logits),
            "adversarial_online_discriminators": _discriminator_loss(d_student, *maps)
            + _discriminator_loss(d_peer, *maps[::-1]),
        }

    def peers(self) -> Sequence[nn.Module]:
        """The peer, which may be deployed instead."""
        return (self.peer,)


class Discriminator(nn.Module):
    """Discriminator of maps, (B, c, h, w) -> (B,) in 0..1: bounded, so that its gradient is bounded too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = spectral_norm(nn.Conv2d(channels, HIDDEN, 3, padding=1))
        self.second = spectral_norm(nn.Conv2d(HIDDEN, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return a verdict per sample, (B,): 1 for maps of the other network, 0 for its own."""
        hidden = F.leaky_relu(self.first(features), 0.2)
        verdict: Tensor = self.second(hidden).mean(dim=(1, 2, 3)).sigmoid()
        return verdict


def _discriminator_loss(discriminator: nn.Module, own: Tensor, other: Tensor) -> Tensor:
    """Least-squares loss of a discriminator: 0 for its own network's maps, 1 for the other's."""
    real, fake = discriminator(torch.cat([other.detach(), own.detach()])).chunk(2)
    loss: Tensor = (1 - real).square().mean() + fake.square().mean()
    return loss


PLUGIN = AdversarialOnline
