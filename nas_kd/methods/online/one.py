"""Knowledge distillation by on-the-fly native ensemble (ONE; Lan et al. 2018, arXiv:1806.04606); T = 3.

L = sum_i CE_i + CE(z_e) + w sum_i T^2 KL(p_e || q_i), z_e = sum_i g_i z_i, p_e a constant target, over three
branches on one trunk; the student's own last layers are the first of them. The gate g = softmax(ReLU(BN(W h))) is
trained, h the trunk's features, averaged over the map. w = exp(-5 (1 - e/80)^2) up to epoch 80 of 300, then 1.

The terms on the labels keep their weight at any strength: branches that do not learn have nothing to teach. They train
the trunk too, which is half of the method's effect. Not calibrated: untrained branches agree with each other, so the
term starts near 0.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Network, Outputs
from nas_kd.methods.feature.alignment import as_feature_map
from nas_kd.methods.losses import kl_divergence

N_BRANCHES = 3  # the student's own last layers included
RAMP = 80 / 300  # share of the schedule


class Branches(nn.Module):
    """Copies of the student's layers after stage `stage`, with fresh weights, on the student's own trunk."""

    def __init__(self, context: MethodContext, count: int) -> None:
        """Build the branches.

        Args:
            context: the student and a function that cuts its last layers off.
            count: number of branches.

        Raises:
            InputError: the student has no feature map, or cannot be cut there.
        """
        super().__init__()
        self.stage = context.branch_stage
        self.tails = nn.ModuleList(context.branch(1 + i) for i in range(count))
        example = context.student_outputs.features[self.stage]
        self._run: tuple[Network, ...] = tuple(context.observe(tail, example) for tail in self.tails)

    def forward(self, student: Outputs) -> list[Outputs]:
        """Run every branch on the student's features; gradients reach the trunk."""
        # On clones: a branch that starts with an in-place operation would change the features of all others.
        return [run(student.features[self.stage].clone()) for run in self._run]


class NativeEnsemble(Method):
    """The gated ensemble of three branches teaches each of them; the student's own is deployed."""

    name = "one"
    source = "Lan 2018, arXiv:1806.04606"
    summary = "branches on the student's trunk learn from their gated ensemble"
    needs = frozenset({"features"})
    decisions = frozenset({"sample"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    unscaled_terms = frozenset({"one_ce"})
    train_cost_factor = 1 + (N_BRANCHES - 1) / 3  # a branch of a residual network is about a third of it
    default_temperature = 3.0
    version = 2
    branches: Branches
    gate: nn.Module

    def attach(self, context: MethodContext) -> None:
        """Build the two extra branches and the gate.

        Raises:
            InputError: the student has no feature map to branch behind.
        """
        self.branches = Branches(context, N_BRANCHES - 1)
        channels = as_feature_map(context.student_outputs.features[self.branches.stage]).shape[1]
        self.gate = nn.Sequential(nn.Linear(channels, N_BRANCHES, bias=False), nn.BatchNorm1d(N_BRANCHES), nn.ReLU())

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Run the branches and return the losses towards their gated ensemble.

        Returns:
            `one`: the student's KL; `one_branches`: the branches' KL; `one_ce`: cross-entropies of branches and
                ensemble.
        """
        logits = [student.logits, *(branch.logits for branch in self.branches(student))]
        trunk = as_feature_map(student.features[self.branches.stage])
        shares = self.gate(trunk.mean(dim=(2, 3))).softmax(dim=1)
        ensemble = (shares.unsqueeze(2) * torch.stack(logits, dim=1)).sum(dim=1)
        learnt = torch.stack([kl_divergence(z, ensemble.detach(), self.temperature) for z in logits])
        learnt = ramp(batch.progress) * learnt
        labelled = torch.stack([batch.label_loss(z) for z in (*logits[1:], ensemble)])
        return {"one": learnt[0], "one_branches": learnt[1:].sum(), "one_ce": labelled.sum()}


def ramp(progress: float) -> float:
    """Weight of what branches learn from each other, rising to 1 at `RAMP` of the schedule; `progress` is 0..1."""
    return math.exp(-5 * (1 - min(1.0, progress / RAMP)) ** 2)


PLUGIN = NativeEnsemble
