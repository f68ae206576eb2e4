"""Batch knowledge ensembling (BAKE; Ge et al. 2021, arXiv:2104.13298); w = 0.5, T = 4.

L = CE + T^2 KL(Q || P), P the batch's probabilities at T, Q = (1 - w) (I - w A)^-1 P a constant target: each sample's
target is mixed with those of similar samples. A is the softmax over the other samples of the cosine similarity of
embeddings, with diagonal 0. Samples come in pairs of one class, so that a batch has similar samples to mix; each sample
is used once per epoch, as in any other method. Not calibrated: there is no fixed teacher.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.losses import kl_divergence

GROUP = 2  # consecutive samples of one class; more would leave too few classes in a batch of 32


class BatchEnsembling(Method):
    """KL to targets propagated among similar samples of the batch; mixing share w 0.5."""

    name = "bake"
    source = "Ge 2021, arXiv:2104.13298"
    summary = "the student's own predictions, mixed among similar samples of the batch, are its targets"
    needs = frozenset({"logits", "embedding"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    share = 0.5  # w: the part of a target that comes from other samples

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `bake`: T^2 KL of the probabilities (B, C) to the propagated ones."""
        probabilities = (student.logits.detach() / self.temperature).softmax(dim=1)
        target = propagated(probabilities, student.embedding.detach(), self.share)
        as_logits = self.temperature * target.clamp_min(torch.finfo(target.dtype).tiny).log()
        return {"bake": kl_divergence(student.logits, as_logits, self.temperature)}

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Order samples as pairs of one class, the pairs at random; unpaired samples come last.

        Args:
            labels: (N,) int64 class numbers.
            generator: the source of randomness.

        Returns:
            (N,) int64, a permutation of 0..N-1.
        """
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
    """Mix predictions among similar samples: (1 - w) (I - w A)^-1 P.

    Args:
        probabilities: P, (B, C).
        embedding: (B, d), compared by cosine similarity.
        share: w, 0..1.

    Returns:
        (B, C); a batch of one sample is returned as it is.
    """
    if len(probabilities) < 2:
        return probabilities
    unit = F.normalize(embedding, dim=1)
    identity = torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
    similarity = (unit @ unit.T).masked_fill(identity.bool(), -torch.inf).softmax(dim=1)
    mixed: Tensor = torch.linalg.solve(identity - share * similarity, (1 - share) * probabilities)
    return mixed


PLUGIN = BatchEnsembling
