"""DIST, relations instead of probabilities (Huang et al. 2022, arXiv:2205.10536).

L = CE + 2 T^2 mean over samples of (1 - r(q_b, p_b)) + 2 T^2 mean over classes of (1 - r(q_c, p_c)), T = 4: r is
Pearson's correlation of student's and teacher's softmax at T, over the classes of a sample and over the samples of a
class. The correlation ignores the scale of both, so the published weights are kept: the terms are not calibrated, and
not clipped, as in published training (a limit of 5 would scale down every step of the first epochs, the labels' part
too).

The gradient is proportional to 1 / deviation of the student's probabilities. Where they deviate by less than 3 % of
their length, as at the start, that is taken for 3 %: r is then smaller, its gradient bounded. On 640 digits (150 steps,
two seeds) learning rates of 0.1, 0.03 and 0.01 led to 95.7, 96.2 and 96.5 %; without this bound to 91.5, 95.1 and 96.3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.losses import weighted_mean

ROUNDING = 1e-4  # share of a vector's length; a smaller deviation from the mean is mostly rounding
MIN_DEVIATION = 0.03  # the same of the student: at T = 4 and ten classes, logits that deviate by 0.12


class DIST(Method):
    """Correlation of class probabilities, within samples and within classes; weights 2 and 2."""

    name = "dist"
    source = "Huang 2022, arXiv:2205.10536"
    tunable = ("temperature", "strength")
    summary = "correlation of class probabilities, among classes and among the batch's samples"
    decisions = frozenset({"sample", "rows"})
    target_grad_ratio = None
    clipped = False
    version = 2
    weight = 2.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `dist_classes` and `dist_samples`: 2 T^2 (1 - r), rows and columns of the (B, C) probabilities."""
        q, p = ((o.logits / self.temperature).softmax(dim=1) for o in (student, teachers[0]))
        weight = self.weight * self.temperature**2
        return {
            "dist_classes": weight * weighted_mean(1 - pearson(q, p), batch.weights),
            "dist_samples": weight * (1 - pearson(q.T, p.T)).mean(),
        }


def pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlate the rows of two matrices, (n, m) each -> (n,); smaller where the student's row is nearly constant."""
    return (_standardised(student, MIN_DEVIATION) * _standardised(teacher, ROUNDING)).sum(dim=1)


def _standardised(x: Tensor, min_deviation: float) -> Tensor:
    """Rows of mean 0 and unit length, (n, m) -> (n, m); a nearly constant row stays shorter than 1."""
    centred = x - x.mean(dim=1, keepdim=True)
    floor = min_deviation * x.detach().norm(dim=1, keepdim=True) + torch.finfo(x.dtype).tiny
    length = torch.maximum(centred.norm(dim=1, keepdim=True), floor)
    return centred / length


PLUGIN = DIST
