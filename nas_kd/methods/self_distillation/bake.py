"""Batch knowledge ensembling (BAKE; Ge et al. 2021, arXiv:2104.13298); w = 0.5, T = 4.

L = CE + T^2 KL(Q || P), P the batch's probabilities at T, Q = (1 - w) (I - w A)^-1 P held fixed: each sample's target
is mixed with those of samples like it. A: softmax over the other samples of the cosine similarity of embeddings, its
diagonal 0. Samples are shown in pairs of one class, so that a batch has something to mix; each sample is
shown once an epoch, as in any other method. No calibration: there is no fixed teacher.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.divergence import kl_divergence

GROUP = 2  # samples of one class shown together: with more, a batch of 32 lacks so many classes that training suffers


class BatchEnsembling(Method):
    """Targets are propagated among the samples of a batch that look alike to the student."""

    name = "bake"
    source = "Ge 2021, arXiv:2104.13298"
    summary = "the student's own predictions, mixed among similar samples of the batch, are its targets"
    needs = frozenset({"logits", "embedding"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    share = 0.5  # w: of a target, what comes from other samples

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term."""
        probabilities = (student.logits.detach() / self.temperature).softmax(dim=1)
        target = propagated(probabilities, student.embedding.detach(), self.share)
        as_logits = self.temperature * target.clamp_min(torch.finfo(target.dtype).tiny).log()
        return {"bake": kl_divergence(student.logits, as_logits, self.temperature)}

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Pairs of one class in random order; what is left over of each class comes last."""
        groups, rest = [], []
        for label in sorted(set(labels.tolist())):
            members = torch.nonzero(labels == label).flatten()
            members = members[torch.randperm(len(members), generator=generator)]
            whole = len(members) // GROUP * GROUP
            groups.append(members[:whole].view(-1, GROUP))
            rest.append(members[whole:])
        grouped, left = torch.cat(groups), torch.cat(rest)
        grouped = grouped[torch.randperm(len(grouped), generator=generator)].flatten()
        return torch.cat([grouped, left[torch.randperm(len(left), generator=generator)]])


def propagated(probabilities: Tensor, embedding: Tensor, share: float) -> Tensor:
    """(B, C), (B, d) -> (B, C): (1 - w) (I - w A)^-1 P; a sample alone in its batch keeps its own."""
    if len(probabilities) < 2:
        return probabilities
    unit = F.normalize(embedding, dim=1)
    identity = torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
    similarity = (unit @ unit.T).masked_fill(identity.bool(), -torch.inf).softmax(dim=1)
    mixed: Tensor = torch.linalg.solve(identity - share * similarity, (1 - share) * probabilities)
    return mixed


PLUGIN = BatchEnsembling
