"""Logit matching (Ba & Caruana 2014, arXiv:1312.6184), eq. 1.

L = CE + 0.1 mean over batch and classes of (z_s - z_t)^2. The paper trains on the second term alone, without labels.
The term grows with the teacher's logits, so the published weight means little without calibration.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.losses import weighted_mean


class Logits(Method):
    """The student's logits, or numbers, imitate the teacher's, without a softmax in between."""

    name = "logits"
    source = "Ba & Caruana 2014, arXiv:1312.6184"
    summary = "mean squared difference of the logits, or of the numbers of a regression"
    decisions = frozenset({"sample", "rows", "values"})
    target_grad_ratio = 0.42
    any_classes = True
    weight = 0.1

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `logits`: 0.1 times the mean squared difference of logits (B, C)."""
        if batch.weights is None:
            return {"logits": self.weight * F.mse_loss(student.logits, teachers[0].logits)}
        rows = (student.logits - teachers[0].logits).square().mean(dim=1)
        return {"logits": self.weight * weighted_mean(rows, batch.weights)}


PLUGIN = Logits
