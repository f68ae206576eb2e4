"""Deep mutual learning (Zhang et al. 2018, arXiv:1706.00384); three networks, T = 1.

Each network k: L_k = CE_k + mean over the others j of T^2 KL(q_j || q_k), q_j a constant target.
Not calibrated: untrained networks agree with each other, so calibration would inflate a term that starts near 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Network, Outputs
from nas_kd.methods.losses import kl_divergence

N_PEERS = 2  # beside the student


class DeepMutualLearning(Method):
    """The student and two peers of its architecture teach each other; the best of the three is deployed."""

    name = "dml"
    source = "Zhang 2018, arXiv:1706.00384"
    summary = "three networks of the student's architecture teach each other while they learn"
    decisions = frozenset({"sample", "rows"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    unscaled_terms = frozenset({"dml_peers_ce"})
    train_cost_factor = 1.0 + N_PEERS
    default_temperature = 1.0
    _peers: nn.ModuleList
    _run: tuple[Network, ...]

    def attach(self, context: MethodContext) -> None:
        """Build the two peers, each with its own initial weights."""
        self._peers = nn.ModuleList(context.rebuild(1 + i) for i in range(N_PEERS))
        self._run = tuple(context.observe(peer, context.example) for peer in self._peers)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Run the peers and return the mutual losses and their cross-entropies.

        Returns:
            `dml`: the student's KL to its peers; `dml_peers`: the peers' KL to the others; `dml_peers_ce`.
        """
        logits = [student.logits, *(batch.counted(run(batch.x).logits) for run in self._run)]
        mutual = [_from_others(logits, k, self.temperature, batch.weights) for k in range(len(logits))]
        return {
            "dml": mutual[0],
            "dml_peers": torch.stack(mutual[1:]).sum(),
            "dml_peers_ce": torch.stack([batch.label_loss(z) for z in logits[1:]]).sum(),
        }

    def peers(self) -> Sequence[nn.Module]:
        """The two peers, either of which may be deployed."""
        return tuple(self._peers)


def _from_others(logits: Sequence[Tensor], k: int, temperature: float, weights: Tensor | None) -> Tensor:
    """Mean over the other networks of T^2 KL(other || k), for logits (B, C) of all networks."""
    others = [z.detach() for j, z in enumerate(logits) if j != k]
    return torch.stack([kl_divergence(logits[k], z, temperature, weights) for z in others]).mean()


PLUGIN = DeepMutualLearning
