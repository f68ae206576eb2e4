"""DIST, relations instead of probabilities (Huang et al. 2022, arXiv:2205.10536).

L = CE + 2 T^2 mean over samples of (1 - r(q_b, p_b)) + 2 T^2 mean over classes of (1 - r(q_c, p_c)), T = 4: r is
Pearson's correlation of student's and teacher's softmax at T, over the classes of a sample and over the samples of a
class. The correlation ignores the scale of both, so the published weights are kept. Not calibrated: the gradient grows
without bound while the student's logits are nearly equal, as they are at the start. Not clipped either, as in published
training: the gradient's norm is 30 to 300 in the first epoch (cross-entropy's is 0.4), so a limit of 5 would scale
every step down, and the part of the labels with it. The learning rate has to suit: on 640 digits with 150 steps, the
best of 0.1, 0.03 and 0.01 was 0.01 (96.3 %; 91.5 % with 0.1; two seeds).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs

MIN_DEVIATION = 1e-4  # share of a vector's length; a smaller deviation from the mean is mostly rounding


class DIST(Method):
    """Correlation of class probabilities, within samples and within classes; weights 2 and 2."""

    name = "dist"
    source = "Huang 2022, arXiv:2205.10536"
    tunable = ("temperature", "strength")
    summary = "correlation of class probabilities, among classes and among the batch's samples"
    target_grad_ratio = None
    clipped = False
    version = 2
    weight = 2.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `dist_classes` and `dist_samples`: 2 T^2 (1 - r), rows and columns of the (B, C) probabilities."""
        q, p = ((o.logits / self.temperature).softmax(dim=1) for o in (student, teachers[0]))
        weight = self.weight * self.temperature**2
        return {
            "dist_classes": weight * (1 - pearson(q, p)).mean(),
            "dist_samples": weight * (1 - pearson(q.T, p.T)).mean(),
        }


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlate the rows of two matrices, (n, m) each -> (n,); 0 where a row is constant."""
    return (_standardised(a) * _standardised(b)).sum(dim=1)


def _standardised(x: Tensor) -> Tensor:
    """Rows of mean 0 and unit length, (n, m) -> (n, m); a nearly constant row stays shorter than 1."""
    centred = x - x.mean(dim=1, keepdim=True)
    floor = MIN_DEVIATION * x.detach().norm(dim=1, keepdim=True) + torch.finfo(x.dtype).tiny
    length = torch.maximum(centred.norm(dim=1, keepdim=True), floor)
    return centred / length


PLUGIN = DIST
