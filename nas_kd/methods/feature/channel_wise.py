"""Channel-wise distillation (Shu et al. 2021, arXiv:2011.13256).

L = CE + 3 T^2 / (B c) sum over samples and channels of KL(p_t || p_s), p the softmax over the positions of one
channel's map / T, T = 4, at the last stage. Where the channels differ, a trained 1x1 convolution takes the student's to
the teacher's number. Made for dense maps: a channel says where to look, not how much.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.divergence import kl_divergence
from nas_kd.methods.feature.maps import adapter, pool_to_smaller, same_depth


class ChannelWise(Method):
    """Where each of the student's last channels is active imitates the teacher's."""

    name = "channel_wise"
    source = "Shu 2021, arXiv:2011.13256"
    tunable = ("temperature", "strength")
    summary = "where each channel of the last stage is active, as a distribution over the map"
    target_grad_ratio = 1.0
    needs = frozenset({"features"})
    weight = 3.0
    adapter: nn.Module

    def attach(self, context: MethodContext) -> None:
        """Create the adapter: student's channels -> teacher's."""
        pairs = same_depth(context.student_outputs.features, context.teacher_outputs[0].features)
        self.adapter = adapter(*pairs[-1])

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term."""
        f_s, f_t = pool_to_smaller(student.features[-1], teachers[0].features[-1])
        s, t = (f.flatten(2).flatten(0, 1) for f in (self.adapter(f_s), f_t))  # (B c, h w)
        return {"channel_wise": self.weight * kl_divergence(s, t, self.temperature)}


PLUGIN = ChannelWise
