"""Attention feature distillation (Wang et al. 2020, "Pay attention to features, transfer learn faster CNNs", ICLR).

L = CE + 500 mean over stages, mean over the batch of sum_c rho_c mean over h, w of (f_s / |f_s| - f_t / |f_t|)_c^2

|f| is the length of one channel's map; rho = a / sum_c a, a = sigmoid(W_2 relu(W_1 g + b_1) + b_2), g the teacher's
channels averaged over the map: how much a channel matters is read from the teacher's features of that sample, by two
layers trained along with the student. The sum of rho is fixed, so the term cannot be made small by ignoring all
channels. (The attention is a squeeze-and-excitation block, as in later reimplementations, which report that the
paper's own is unstable; a sigmoid rather than a softmax keeps one easy channel from taking all of it.)
The paper's networks are equal; here a trained 1x1 convolution takes the student's channels to the teacher's number
where they differ, the larger map is pooled to the smaller, and both to 64 positions at most.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.maps import (
    adapter,
    at_most,
    channels,
    pool_to_smaller,
    positions,
    same_depth,
    square_sums,
)

SHORTEST = 1e-4  # of a channel's map: the gradient of f / |f| has no bound where f vanishes
POSITIONS = 64  # of a map, 8 x 8: with more, the early stages would cost more than a training step may


class AttentionFeatureDistillation(Method):
    """The student's channels imitate the teacher's, those first that matter most to the teacher."""

    name = "afd"
    source = "Wang 2020, ICLR (Pay attention to features)"
    summary = "normalised feature maps of every stage, channels weighted by attention on the teacher's"
    target_grad_ratio = 1.0
    needs = frozenset({"features"})
    weight = 500.0
    adapters: nn.ModuleList
    attention: nn.ModuleList

    def attach(self, context: MethodContext) -> None:
        """Create an adapter and an attention for every stage."""
        pairs = same_depth(context.student_outputs.features, context.teacher_outputs[0].features)
        self.adapters = nn.ModuleList(adapter(s, t) for s, t in pairs)
        self.attention = nn.ModuleList(ChannelAttention(channels(t)) for _, t in pairs)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term, the mean of the stages."""
        pairs = same_depth(student.features, teachers[0].features)
        stages = []
        for (f_s, f_t), adapt, attend in zip(pairs, self.adapters, self.attention, strict=True):
            s, t = (at_most(f, POSITIONS) for f in pool_to_smaller(f_s, f_t))
            stages.append((attend(t) * channel_distance(adapt(s), t)).sum(dim=1).mean())
        return {"afd": self.weight * torch.stack(stages).mean()}


class ChannelAttention(nn.Module):
    """(B, c, h, w) -> (B, c): each channel's share of the attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Shares add up to 1 in every sample."""
        return F.normalize(self.layers(features.mean(dim=(2, 3))), p=1, dim=1)


def channel_distance(a: Tensor, b: Tensor) -> Tensor:
    """(B, c, h, w) twice -> (B, c): mean square difference of the channels' maps, each of unit length.

    (a / |a| - b / |b|)^2 = a^2 / |a|^2 + b^2 / |b|^2 - 2 ab / (|a| |b|): sums, without any map being normalised.
    """
    a, b = positions(a), positions(b)
    a_a, b_b, a_b = square_sums(a, dim=1), square_sums(b, dim=1), torch.linalg.vecdot(a, b, dim=1)
    length_a, length_b = (x.clamp_min(SHORTEST**2) for x in (a_a, b_b))
    total: Tensor = a_a / length_a + b_b / length_b - 2 * a_b / (length_a * length_b).sqrt()
    return total / a.shape[1]


PLUGIN = AttentionFeatureDistillation
