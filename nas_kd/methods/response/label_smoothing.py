"""Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7): a control that distillation has to beat.

L = 0.9 CE + 0.1 U, U the cross-entropy with all C classes alike: sum_i sum_c (w_c / C) (-log q_ic) / sum_i w_(y_i), w
the weights of the classes, 1 unless they are given. At strength 1 it is torch's cross_entropy(label_smoothing=0.1);
strength s weighs U, which is smoothing by 0.1 s / (0.9 + 0.1 s). Where samples are mixed, w_(y_i) is the mean weight of
both labels by their shares, as in the label loss.

A teacher that knows nothing but "not quite sure" regularises too (Yuan et al. 2020, arXiv:1909.11723): what a student
gains over `none` may be that alone. Müller et al. 2019 (arXiv:1906.02629) describe what smoothing does to a network.
"""

from collections.abc import Sequence

from torch import Tensor

from nas_kd.methods.base import Batch, Method, Outputs


class LabelSmoothing(Method):
    """Training on smoothed labels, without a teacher; ce_weight 0.9, weight 0.1."""

    name = "label_smoothing"
    source = "Szegedy 2016, arXiv:1512.00567"
    summary = "cross-entropy on labels that are smoothed by 0.1: a control, without any teacher"
    decisions = frozenset({"sample", "rows"})
    needs = frozenset({"logits", "labels"})
    teachers = "none"
    target_grad_ratio = None
    ce_weight = 0.9
    weight = 0.1

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `label_smoothing`: 0.1 U of logits (B, C)."""
        surprise = -student.logits.log_softmax(dim=1)
        if batch.class_weights is not None:
            surprise = surprise * batch.class_weights
        if batch.weights is not None:
            surprise = surprise * batch.weights[:, None]
        return {"label_smoothing": self.weight * surprise.mean(dim=1).sum() / batch.label_weights().sum()}


PLUGIN = LabelSmoothing
