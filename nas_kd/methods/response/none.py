"""No distillation: cross-entropy alone, the control run of every report."""

from collections.abc import Sequence

from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs


class NoDistillation(Method):
    """Training on the labels alone: loss = CE."""

    name = "none"
    source = "control"
    summary = "cross-entropy on the labels alone"
    needs = frozenset()
    teachers = "none"
    tunable = ()
    target_grad_ratio = None

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return no terms: the labels are all there is."""
        return {}


PLUGIN = NoDistillation
