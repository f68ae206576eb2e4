"""Channel-wise distillation (Shu et al. 2021, arXiv:2011.13256).

L = CE + 3 T^2 / (B c) sum over samples and channels of KL(p_t || p_s), p the softmax over the positions of one
channel's map / T, T = 4, at the last stage. Where the numbers of channels differ, a trained 1x1 convolution maps the
student's channels to the teacher's. Designed for dense maps: only where a channel is active counts, not how strongly.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import channel_adapter, paired_stages, pool_to_smaller, require_positions
from nas_kd.methods.losses import kl_divergence


class ChannelWise(Method):
    """KL between the channels' spatial distributions at the last stage; weight 3."""

    name = "channel_wise"
    source = "Shu 2021, arXiv:2011.13256"
    tunable = ("temperature", "strength")
    summary = "where each channel of the last stage is active, as a distribution over the map"
    target_grad_ratio = 0.5
    needs = frozenset({"features"})
    by_stage = True
    weight = 3.0
    adapter: nn.Module

    def attach(self, context: MethodContext) -> None:
        """Create the adapter from the student's channels to the teacher's.

        Raises:
            InputError: one of the networks has no feature map, or tokens that are none beside one.
        """
        pairs = paired_stages(context.student_outputs.features, context.teacher_outputs[0].features)
        require_positions(self.name, pairs[-1:])
        self.adapter = channel_adapter(*pairs[-1])

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `channel_wise`: maps (B, c, h, w) compared as B c distributions over h w positions."""
        f_s, f_t = pool_to_smaller(student.features[-1], teachers[0].features[-1])
        s, t = (f.flatten(2).flatten(0, 1) for f in (self.adapter(f_s), f_t))  # (B c, h w)
        return {"channel_wise": self.weight * kl_divergence(s, t, self.temperature)}


PLUGIN = ChannelWise
