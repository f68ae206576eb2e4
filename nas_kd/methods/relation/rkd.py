"""Relational knowledge distillation (Park et al. 2019, arXiv:1904.05068), eq. 5-9, on the embedding.

L = CE + 25 mean_ij huber(d_ij^s - d_ij^t) + 50 mean_ijk huber(cos_ijk^s - cos_ijk^t): d_ij are distances divided by
their mean over the batch, cos_ijk is the cosine of the angle at j between i and k; means over all B^2 and B^3 tuples;
huber is quadratic up to 1. Samples whose embeddings coincide have distance 0, cosine 0 and no gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nas_kd.methods.base import Batch, Method, Outputs

COINCIDE = 1e-5  # share of the embeddings' length; float32 cannot resolve smaller distances, directions are noise
TRIPLETS_AT_ONCE = 2**18  # 1 MiB per tensor: stays in a core's cache


class RelationalKD(Method):
    """Distances and angles among the batch's embeddings; ce_weight 1, weights 25 and 50."""

    name = "rkd"
    source = "Park 2019, arXiv:1904.05068"
    summary = "distances and angles among the embeddings of a batch"
    target_grad_ratio = 3.3
    needs = frozenset({"embedding"})
    distance_weight = 25.0
    angle_weight = 50.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `rkd_distance` and `rkd_angle`, from embeddings (B, d) of the student and (B, e) of the teacher."""
        e_s, e_t = student.embedding, teachers[0].embedding
        return {
            "rkd_distance": self.distance_weight * F.smooth_l1_loss(relative_distances(e_s), relative_distances(e_t)),
            "rkd_angle": self.angle_weight * angle_loss(e_s, e_t),
        }


def relative_distances(embedding: Tensor) -> Tensor:
    """Euclidean distances divided by the mean of those that are not 0 (eq. 6): (B, d) -> (B, B)."""
    distance = torch.cdist(
        embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist"
    )  # exact at small distances
    apart = distance > closest(embedding)
    distance = torch.where(apart, distance, 0)
    mean: Tensor = distance.sum() / apart.sum().clamp_min(1)
    return distance / torch.where(mean > 0, mean, 1)


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines at j, mean over all (i, j, k) (eq. 8-9): (B, d), (B, e) -> scalar."""
    loss: Tensor = _AngleLoss.apply(student, teacher)  # type: ignore[no-untyped-call]
    return loss


class _AngleLoss(torch.autograd.Function):
    """Loss and gradient together, a group of j at a time, so that no tensor of size B^3 or B^2 d is kept."""

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
    """Unit vectors from each j of a group to all i, and inverse distances; both are 0 where samples coincide.

    Args:
        embedding: (B, d).
        group: J consecutive samples j.

    Returns:
        (J, B, d) unit vectors and (J, B, 1) inverse distances.
    """
    difference = embedding - embedding[group, None]
    distance = difference.norm(dim=2, keepdim=True)
    smallest = closest(embedding)
    inverse = torch.where(distance > smallest, 1 / distance.clamp_min(smallest), 0)
    return difference.mul_(inverse), inverse


def cosines(direction: Tensor) -> Tensor:
    """Cosines of the angles at j between i and k, from unit vectors: (J, B, d) -> (J, B, B)."""
    return direction @ direction.transpose(1, 2)


def closest(embedding: Tensor) -> Tensor:
    """Largest distance at which two of the embeddings (B, d) count as coinciding: a scalar > 0, no gradient."""
    return (COINCIDE * embedding.detach().square().sum(dim=1).mean().sqrt()).clamp_min(1e-12)


PLUGIN = RelationalKD
