"""Masks: scores beside scikit-learn's, what is refused, pictures, and teachers of the user's own."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import jaccard_score

from nas_kd.config.options import DataOptions
from nas_kd.data.digit_masks import PLUGIN as DIGIT_MASKS
from nas_kd.errors import InputError
from nas_kd.scores.base import load_score
from nas_kd.scores.mask_score import MaskEvidence
from nas_kd.scores.mean_iou import iou_by_class
from nas_kd.tasks.base import load_task
from nas_kd.tasks.mask_pictures import mask_pictures
from nas_kd.tasks.masks import VOID
from nas_kd.tasks.segmentation import Segmentation

N, SIDE, CLASSES = 30, 16, 4
GENERATOR = np.random.default_rng(0)


def scene(n: int = N) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Masks with some void pixels, and logits at half the resolution that are right more often than not."""
    coarse = GENERATOR.integers(0, CLASSES, (n, SIDE // 2, SIDE // 2))
    logits = np.eye(CLASSES)[coarse].transpose(0, 3, 1, 2) * 3 + GENERATOR.normal(0, 1.5, (n, CLASSES, 8, 8))
    masks = coarse.repeat(2, 1).repeat(2, 2).astype(np.uint8)
    masks[GENERATOR.random(masks.shape) < 0.1] = VOID
    return masks, logits.astype(np.float32)


MASKS, LOGITS = scene()
TASK: Any = load_task("segmentation").read_targets({"train": MASKS}, ("a", "b", "c", "d")).task


def test_mean_iou_is_scikit_learn_s() -> None:
    evidence, given = TASK.evidence(LOGITS, MASKS), TASK.masks(LOGITS)
    known = MASKS != VOID
    by_class = jaccard_score(MASKS[known], given[known], average=None)
    assert load_score("mean_iou").value(evidence) == pytest.approx(by_class.mean())
    found = iou_by_class(evidence)
    assert [v.mean for v in found.values if v] == pytest.approx(by_class)
    assert all(v.low < v.mean < v.high for v in found.values if v)
    upsampled = torch.nn.functional.interpolate(torch.from_numpy(LOGITS), (SIDE, SIDE), mode="bilinear")
    assert np.array_equal(given, upsampled.argmax(1).numpy())


def test_classes_that_do_not_occur_do_not_count() -> None:
    """Neither in the mean, nor with an IoU of their own; one that is only given has an IoU of 0."""
    counts = np.zeros((2, 3, 3), dtype=np.int64)
    counts[:, 0, 0], counts[0, 0, 1] = 5, 2
    evidence = MaskEvidence(counts)
    assert load_score("mean_iou").value(evidence) == pytest.approx((10 / 12 + 0) / 2)
    assert [None if v is None else v.mean for v in iou_by_class(evidence).values] == [pytest.approx(10 / 12), 0, None]


def test_guessing_is_the_best_constant_answer() -> None:
    score, best = load_score("mean_iou"), 0.0
    for number in range(CLASSES):
        constant = np.zeros((N, CLASSES, 8, 8), dtype=np.float32)
        constant[:, number] = 1
        best = max(best, score.value(TASK.evidence(constant, MASKS)))
    assert score.guessing(MASKS, MASKS, CLASSES) == pytest.approx(best)


def test_the_interval_covers_the_truth() -> None:
    masks, logits = scene(1500)
    score: Any = load_score("mean_iou")
    whole = TASK.evidence(logits, masks)
    truth, inside = score.value(whole), 0
    for _ in range(60):
        rows = GENERATOR.choice(1500, 40, replace=False)
        found = score.of(MaskEvidence(whole.counts[rows]))
        inside += found.low <= truth <= found.high
    assert inside >= 0.88 * 60


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((4, 8)), r"y of train has shape \(4, 8\) and type float64; data.task = \"segmentation\" wants masks"),
        (np.zeros((4, 8, 8, 3), dtype=np.uint8), "wants masks"),
        (np.full((4, 8, 8), -1), "have pixels of value -1; want class numbers 0..254"),
        (np.full((4, 8, 8), 300), "have pixels of value 300"),
        (np.zeros((4, 8, 8), dtype=np.uint8), r"masks of train have one value only \(0\)"),
        (np.full((4, 8, 8), VOID), r"masks of train have one value only \(void\)"),
    ],
)
def test_masks_that_make_no_sense_are_refused(y: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task("segmentation").read_targets({"train": y}, None)


def test_splits_and_names_have_to_agree() -> None:
    task = load_task("segmentation")
    with pytest.raises(InputError, match="masks of test have 8x16 pixels, those of train 16x16"):
        task.read_targets({"train": MASKS, "test": MASKS[:, :8]}, None)
    with pytest.raises(InputError, match=r"of test have pixels of value 3, and there are classes 0\.\.1 in train"):
        task.read_targets({"train": MASKS.clip(0, 1), "test": MASKS}, None)
    with pytest.raises(InputError, match="pixels of value 3, and there are 2 names of classes"):
        task.read_targets({"train": MASKS}, ("a", "b"))


def test_outputs_of_any_resolution_are_taken() -> None:
    """A network that returns logits at the pictures' own size has as many rows, and is judged by them."""
    full = np.repeat(np.repeat(LOGITS, 2, 2), 2, 3)
    rows = TASK.decide(torch.from_numpy(full))
    assert rows.shape == (N * 64, CLASSES)
    assert torch.allclose(rows, TASK.decide(torch.from_numpy(LOGITS)))
    assert np.array_equal(TASK.masks(full), full.argmax(1))


def test_strata_are_the_rarest_classes() -> None:
    masks = np.zeros((10, 4, 4), dtype=np.uint8)
    masks[:3, 0, 0], masks[2, 1, 1] = 1, 2
    task: Any = load_task("segmentation").read_targets({"train": masks}, None).task
    groups = task.strata(masks)
    assert [sorted(np.flatnonzero(groups == g).tolist()) for g in sorted(set(groups))] == [[2], [0, 1], [*range(3, 10)]]


def test_networks_differ_where_a_cell_does() -> None:
    other = LOGITS.copy()
    other[3, :, 2, 2] = -other[3, :, 2, 2]
    found = TASK.differences(LOGITS, other)
    height, width = LOGITS.shape[2:]
    assert found.rows.tolist() == [3 * height * width + 2 * width + 2]
    assert found.places == len(LOGITS) * height * width
    assert found.gaps[0] > 0


def test_pictures_show_samples_and_masks() -> None:
    x = GENERATOR.random((2, 1, SIDE, SIDE)).astype(np.float32)
    given = np.where(MASKS[:2] == VOID, 1, MASKS[:2]).astype(np.int64)
    first, _ = mask_pictures(x, MASKS[:2], given, ("<b>", "b", "c", "d"))
    image = Image.open(io.BytesIO(base64.b64decode(first.png)))
    assert image.size == (3 * 128 + 2 * 4, 128)
    assert len(base64.b64decode(first.png)) < 40_000
    assert "100 % of pixels alike" in first.caption
    pixels = np.asarray(image.convert("RGB")).astype(int)
    left, right = pixels[:, :128], pixels[:, 264:]
    tinted = np.abs(left - right).sum(2) > 30
    cells = given[0].repeat(8, 0).repeat(8, 1) > 0
    assert (tinted == cells).mean() > 0.95


def test_demo_scenes_have_digits_where_masks_say() -> None:
    """Ink is lighter than what surrounds it, and test scenes are of other digits."""
    raw = DIGIT_MASKS.load(DataOptions(train_rows=80, test_rows=40))
    x, y = np.asarray(raw.train.x)[:, 0].astype(float), np.asarray(raw.train.y)
    assert set(np.unique(y)) == {0, 1, 2, 3}
    assert raw.classes == ("background", "digit 0", "digit 1", "digit 7")
    assert x[y > 0].mean() > x[y == 0].mean() + 40
    again = DIGIT_MASKS.load(DataOptions(train_rows=80, test_rows=40))
    assert np.array_equal(again.train.x, raw.train.x)
    assert raw.test is not None
    assert len(raw.test.x) == 40


def test_the_task_knows_its_cells() -> None:
    task = Segmentation(size=(130, 97), n_classes=2, stride=4)
    assert (task.grid, task.raw_shape(2)) == ((33, 25), (2, None, None))


@pytest.mark.parametrize(("side", "stride"), [(32, 4), (11, 2), (1, 1)])
def test_cells_are_as_large_as_masks_allow(side: int, stride: int) -> None:
    """A chessboard whose squares begin beside the cells."""
    row, column = ((np.arange(n) + 1) // side % 2 for n in (96, 90))
    masks = np.repeat((row[:, None] ^ column)[None], 3, axis=0)
    read = Segmentation().read_targets({"train": masks}, None)
    assert isinstance(read.task, Segmentation)
    assert read.task.stride == stride
    assert read.encoding is not None
    assert (f"{stride} x {stride}" if stride > 1 else "each pixel") in read.encoding


def test_every_logit_of_a_cell_learns() -> None:
    """Logits finer than cells are averaged over them; coarser ones are interpolated."""
    task = Segmentation(size=(16, 12), n_classes=2, stride=4)
    raw = torch.randn(3, 2, 16, 12, requires_grad=True)
    decided = task.decide(raw)
    expected = raw.unflatten(2, (4, 4)).unflatten(4, (3, 4)).mean(dim=(3, 5))
    assert torch.allclose(decided, expected.movedim(1, 3).reshape(-1, 2), atol=1e-6)
    decided.sum().backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    assert bool((raw.grad != 0).all())
    assert task.decide(torch.randn(3, 2, 2, 16)).shape == (3 * 4 * 3, 2)


def test_masks_and_pictures_are_of_one_size() -> None:
    masks = np.arange(2 * 8 * 8).reshape(2, 8, 8) % 2
    read = Segmentation().read_targets({"train": masks}, None)
    assert read.task.fitted(read, (3, 8, 8)) is read
    with pytest.raises(InputError, match="masks have 8x8 pixels, and pictures 16x16: want the same"):
        read.task.fitted(read, (3, 16, 16))


def test_keys_know_the_cells() -> None:
    one, other = (Segmentation(size=(8, 8), n_classes=2, stride=stride).key_facts for stride in (1, 2))
    assert one != other
