"""Relational knowledge distillation (Park et al. 2019, arXiv:1904.05068), eq. 5-9, on the classifier's input.

L = CE + 25 mean_ij huber(d_ij^s - d_ij^t) + 50 mean_ijk huber(cos_ijk^s - cos_ijk^t): d_ij distances in units of their
mean over the batch, cos_ijk of the angle at j between i and k; means over all B^2 and B^3 tuples, huber with its bend
at 1. Samples whose embeddings coincide have distance 0 and angle 0, and no gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nas_kd.methods.base import Batch, Method, Outputs

COINCIDE = 1e-5  # of the embeddings' length: float32 knows no distance below, and directions there are noise
TRIPLETS_AT_ONCE = 2**18  # 1 MiB a tensor: stays in a core's cache


class RelationalKD(Method):
    """Distances and angles among the batch's embeddings; ce_weight 1, distances 25, angles 50."""

    name = "rkd"
    source = "Park 2019, arXiv:1904.05068"
    summary = "distances and angles among the embeddings of a batch"
    target_grad_ratio = 1.0
    needs = frozenset({"embedding"})
    distance_weight = 25.0
    angle_weight = 50.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Two terms: `rkd_distance`, `rkd_angle`."""
        e_s, e_t = student.embedding, teachers[0].embedding
        return {
            "rkd_distance": self.distance_weight * F.smooth_l1_loss(relative_distances(e_s), relative_distances(e_t)),
            "rkd_angle": self.angle_weight * angle_loss(e_s, e_t),
        }


def relative_distances(embedding: Tensor) -> Tensor:
    """(B, d) -> (B, B): Euclidean distances over the mean of those that are not 0 (eq. 6)."""
    distance = torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")  # exact at small ones
    apart = distance > closest(embedding)
    distance = torch.where(apart, distance, 0)
    mean: Tensor = distance.sum() / apart.sum().clamp_min(1)
    return distance / torch.where(mean > 0, mean, 1)


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all (i, j, k) of the huber loss between cosines at j (eq. 8-9); (B, d), (B, e) -> scalar."""
    loss: Tensor = _AngleLoss.apply(student, teacher)  # type: ignore[no-untyped-call]
    return loss


class _AngleLoss(torch.autograd.Function):
    """Works out the gradient beside the loss, some j at a time: nothing of size B^3 or B^2 d outlives its turn."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        b = len(student)
        total, gradient = student.new_zeros(()), torch.zeros_like(student)
        for at in range(0, b, each := max(1, TRIPLETS_AT_ONCE // b**2)):
            group = slice(at, at + each)
            d, inverse = directions(student, group)
            difference = cosines(d).sub_(cosines(directions(teacher, group)[0]))
            slope = difference.clamp(-1, 1)  # huber(x) = slope (x - slope / 2)
            total += (slope.flatten() @ difference.flatten()) - 0.5 * (slope.flatten() @ slope.flatten())
            by_direction = 2 * (slope @ d)  # twice: cosines are symmetric in i and k
            across = by_direction - d * (d * by_direction).sum(dim=2, keepdim=True)
            by_difference = across * inverse
            gradient += by_difference.sum(dim=0)
            gradient[group] -= by_difference.sum(dim=1)
        ctx.save_for_backward(gradient / b**3)
        return total / b**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return by_loss * gradient, None


def directions(embedding: Tensor, group: slice) -> tuple[Tensor, Tensor]:
    """Unit vectors from each j of the group to all i, and 1 / distance; 0 where they coincide: (J, B, d), (J, B, 1)."""
    difference = embedding - embedding[group, None]
    distance = difference.norm(dim=2, keepdim=True)
    smallest = closest(embedding)
    inverse = torch.where(distance > smallest, 1 / distance.clamp_min(smallest), 0)
    return difference.mul_(inverse), inverse


def cosines(direction: Tensor) -> Tensor:
    """(J, B, d) -> (J, B, B): of the angle at j between i and k."""
    return direction @ direction.transpose(1, 2)


def closest(embedding: Tensor) -> Tensor:
    """The distance from which on two embeddings (B, d) are held to be apart: scalar > 0, no gradient."""
    return (COINCIDE * embedding.detach().square().sum(dim=1).mean().sqrt()).clamp_min(1e-12)


PLUGIN = RelationalKD
