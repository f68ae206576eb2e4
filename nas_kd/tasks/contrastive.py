"""Supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362, eq. 2), and an order of samples that suits it.

  L = mean over i of -1/|P(i)| sum_(p in P(i)) log( exp(z_i z_p / t) / sum_(a != i) exp(z_i z_a / t) ),  t = 0.1,

where z are vectors of length 1, P(i) the other samples of i's identity in the batch, and a sample without any is left
out. It needs no weights for identities, as a margin softmax does (CosFace, arXiv:1801.09414; ArcFace,
arXiv:1801.07698): so it can be computed on identities that training has never seen, and nothing is trained, kept in
checkpoints or thrown away beside the network.
"""

import torch
from torch import Generator, Tensor

TEMPERATURE = 0.1
GROUP = 4  # consecutive samples of one identity


def agreement(y: Tensor, other: Tensor | None = None, share: Tensor | None = None) -> Tensor:
    """How far two samples are of one identity: the inner product of their soft labels, 0 for a sample and itself.

    Args:
        y: (B,) identities.
        other: (B,) of what the samples are mixed with; None: they are not mixed.
        share: (B,) what is left of the samples themselves.

    Returns:
        (B, B), 0..1.
    """
    if other is None or share is None:
        same = (y[:, None] == y[None]).float()
    else:
        parts = ((y, share), (other, 1 - share))
        same = sum(
            (torch.outer(s, t) * (a[:, None] == b[None]) for a, s in parts for b, t in parts),
            start=torch.zeros(len(y), len(y), device=y.device),
        )
    return same.fill_diagonal_(0)


def supervised_contrastive(z: Tensor, same: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Compute the loss of a batch; 0 where no sample has another of its identity.

    Args:
        z: (B, d) vectors of length 1. Gradients reach them.
        same: (B, B) see `agreement`.
        temperature: t > 0.

    Returns:
        A scalar.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_p = (z @ z.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1).masked_fill(itself, 0)
    total = same.sum(dim=1)
    has_others = (total > 0).to(z.dtype)
    each = -(same * log_p).sum(dim=1) / total.clamp_min(torch.finfo(z.dtype).eps)
    loss: Tensor = (each * has_others).sum() / has_others.sum().clamp_min(1)
    return loss


def grouped_order(y: Tensor, generator: Generator) -> Tensor:
    """Order samples in groups of up to `GROUP` of one identity, the groups at random.

    In random order few samples of a batch would have another of their identity beside them.

    Args:
        y: (N,) identities.
        generator: the source of randomness.

    Returns:
        (N,) int64, a permutation of 0..N-1.
    """
    n = len(y)
    shuffled = torch.randperm(n, generator=generator)
    order = shuffled[y[shuffled].argsort(stable=True)]
    _, counts = torch.unique_consecutive(y[order], return_counts=True)
    place = torch.arange(n) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # within the identity
    first = place % GROUP == 0
    of_group = first.cumsum(0) - 1
    rank = torch.randperm(int(first.sum()), generator=generator)
    return order[rank[of_group].argsort(stable=True)]
