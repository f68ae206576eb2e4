"""Online distillation with diverse peers (OKDDip; Chen et al. 2020, arXiv:1912.00350) on branches; T = 3.

L = sum_a CE_a + r T^2 (sum over auxiliary peers a of KL(t_a || q_a) + KL(mean_b q_b || q_leader)): three auxiliary
branches beside the leader, which is the student's own last layers. t_a = sum_b w_ab q_b with w_ab = softmax over b of
(W_L h_a) . (W_E h_b), h a branch's embedding. In t_a only the q_b are constants: with the weights w constant too, the
projections W_L and W_E would never learn. r = exp(-5 (1 - e/80)^2) up to epoch 80 of 300, then 1, as in `one`.

The terms on the labels keep their weight at any strength, and train the trunk too. Not calibrated: see `one`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.losses import kl_divergence
from nas_kd.methods.online.one import Branches, ramp

N_AUXILIARY = 3  # beside the leader
MAX_PROJECTION = 128


class DiversePeers(Method):
    """Each auxiliary branch learns from its own mixture of branches, the leader from their mean; it is deployed."""

    name = "okddip"
    source = "Chen 2020, arXiv:1912.00350"
    summary = "branches learn from mixtures of each other chosen by attention, the student from their mean"
    needs = frozenset({"features", "embedding"})
    decisions = frozenset({"sample"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    unscaled_terms = frozenset({"okddip_ce"})
    train_cost_factor = 1 + N_AUXILIARY / 3  # see `one`
    default_temperature = 3.0
    version = 2
    branches: Branches
    left: nn.Linear
    right: nn.Linear

    def attach(self, context: MethodContext) -> None:
        """Build the auxiliary branches and the attention's two projections.

        Raises:
            InputError: the student has no feature map to branch behind.
        """
        self.branches = Branches(context, N_AUXILIARY)
        width = context.student_outputs.embedding.shape[1]
        projection = min(width, MAX_PROJECTION)
        self.left = nn.Linear(width, projection, bias=False)
        self.right = nn.Linear(width, projection, bias=False)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Run the branches and return the losses of leader and branches.

        Returns:
            `okddip`: the leader's KL; `okddip_peers`: the branches' KL; `okddip_ce`: their cross-entropies.
        """
        peers = self.branches(student)
        embeddings = torch.stack([peer.embedding for peer in peers], dim=1)
        fixed = torch.stack([(peer.logits.detach() / self.temperature).softmax(dim=1) for peer in peers], dim=1)
        targets = (self.left(embeddings) @ self.right(embeddings).mT).softmax(dim=2) @ fixed  # (B, peers, C)
        learnt = [self._learn(peer.logits, targets[:, a]) for a, peer in enumerate(peers)]
        weight = ramp(batch.progress)
        return {
            "okddip": weight * self._learn(student.logits, fixed.mean(dim=1)),
            "okddip_peers": weight * torch.stack(learnt).sum(),
            "okddip_ce": torch.stack([batch.label_loss(peer.logits) for peer in peers]).sum(),
        }

    def _learn(self, logits: Tensor, target: Tensor) -> Tensor:
        """T^2 KL(target || softmax(logits / T)), of target probabilities and logits (B, C)."""
        as_logits = self.temperature * target.clamp_min(torch.finfo(target.dtype).tiny).log()
        return kl_divergence(logits, as_logits, self.temperature)


PLUGIN = DiversePeers
