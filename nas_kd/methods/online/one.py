"""Knowledge distillation by on-the-fly native ensemble (ONE; Lan et al. 2018, arXiv:1806.04606); T = 3.

L = sum_i CE_i + CE(z_e) + w sum_i T^2 KL(p_e || q_i), z_e = sum_i g_i z_i, p_e held fixed as a target, over three
branches on one trunk, the student's own last layers the first of them. The gate g = softmax(mean over the map of
ReLU(BN(1x1 conv of the trunk's features))) is trained. w = exp(-5 (1 - e/80)^2) up to epoch 80 of 300, then 1.

The labels' terms keep their weight at any strength: branches that may not learn have nothing to teach. They train the
trunk too, which is half of what the method does. No calibration: branches that know nothing yet agree.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.divergence import kl_divergence
from nas_kd.methods.feature.maps import as_map
from nas_kd.methods.online.branches import Branches

BRANCHES = 3  # the student's own last layers included
RAMP = 80 / 300  # share of the schedule


class NativeEnsemble(Method):
    """The gated ensemble of three branches teaches each of them; the student's own is deployed."""

    name = "one"
    source = "Lan 2018, arXiv:1806.04606"
    summary = "branches on the student's trunk learn from their gated ensemble"
    needs = frozenset({"features"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    unscaled_terms = frozenset({"one_ce"})
    networks = 1 + (BRANCHES - 1) / 3  # a branch of a residual network is about a third of it
    default_temperature = 3.0
    branches: Branches
    gate: nn.Module

    def attach(self, context: MethodContext) -> None:
        """Build the branches and the gate."""
        self.branches = Branches(context, BRANCHES - 1)
        channels = as_map(context.student_outputs.features[self.branches.stage]).shape[1]
        self.gate = nn.Sequential(nn.Conv2d(channels, BRANCHES, 1, bias=False), nn.BatchNorm2d(BRANCHES), nn.ReLU())

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """What the student and what the branches learn from the ensemble; cross-entropies of branches and ensemble."""
        logits = [student.logits, *(branch.logits for branch in self.branches(student))]
        shares = self.gate(as_map(student.features[self.branches.stage])).mean(dim=(2, 3)).softmax(dim=1)
        ensemble = (shares.unsqueeze(2) * torch.stack(logits, dim=1)).sum(dim=1)
        learnt = torch.stack([kl_divergence(z, ensemble.detach(), self.temperature) for z in logits])
        learnt = ramp(batch.progress) * learnt
        labelled = torch.stack([F.cross_entropy(z, batch.y) for z in (*logits[1:], ensemble)])
        return {"one": learnt[0], "one_branches": learnt[1:].sum(), "one_ce": labelled.sum()}


def ramp(progress: float) -> float:
    """Up to 1 at `RAMP` of the schedule. `progress`: 0..1."""
    return math.exp(-5 * (1 - min(1.0, progress / RAMP)) ** 2)


PLUGIN = NativeEnsemble
