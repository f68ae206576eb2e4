"""Attention feature distillation (Wang et al. 2020, "Pay attention to features, transfer learn faster CNNs", ICLR).

L = CE + 500 mean over stages, mean over the batch of sum_c rho_c mean over h, w of (f_s / |f_s| - f_t / |f_t|)_c^2

|f| is the length of one channel's map; rho = a / sum_c a, a = sigmoid(W_2 relu(W_1 g + b_1) + b_2), g the teacher's
channels averaged over the map: two layers, trained with the student, read from the teacher's features how much each
channel of a sample matters. The sum of rho is fixed, so ignoring all channels cannot make the term small. (The
attention is a squeeze-and-excitation block, as in later reimplementations, which report that the paper's own is
unstable; with a softmax in place of the sigmoid one easy channel could take all of the weight.)
The paper's networks are equal. Here a trained 1x1 convolution maps the student's channels to the teacher's where their
numbers differ, and the larger map is pooled to the smaller.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import (
    channel_adapter,
    flatten_positions,
    n_channels,
    paired_stages,
    pool_to_smaller,
    require_positions,
    sum_of_squares,
)

MIN_LENGTH = 1e-4  # of a channel's map: the gradient of f / |f| is unbounded where f vanishes


class AttentionFeatureDistillation(Method):
    """Squared difference of normalised channels, weighted by an attention on the teacher's; weight 500."""

    name = "afd"
    source = "Wang 2020, ICLR (Pay attention to features)"
    summary = "normalised feature maps of every stage, channels weighted by attention on the teacher's"
    target_grad_ratio = 0.38
    needs = frozenset({"features"})
    by_stage = True
    version = 2
    weight = 500.0
    adapters: nn.ModuleList
    attention: nn.ModuleList

    def attach(self, context: MethodContext) -> None:
        """Create an adapter and an attention for every stage.

        Raises:
            InputError: one of the networks has no feature map, or tokens that are none beside one.
        """
        pairs = paired_stages(context.student_outputs.features, context.teacher_outputs[0].features)
        require_positions(self.name, pairs)
        self.adapters = nn.ModuleList(channel_adapter(s, t) for s, t in pairs)
        self.attention = nn.ModuleList(ChannelAttention(n_channels(t)) for _, t in pairs)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `afd`, the mean over the stages of the shallower network."""
        pairs = paired_stages(student.features, teachers[0].features)
        stages = []
        for (f_s, f_t), adapt, attend in zip(pairs, self.adapters, self.attention, strict=True):
            s, t = pool_to_smaller(f_s, f_t)
            stages.append((attend(t) * channel_distance(adapt(s), t)).sum(dim=1).mean())
        return {"afd": self.weight * torch.stack(stages).mean()}


class ChannelAttention(nn.Module):
    """Attention over channels: two linear layers on the channels' means, (B, c, h, w) -> (B, c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Return each channel's share of the attention, (B, c); shares of a sample sum to 1."""
        return F.normalize(self.layers(features.mean(dim=(2, 3))), p=1, dim=1)


def channel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of the channels' maps, scaled to unit length: (B, c, h, w) twice -> (B, c).

    (a / |a| - b / |b|)^2 = a^2 / |a|^2 + b^2 / |b|^2 - 2 ab / (|a| |b|): three sums, no normalised copy of a map.
    """
    a, b = flatten_positions(a), flatten_positions(b)
    a_a, b_b, a_b = sum_of_squares(a, dim=1), sum_of_squares(b, dim=1), torch.linalg.vecdot(a, b, dim=1)
    length_a, length_b = (x.clamp_min(MIN_LENGTH**2) for x in (a_a, b_b))
    total: Tensor = a_a / length_a + b_b / length_b - 2 * a_b / (length_a * length_b).sqrt()
    return total / a.shape[1]


PLUGIN = AttentionFeatureDistillation
