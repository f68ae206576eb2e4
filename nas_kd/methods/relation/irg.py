"""Instance relationship graphs (Liu et al. 2019, "Knowledge Distillation via Instance Relationship Graph", CVPR).

L = CE + 0.1 mse(vertices) + 5 mean of mse(edges) + 5 mse(transformations), each between student's and teacher's.
Vertices are the logits. Edges are the squared distances between the samples of a batch, divided by their maximum; there
is a graph of them at each of the last two stages and at the embedding, and the mean is over these graphs.
Transformations are the squared distances between a sample's maps at those two stages, divided by the batch's maximum;
for these, positions and neighbouring channels of both maps are averaged to one size.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.feature.alignment import paired_stages, pool_to_smaller

STAGES = 2
MAP_DIMS = 4
MIN_MAXIMUM = 1e-8  # share of the samples' squared length: smaller distances are rounding, no unit to divide by


class InstanceRelationshipGraph(Method):
    """The batch as a graph: vertices, edges, and changes of samples between stages; weights 0.1, 5, 5."""

    name = "irg"
    source = "Liu 2019, CVPR"
    summary = "graph of a batch: logits, distances between samples, changes between stages"
    target_grad_ratio = 0.76
    any_classes = True
    needs = frozenset({"logits", "features", "embedding"})
    version = 2
    vertex_weight = 0.1
    edge_weight = 5.0
    transformation_weight = 5.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `irg_vertices`, `irg_edges` and, if both networks have two stages, `irg_transformations`."""
        teacher = teachers[0]
        both = student.features and teacher.features
        stages = paired_stages(student.features, teacher.features)[-STAGES:] if both else []
        graphs = [*stages, (student.embedding, teacher.embedding)]
        terms = {
            "irg_vertices": self.vertex_weight * F.mse_loss(student.logits, teacher.logits),
            "irg_edges": self.edge_weight * torch.stack([F.mse_loss(edges(s), edges(t)) for s, t in graphs]).mean(),
        }
        if len(stages) == STAGES:
            of_student, of_teacher = (transformations(*maps) for maps in zip(*stages, strict=True))
            terms["irg_transformations"] = self.transformation_weight * F.mse_loss(of_student, of_teacher)
        return terms


def edges(features: Tensor) -> Tensor:
    """Squared distances between samples divided by the largest: (B, ...) -> (B, B)."""
    flat = _flat(features)
    centred = flat - flat.detach().mean(dim=0)  # leaves distances as they are; a large common part would cost precision
    products: Tensor = _Gram.apply(centred)  # type: ignore[no-untyped-call]
    squares = products.diagonal()
    distances = (squares[:, None] + squares - 2 * products).clamp_min(0)
    return _over_maximum(distances, flat)


class _Gram(torch.autograd.Function):
    """F F^T with its gradient (G + G^T) F as one product instead of two."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:
        ctx.save_for_backward(flat)
        return flat @ flat.T

    @staticmethod
    def backward(ctx: Any, by_products: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        gradient: Tensor = (by_products + by_products.T) @ flat
        return gradient


def _flat(features: Tensor) -> Tensor:
    """Flatten samples in memory order, (B, ...) -> (B, values); distances do not depend on the order."""
    lies_by_channels = features.dim() == MAP_DIMS and features.is_contiguous(memory_format=torch.channels_last)
    return (features.permute(0, 2, 3, 1) if lies_by_channels else features).flatten(1)


def transformations(earlier: Tensor, later: Tensor) -> Tensor:
    """Squared distance between each sample's maps at two stages, divided by the largest.

    Args:
        earlier: (B, c, h, w).
        later: (B, d, k, l).

    Returns:
        (B,), at most 1.
    """
    a, b = pool_to_smaller(earlier, later)
    channels = min(a.shape[1], b.shape[1])
    a, b = (_average_channels(x, channels) for x in (a, b))
    return _over_maximum((a - b).square().flatten(1).sum(dim=1), _flat(earlier))


def _average_channels(x: Tensor, channels: int) -> Tensor:
    """Average neighbouring channels by a 1x1 convolution: (B, c, h, w) -> (B, channels, h, w)."""
    if x.shape[1] == channels:
        return x
    weights = F.adaptive_avg_pool1d(torch.eye(x.shape[1], dtype=x.dtype), channels)
    return F.conv2d(x, weights.T[:, :, None, None])


def _over_maximum(distances: Tensor, flat: Tensor) -> Tensor:
    smallest = MIN_MAXIMUM * flat.detach().square().sum() / len(flat)
    return distances / torch.maximum(distances.max(), smallest.clamp_min(1e-20))


PLUGIN = InstanceRelationshipGraph
