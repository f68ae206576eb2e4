"""Detection: every picture has any number of boxes, each of one class.

A network decides at anchor points (`nas_kd.results.boxes`). All that it returns are logits for sigmoids: of each class,
and of how far away each edge of the box is. So each is a decision between two classes, as labels are in multi-label
classification, and a divergence between decisions about an edge teaches where it is, as in localisation distillation
(Zheng et al. 2022, arXiv:2102.12252). Anchors count as much as the teacher is sure that something is there.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.results.boxes import REACH, SIDES, find_boxes
from nas_kd.results.finalist_record import PictureRecord
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.base import load_score
from nas_kd.scores.box_matches import FoundBoxes
from nas_kd.scores.map50_95 import precision_by_class
from nas_kd.tasks.base import Array, DecisionKind, Differences, MixedLabels, Targets, Task
from nas_kd.tasks.boxes.anchors import anchors_of, owners, pyramid_strides
from nas_kd.tasks.boxes.assigner import assign
from nas_kd.tasks.boxes.geometry import boxes_of, giou
from nas_kd.tasks.boxes.losses import quality_focal_loss
from nas_kd.tasks.boxes.moving import MovingBoxes
from nas_kd.tasks.boxes.pictures import box_pictures
from nas_kd.tasks.boxes.reading import clipped_boxes, read_boxes, size_around

OVERLAP_WEIGHT = 2.0  # of the boxes' loss beside that of the classes (Feng et al. 2021, section 4.1)
ENOUGH = 8  # samples whose outputs are not all in 0..1 by chance


@dataclass(frozen=True)
class Detection(Task):
    """Boxes (N, M, 5) class, x1, y1, x2, y2 in pixels, class -1: none; a network returns logits (B, A, C + 4).

    The label loss is the quality focal loss of the classes and GIoU of the boxes, over what the task-aligned assigner
    gives each anchor to learn, per box (Feng et al. 2021, TOOD, arXiv:2108.07755, eq. 7-9).

    Attributes:
        size: height and width of the pictures, in pixels.
        n_classes: C.
    """

    size: tuple[int, int] = (0, 0)
    n_classes: int = 0

    name: ClassVar[str] = "detection"
    title: ClassVar[str] = "detection"
    summary: ClassVar[str] = "boxes, each of one class; mAP50-95"
    headline: ClassVar[str] = "map50_95"
    knowledge: ClassVar[str] = "map50"
    decisions: ClassVar[DecisionKind] = "rows"
    default_methods: ClassVar[tuple[str, ...]] = ("soft_targets", "fitnet", "soft_targets+fitnet")
    stratum: ClassVar[str] = "rarest class"
    heads: ClassVar[tuple[str, ...]] = ("detection",)

    @property
    def moving(self) -> MovingBoxes:
        """Boxes go where the pixels go."""
        return MovingBoxes(*self.size)

    @cached_property
    def points(self) -> Tensor:
        """(A, 3) column, row and stride of the anchors, in pixels."""
        return anchors_of(*self.size)

    def raw_shape(self, n_outputs: int) -> tuple[int | None, ...]:
        """At each anchor, a logit for each class and four for the edges; of pictures of unknown size, any anchors."""
        return len(self.points) or None, n_outputs + SIDES

    def in_order(self, outputs: NDArray[np.float32], order: Sequence[int]) -> NDArray[np.float32]:
        """Bring the logits of classes into another order; edges stay last."""
        return outputs[..., [*order, *range(-SIDES, 0)]]

    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Read boxes (N, M, 5); until pictures are known (`fitted`), their size is what is around all boxes."""
        values, classes = read_boxes(ys, names)
        return Targets(dict(values), classes, replace(self, size=size_around(values), n_classes=len(classes)))

    def fitted(self, targets: Targets, shape: tuple[int, ...]) -> Targets:
        """Clip boxes to pictures of this shape."""
        values, note = clipped_boxes(targets.values, shape)
        task = replace(self, size=(shape[1], shape[2]))
        return targets._replace(values=dict(values), task=task, encoding=targets.encoding or note)

    def strata(self, y: Array) -> NDArray[np.int64]:
        """The rarest class of each picture, by the number of pictures that have it; those without boxes are a group."""
        there = (y[:, :, :1] == np.arange(max(1, self.n_classes))).any(axis=1)
        rarity = np.argsort(np.argsort(there.sum(axis=0), kind="stable"))
        return np.asarray(np.where(there, rarity, there.shape[1]).min(axis=1), dtype=np.int64)

    def targets(self, y: Tensor) -> Tensor:
        """(B * A * (C + 4),) by the smallest box around an anchor: 1 for its class, and for edges beyond half reach."""
        points = self.points.to(y.device)
        own = owners(points, y)
        classes = own[..., :1] == torch.arange(self.n_classes, device=y.device)
        far = (
            torch.cat([points[:, :2] - own[..., 1:3], own[..., 3:] - points[:, :2]], dim=-1) > REACH / 2 * points[:, 2:]
        )
        return torch.cat([classes, far & (own[..., :1] >= 0)], dim=-1).flatten().long()

    def decide(self, raw: Tensor) -> Tensor:
        """Logits (B * A * (C + 4), 2) of no, 0, and of yes."""
        flat = raw.reshape(-1, 1)
        return torch.cat([torch.zeros_like(flat), flat], dim=1)

    def row_counts(self, y: Tensor, taught: Sequence[Tensor]) -> Tensor | None:
        """The teachers' probability that there is something at the anchor."""
        if not taught:
            return None
        sure = torch.stack([self._raw(t)[..., :-SIDES].sigmoid().amax(dim=2) for t in taught]).mean(dim=0)
        return sure[..., None].expand(-1, -1, self.n_classes + SIDES).flatten()

    def label_loss(self, decided: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """Loss of classes and boxes, over the sum of what anchors learn; see `Task.label_loss`."""
        raw, points = self._raw(decided), self.points.to(decided.device)
        scores, boxes = raw[..., :-SIDES], boxes_of(raw[..., -SIDES:], points)
        learned = assign(scores.detach().sigmoid(), boxes.detach(), points, y)
        total = learned.weight.sum().clamp(min=1)
        outside = (1 - giou(boxes, learned.boxes)) * learned.weight
        return (quality_focal_loss(scores, learned.quality).sum() + OVERLAP_WEIGHT * outside.sum()) / total

    def summed_loss(self, decided: Tensor, y: Tensor) -> Tensor:
        """The same, times the samples."""
        return self.label_loss(decided, y, None, None) * len(y)

    def row_weights(self, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """One each: how much rows count is said by `row_counts`."""
        return torch.ones(len(y) * len(self.points) * (self.n_classes + SIDES), device=y.device)

    def _raw(self, decided: Tensor) -> Tensor:
        """What a network returned (B, A, C + 4), of its decisions."""
        return (decided[:, 1] - decided[:, 0]).reshape(-1, len(self.points), self.n_classes + SIDES)

    def evidence(self, outputs: NDArray[np.float32], y: Array) -> FoundBoxes:
        """Boxes found, without those that overlap better ones, beside the true ones."""
        points, found, seconds = self.points.numpy(), [], []
        for raw in outputs:
            started = time.perf_counter()
            found.append(find_boxes(raw, points, *self.size))
            seconds.append(time.perf_counter() - started)
        return FoundBoxes(found, y, self.n_classes, 1000 * median(seconds))

    def fault_of_outputs(self, outputs: NDArray[np.float32]) -> str:
        """Say so where outputs are probabilities: boxes are made of logits."""
        if len(outputs) < ENOUGH or outputs.min() < 0 or outputs.max() > 1:
            return ""
        return "its outputs are all in 0..1, as probabilities are: return the logits before the sigmoid"

    def details(self, tested: Sequence[Any], deployed: Any) -> dict[str, Any]:
        """mAP50; average precision of each class, of what is deployed, and how long its boxes take after the graph."""
        return {
            "further": {"map50": load_score("map50").over_seeds(tested)},
            "by_class": precision_by_class(deployed),
            "decoding_ms": deployed.decoding_ms,
        }

    def decision_rule(self, outputs: NDArray[np.float32], y: Array) -> dict[str, Any]:
        """The probability from which on boxes are taken for true ones: that of the largest F1."""
        floor, f1 = self.evidence(outputs, y).best_floor()
        return {"floor": round(floor, 4), "f1": round(f1, 4)}

    def pictures(
        self,
        x: NDArray[np.float32],
        y: Array,
        outputs: NDArray[np.float32],
        names: Sequence[str],
        rule: Mapping[str, Any],
    ) -> tuple[PictureRecord, ...]:
        """Draw samples with their boxes and the network's."""
        return box_pictures(x, y, self.evidence(outputs, y).found, names, rule["floor"])

    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """Anchors that have another set of classes at probability 1/2; the gap is the largest such logit."""
        ours, theirs = (of[..., :-SIDES].reshape(-1, of.shape[-1] - SIDES) for of in (ours, theirs))
        other = (ours >= 0) != (theirs >= 0)
        rows = np.flatnonzero(other.any(axis=1))
        return Differences(rows, np.where(other[rows], np.abs(ours[rows]), 0).max(axis=1, initial=0), len(ours))

    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """State the strides of anchor points, by which boxes are made of the logits."""
        strides = ", ".join(map(str, pyramid_strides(*self.size)))
        return OutputRecord(
            name=self.output,
            kind="boxes",
            shape=(len(self.points), len(names) + SIDES),
            strides=pyramid_strides(*self.size),
            probabilities="sigmoid(logits)",
            noun=f"network that finds boxes of {len(names)} classes",
            each=f"at each anchor point of grids with cells of {strides} pixels, one logit a class and one for each "
            "edge of a box; `predict.py` makes boxes of them",
            items="classes",
            example='print({card["nas_kd.classes"][c] for c in (logits[0][:, :-4] >= 0).nonzero()[1]})',
            limit="It knows the classes above and nothing else.",
            hub_metric="mean_average_precision",
            hub_tasks={3: ("object-detection", "Object Detection")},
        )


PLUGIN = Detection()
