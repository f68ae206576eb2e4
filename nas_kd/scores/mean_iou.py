"""Mean intersection over union of the classes of pixels."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.finalist_record import ClassScores
from nas_kd.scores.mask_score import MaskEvidence
from nas_kd.scores.sample_score import SampleScore, Weights

VOID = 255


class MeanIoU(SampleScore):
    """1/C sum_c n_cc / (n_c + m_c - n_cc) over the classes that occur: n_c pixels of class c, m_c pixels given it.

    Counts are summed over all pictures before they are divided (one confusion matrix, as PASCAL VOC and Cityscapes
    have it). The interval is a bootstrap over pictures.
    """

    name = "mean_iou"
    title = "mean IoU"
    unit = "mean over classes of intersection over union of pixels, 0..1"
    summary = "mean over classes of the intersection over union of pixels"
    task: ClassVar[str] = "segmentation"

    def weighted(self, evidence: MaskEvidence, weights: Weights) -> Weights:
        """Average over the classes that a resample has or is given."""
        n, _, c = evidence.parts.shape
        sums = (weights @ evidence.parts.reshape(n, 3 * c)).reshape(-1, 3, c)
        return mean_iou(*sums.transpose(1, 0, 2))

    def guessing(self, train: NDArray[Any], split: NDArray[Any], n_outputs: int) -> float:
        """What the best constant answer gets: one class for all pixels, which has its share of them."""
        counts = np.bincount(split[split != VOID].reshape(-1), minlength=n_outputs)
        present = int((counts > 0).sum())
        return float(counts.max() / max(1, counts.sum()) / max(1, present))


def iou_by_class(evidence: MaskEvidence) -> ClassScores:
    """IoU of each class with its 95 % interval, by a bootstrap over pictures."""
    classes = evidence.parts.shape[2]
    found = [_OneClass(c) for c in range(classes)]
    there = evidence.parts[:, :2].sum(axis=(0, 1)) > 0
    return ClassScores(title="IoU", values=tuple(s.of(evidence) if there[s.number] else None for s in found))


class _OneClass(MeanIoU):
    """IoU of a single class."""

    def __init__(self, number: int) -> None:
        self.number = number

    def weighted(self, evidence: MaskEvidence, weights: Weights) -> Weights:
        """Of this class; 0 in a resample without any of its pixels."""
        return mean_iou(*(weights @ evidence.parts[:, :, self.number]).T[:, :, None])


def mean_iou(labelled: Weights, given: Weights, hit: Weights) -> Weights:
    """Mean over the classes that occur, (R,), of pixels by class (R, C): of it, given it, and both."""
    union = labelled + given - hit
    iou = np.divide(hit, union, out=np.zeros_like(hit), where=union > 0)
    return np.asarray(iou.sum(axis=1) / np.maximum(1, (union > 0).sum(axis=1)))


PLUGIN = MeanIoU()
