"""Anchor points, decoding, suppression, overlaps, losses and assignment, beside values computed by hand or by loops."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.results.boxes import MOST, REACH, anchor_points, decode, find_boxes, overlaps, suppress
from nas_kd.tasks.boxes.assigner import LEARNED, assign
from nas_kd.tasks.boxes.geometry import boxes_of, giou, iou
from nas_kd.tasks.boxes.losses import quality_focal_loss


def test_anchors_are_the_centres_of_cells() -> None:
    found = anchor_points(5, 8, (4, 8))
    assert found.tolist() == [[2, 2, 4], [6, 2, 4], [2, 6, 4], [6, 6, 4], [4, 4, 8]]


def edges_of(distances: NDArray[Any]) -> NDArray[np.float32]:
    """Logits of edges that are so far away, in cells."""
    share = np.asarray(distances) / REACH
    return np.log(share / (1 - share)).astype(np.float32)


def test_edges_are_decoded_in_cells() -> None:
    points = anchor_points(16, 16, (8,))
    edges = edges_of(np.array([[0.25, 0.5, 0.5, 0.75], [0.1, 0.1, 0.1, 0.1], [1, 4, 1, 1], [0.5, 0.5, 4, 4]]))
    edges[1] = -100
    expected = np.array([[2, 0, 8, 10], [12, 4, 12, 4], [0, 0, 12, 16], [8, 8, 16, 16]])
    assert decode(edges, points, 16, 16) == pytest.approx(expected, abs=1e-4)
    free = boxes_of(torch.from_numpy(edges), torch.from_numpy(points))
    assert free[0].tolist() == pytest.approx([2, 0, 8, 10], abs=1e-4)
    assert free[3].tolist() == pytest.approx([8, 8, 44, 44], abs=1e-4)


def test_overlaps_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 0, 0]])
    b = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2], [2, 0, 3, 1], [0, 0, 0, 0]])
    assert iou(a, b).tolist() == pytest.approx([1 / 7, 1, 0, 0])
    assert giou(a, b).tolist() == pytest.approx([1 / 7 - 2 / 9, 1, -1 / 3, 0])  # C of 9, union of 7; C of 3, union of 2
    assert overlaps(a.numpy(), b.numpy()).diagonal().tolist() == pytest.approx([1 / 7, 1, 0, 0])


def test_boxes_far_from_each_other_attract() -> None:
    """The gradient of the generalised overlap moves a box towards another one; that of the overlap is 0."""
    box = torch.tensor([[0.0, 0, 1, 1]], requires_grad=True)
    (moved,) = torch.autograd.grad(giou(box, torch.tensor([[4.0, 0, 5, 1]])).sum(), box)
    assert moved[0, 2] > 0
    assert moved[0, 0] <= 0
    (none,) = torch.autograd.grad(iou(box, torch.tensor([[4.0, 0, 5, 1]])).sum(), box)
    assert not none.any()


def test_quality_focal_loss_by_hand() -> None:
    logits = torch.tensor([0.0, 0.0, math.log(3), math.log(3)])  # probabilities 1/2 and 3/4
    wanted = torch.tensor([1.0, 0.0, 0.75, 0.25])
    expected = [0.25 * math.log(2), 0.25 * math.log(2), 0, 0.25 * -(0.75 * math.log(0.25) + 0.25 * math.log(0.75))]
    assert quality_focal_loss(logits, wanted).tolist() == pytest.approx(expected, abs=1e-7)
    focal = [(1 - p) ** 2 * -math.log(p) for p in (0.5, 0.5)]  # of hard labels: Lin et al. 2017, eq. 4
    assert quality_focal_loss(logits[:2], wanted[:2]).tolist() == pytest.approx(focal)


def _greedy(boxes: Tensor, classes: Tensor, overlap: float) -> list[bool]:
    """Non-maximum suppression box by box, in torch."""
    kept: list[int] = []
    for place in range(len(boxes)):
        rivals = [other for other in kept if classes[other] == classes[place]]
        if all(float(iou(boxes[place], boxes[other])) <= overlap for other in rivals):
            kept.append(place)
    return [place in kept for place in range(len(boxes))]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.31, 0.62, 1.0]))
def test_suppression_is_that_of_torch(seed: int, overlap: float) -> None:
    generator = np.random.default_rng(seed)
    low = generator.integers(0, 6, (20, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + generator.integers(0, 6, (20, 2))], axis=1).astype(np.float32)
    classes = generator.integers(0, 2, 20)
    expected = _greedy(torch.from_numpy(boxes), torch.from_numpy(classes), overlap)
    assert suppress(boxes, classes, overlap).tolist() == expected


def test_boxes_are_found_best_first() -> None:
    points = anchor_points(16, 16, (8,))
    raw = np.full((4, 6), -9.0, dtype=np.float32)
    raw[:, 2:] = edges_of(np.array(0.5))
    raw[0, 0], raw[3, 1], raw[1, 0] = 0.0, math.log(3), math.log(0.01)
    found = find_boxes(raw, points, 16, 16)
    assert found == pytest.approx(np.array([[1, 0.75, 8, 8, 16, 16], [0, 0.5, 0, 0, 8, 8]]), abs=1e-4)
    assert len(find_boxes(raw, points, 16, 16, floor=0.001)) == 3
    raw[1, 0], raw[1, 2:] = (
        -0.1,
        edges_of(np.array([1.5, 0.5, 0.001, 0.5])),
    )  # the box of the first anchor again, a little narrower
    assert found[:, 0].tolist() == find_boxes(raw, points, 16, 16)[:, 0].tolist()
    raw[1, 2:] = -200
    assert len(find_boxes(raw, points, 16, 16)) == 2  # without area


def test_boxes_of_a_picture_are_limited() -> None:
    points = anchor_points(80, 80, (4,))
    raw = np.concatenate([np.zeros((400, 2)), np.full((400, 4), edges_of(np.array(0.5)))], axis=1).astype(np.float32)
    assert len(find_boxes(raw, points, 80, 80)) == MOST


POINTS = torch.from_numpy(anchor_points(16, 16, (4, 8)))


def _predicted(truth: NDArray[Any], score: float = 0.1) -> tuple[Tensor, Tensor]:
    """Equal scores of two classes, and boxes of 8x8 around all points."""
    around = torch.cat([POINTS[:, :2] - 4, POINTS[:, :2] + 4], dim=1).expand(len(truth), -1, -1)
    return torch.full((len(truth), len(POINTS), 2), score), around


def _expected(scores: NDArray[Any], boxes: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Equations 5 and 6 of the paper, box by box; returns the qualities (A, C) and the box number of each anchor."""
    points, fits, mine = POINTS.numpy(), {}, {}
    for number, (label, *box) in enumerate(truth):
        x1, y1, x2, y2 = box
        inside = [a for a, (x, y, _) in enumerate(points) if x1 < x < x2 and y1 < y < y2]
        inside = inside or [int(np.argmin([(x - (x1 + x2) / 2) ** 2 + (y - (y1 + y2) / 2) ** 2 for x, y, _ in points]))]
        u = {a: max(1e-4, float(overlaps(boxes[a : a + 1], np.array([box]))[0, 0])) for a in inside}
        t = {a: scores[a, int(label)] * u[a] ** 6 for a in inside}
        for a in sorted(inside, key=lambda a: -t[a])[:13]:
            if u[a] > mine.get(a, (0.0, -1))[0]:
                mine[a] = u[a], number
        fits[number] = t, u
    quality, owner = np.zeros(scores.shape), np.full(len(points), -1)
    for a, (_, number) in mine.items():
        t, u = fits[number]
        others = [b for b in mine if mine[b][1] == number]
        quality[a, int(truth[number][0])] = t[a] / max(t[b] for b in others) * max(LEARNED, *(u[b] for b in others))
        owner[a] = number
    return quality, owner


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31))
def test_assignment_is_that_of_the_paper(seed: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 12, (2, 3, 2))
    truth = np.concatenate(
        [generator.integers(0, 2, (2, 3, 1)), low, low + generator.uniform(0.5, 9, (2, 3, 2))], axis=2
    )
    scores = generator.uniform(0.01, 0.99, (2, len(POINTS), 2))
    boxes = np.stack([POINTS[:, :2].numpy() - generator.uniform(1, 6, (len(POINTS), 2)) for _ in range(2)])
    boxes = np.concatenate([boxes, boxes + generator.uniform(1, 9, boxes.shape)], axis=2)
    found = assign(*map(torch.from_numpy, (scores, boxes)), POINTS.double(), torch.from_numpy(truth))
    for picture in range(2):
        quality, owner = _expected(scores[picture], boxes[picture], truth[picture])
        assert found.quality[picture].numpy() == pytest.approx(quality, abs=1e-9)
        assert found.weight[picture].numpy() == pytest.approx(quality.sum(axis=1), abs=1e-9)
        learns = owner >= 0
        assert np.array_equal(found.boxes[picture].numpy()[learns], truth[picture][owner[learns], 1:])


def test_a_box_between_all_points_is_learned_by_the_nearest() -> None:
    truth = torch.tensor([[[1.0, 4.5, 4.5, 5.5, 5.5]]])
    found = assign(*_predicted(truth.numpy()), POINTS, truth)
    (learns,) = found.weight[0].nonzero().flatten().tolist()
    assert POINTS[learns].tolist() in ([6, 6, 4], [4, 4, 8])
    assert found.quality[0, learns].tolist() == pytest.approx([0, LEARNED])  # the overlap is 1 in 64


def test_pictures_without_boxes_are_all_background() -> None:
    empty = torch.full((2, 3, 5), -1.0)
    for truth in (empty, empty[:, :0]):
        found = assign(*_predicted(truth.numpy()), POINTS, truth)
        assert not found.weight.any()
        assert not found.quality.any()
        assert found.boxes.shape == (2, len(POINTS), 4)


def test_padding_changes_nothing() -> None:
    truth = torch.tensor([[[0.0, 1, 1, 9, 9], [1, 5, 5, 15, 15]]])
    padded = torch.cat([truth, torch.full((1, 4, 5), -1.0)], dim=1)
    plain, other = (assign(*_predicted(t.numpy()), POINTS, t) for t in (truth, padded))
    assert torch.equal(plain.quality, other.quality)
    assert torch.equal(plain.weight, other.weight)
