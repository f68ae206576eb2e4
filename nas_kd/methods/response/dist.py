"""DIST, relations instead of probabilities (Huang et al. 2022, arXiv:2205.10536).

L = CE + 2 T^2 mean over samples of (1 - r(q_b, p_b)) + 2 T^2 mean over classes of (1 - r(q_c, p_c)), T = 4: r is
Pearson's correlation of student's and teacher's softmax at T, over the classes of a sample and over the samples of a
class. It does not see the scale of either, so the published weights are kept (no calibration: the gradient grows
without bound as the student's logits approach each other, as they do at the start, and would be scaled by that).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs

FLATTEST = 1e-4  # below this share of its length a vector's deviation from its mean counts as none: rounding, mostly


class DIST(Method):
    """The student ranks classes and samples as the teacher does."""

    name = "dist"
    source = "Huang 2022, arXiv:2205.10536"
    tunable = ("temperature", "strength")
    summary = "correlation of class probabilities, among classes and among the batch's samples"
    target_grad_ratio = None
    weight = 2.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Two terms: `dist_classes`, `dist_samples`."""
        q, p = ((o.logits / self.temperature).softmax(dim=1) for o in (student, teachers[0]))
        weight = self.weight * self.temperature**2
        return {
            "dist_classes": weight * (1 - pearson(q, p)).mean(),
            "dist_samples": weight * (1 - pearson(q.T, p.T)).mean(),
        }


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) twice -> (n,): correlations of the rows; 0 where a row is constant."""
    return (_standardised(a) * _standardised(b)).sum(dim=1)


def _standardised(x: Tensor) -> Tensor:
    """(n, m), rows of mean 0 and unit length; shorter where there is next to nothing to scale up."""
    centred = x - x.mean(dim=1, keepdim=True)
    floor = FLATTEST * x.detach().norm(dim=1, keepdim=True) + torch.finfo(x.dtype).tiny
    length = torch.maximum(centred.norm(dim=1, keepdim=True), floor)
    return centred / length


PLUGIN = DIST
