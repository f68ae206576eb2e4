"""Boxes move as the pixels inside of them do."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import augmented
from nas_kd.tasks.boxes.moving import MovingBoxes
from nas_kd.tasks.moving import Placements, Shifts

SIZE = 40, 56
MOVING = MovingBoxes(*SIZE)


def drawn(n: int = 24) -> tuple[Tensor, Tensor]:
    """Dark pictures (N, 1, H, W) of one bright box each, and the boxes, beside a row of padding."""
    generator = np.random.default_rng(0)
    y = torch.full((n, 2, 5), -1.0)
    x = torch.zeros(n, 1, *SIZE)
    for picture, rows in zip(x, y, strict=True):
        top, left = generator.integers(2, 20, 2).tolist()
        height, width = generator.integers(8, 18, 2).tolist()
        rows[0] = torch.tensor([1.0, left, top, left + width, top + height])
        picture[:, top : top + height, left : left + width] = 200
    return x, y


def seen(picture: Tensor, level: float = 100) -> list[float]:
    """The box around the bright pixels."""
    rows, columns = (picture[0] > level).nonzero().T
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def moved(augment: Augmentation) -> list[tuple[Tensor, Tensor]]:
    """Pictures and boxes of some epochs."""
    x, y = drawn()
    view, rows = augmented(x, torch.zeros(1), augment, 3), torch.arange(len(x))
    pairs = ((view.batch(epoch, rows), view.targets(epoch, rows, y, MOVING)) for epoch in range(3))
    return [(shown, of) for pictures, boxes in pairs for shown, of in zip(pictures, boxes, strict=True)]


def check_boxes(pairs: list[tuple[Tensor, Tensor]], tolerance: float, least: int) -> None:
    kept = 0
    for picture, boxes in pairs:
        assert (boxes[1] == -1).all()
        if boxes[0, 0] == -1:  # nearly nothing is left of it
            assert int((picture > 100).sum()) < 0.3 * 18 * 18
            continue
        kept += 1
        assert boxes[0, 0] == 1
        assert boxes[0, 1:].tolist() == pytest.approx(seen(picture), abs=tolerance)
    assert kept >= least


def test_shifted_and_mirrored_boxes_are_exact() -> None:
    check_boxes(moved(Augmentation(crop=12, flip=True, cutout=0)), 0, 60)


def test_resized_crops_move_boxes() -> None:
    pairs = moved(Augmentation(crop=0, flip=True, cutout=0, resized_crop=0.5))
    check_boxes([(p, y) for p, y in pairs if y[0, 0] == 1 and not _reflected(y)], 1.01, 30)


def _reflected(boxes: Tensor) -> bool:
    """Whether a box ends at an edge, where its mirror image may follow."""
    x1, y1, x2, y2 = boxes[0, 1:].tolist()
    return min(x1, y1) <= 1 or x2 >= SIZE[1] - 1 or y2 >= SIZE[0] - 1


def test_turned_boxes_are_around_their_corners() -> None:
    quarter = torch.tensor([[[0.0, -SIZE[0] / SIZE[1], 0], [SIZE[1] / SIZE[0], 0, 0]]])  # by 90 degrees, in pixels
    y = torch.tensor([[[2.0, 20, 16, 32, 20]]])  # 12 by 4, 2 right of and 2 above the centre of (28, 20)
    found = MOVING.resampled(y, Placements(quarter, torch.zeros(1, *SIZE, 2)))
    assert found[0, 0].tolist() == pytest.approx([2, 24, 16, 28, 28], abs=1e-4)


def test_hidden_boxes_are_dropped() -> None:
    y = torch.tensor([[[0.0, 0, 0, 10, 10], [1, 30, 20, 40, 30]]])
    half = MOVING.blanked(y, torch.tensor([[0, 1, 0, 5 / 56]]))
    assert torch.equal(half, y)
    most = MOVING.blanked(y, torch.tensor([[0, 1, 0, 8 / 56]]))
    assert most[0, :, 0].tolist() == [-1, 1]
    still, no_flip = torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)
    hole = MOVING.shifted(y, Shifts(still, no_flip, torch.tensor([[15, 40, 32, 56]])))
    assert hole[0, :, 0].tolist() == [0, -1]


def test_what_is_left_of_boxes_decides() -> None:
    y = torch.tensor([[[0.0, 0, 0, 10, 10]]])
    for rows, there in ((7, True), (8, False), (20, False)):
        shifts = Shifts(torch.tensor([[rows, 0]]), torch.zeros(1, dtype=torch.bool), torch.zeros(1, 0))
        found = MOVING.shifted(y, shifts)
        assert found[0, 0].tolist() == ([0, 0, 0, 10, 10 - rows] if there else [-1] * 5)
