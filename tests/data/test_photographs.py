"""Photographs: resized crops, operations, colours and erasing as a pure function of (seed, epoch, sample)."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas_kd.config.key_facts import key_facts
from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.augment import Augmenter, TrainingViews, augmented
from nas_kd.data.augmentation_choices import matching_augmentation
from nas_kd.data.colours import NEVER, both, jitter, no_change, painted_
from nas_kd.data.mixing import MixedView, Mixer
from nas_kd.data.photographs import PhotographView
from nas_kd.data.prepare import load_dataset
from nas_kd.data.rand_augment import MAGNITUDE, N_OPERATIONS, Operations
from nas_kd.data.resampling import after, erased_boxes, placements, resampled, resized_crops, rotations

from .conftest import WriteNpz, noise

MEAN = torch.tensor([100.4, 110.6, 120.0])
STANDARD = Augmentation(crop=0, flip=True, cutout=0, resized_crop=0.35)
STRONG = STANDARD.model_copy(update={"colour": 0.2, "operations": 2, "erase": 0.5})
N = 24


def pictures(n: int = N, height: int = 20, width: int = 24) -> Tensor:
    return torch.from_numpy(noise(1, n, 3, height, width))


def view(augment: Augmentation = STRONG, x: Tensor | None = None, seed: int = 0) -> PhotographView:
    made = augmented(pictures() if x is None else x, MEAN, augment, seed)
    assert isinstance(made, PhotographView)
    return made


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=N), st.integers(0, 3))
def test_a_sample_is_the_same_in_every_batch_order_and_object(indices: list[int], epoch: int) -> None:
    whole = view().batch(epoch, torch.arange(N))
    other = view()
    other.batch(epoch + 1, torch.tensor([0]))  # what was asked before must not matter
    assert torch.equal(other.batch(epoch, torch.tensor(indices)), whole[indices])
    assert torch.equal(other.batch(epoch, torch.tensor(indices[:1])), whole[indices[:1]])


def test_threads_make_no_difference() -> None:
    before, everything = torch.get_num_threads(), torch.arange(N)
    try:
        torch.set_num_threads(1)
        alone = view().batch(0, everything)
        torch.set_num_threads(2)
        assert torch.equal(view().batch(0, everything), alone)
    finally:
        torch.set_num_threads(before)


def test_epochs_seeds_and_samples_differ() -> None:
    everything = torch.arange(N)
    first = view().batch(0, everything)
    assert not torch.equal(first, view().batch(1, everything))
    assert not torch.equal(first, view(seed=1).batch(0, everything))
    same = view(x=pictures(1).expand(N, -1, -1, -1).contiguous()).batch(0, everything)
    assert len({sample.numpy().tobytes() for sample in same}) == N


def test_stays_in_range_and_is_float32() -> None:
    out = view().batch(0, torch.arange(N))
    assert out.dtype == torch.float32
    assert out.shape == (N, 3, 20, 24)
    assert 0 <= float(out.min()) <= float(out.max()) <= 255


def test_a_crop_of_whole_pixels_is_that_part_of_the_picture_resized() -> None:
    x = pictures(1).float()
    rows, columns = slice(5, 15), slice(12, 24)  # half of the height and the width: the centre is at 10 and 18
    place = placements(12 / 24, 0, 2 * 18 / 24 - 1, 0, 10 / 20, 2 * 10 / 20 - 1)
    got = resampled(x, torch.from_numpy(place).float())
    want = F.interpolate(x[:, :, rows, columns], (20, 24), mode="bilinear", align_corners=False)
    inside = slice(1, -1)  # at its edge a crop reads the pixel outside of it, which resizing alone does not have
    assert torch.allclose(got[:, :, inside, inside], want[:, :, inside, inside], atol=1e-3)


def test_crops_have_the_areas_aspects_and_places_asked_for() -> None:
    places = resized_crops(np.random.default_rng(0).random((20_000, 4)), 0.35)
    width, height, x, y = places[:, 0, 0], places[:, 1, 1], places[:, 0, 2], places[:, 1, 2]
    area, free = width * height, (width < 1) & (height < 1)
    assert 0.34 < area.min() < 0.36
    assert area.max() <= 1
    assert math.isclose(float(np.quantile((width / height)[free], 0.999)), 4 / 3, rel_tol=0.01)
    assert math.isclose(float(np.quantile((width / height)[free], 0.001)), 3 / 4, rel_tol=0.01)
    assert bool(((np.abs(x) + width <= 1 + 1e-9) & (np.abs(y) + height <= 1 + 1e-9)).all())  # never over an edge
    assert abs(float(x.mean())) < 0.01
    whole = resized_crops(np.random.default_rng(0).random((50, 4)), 1)
    assert bool((whole[:, [0, 1], [0, 1]] >= math.sqrt(3 / 4) - 1e-9).all())


def test_without_crops_half_of_the_pictures_are_mirrored_and_none_is_changed_otherwise() -> None:
    only_flip = Augmentation(crop=0, flip=True, cutout=0, resized_crop=1, operations=1)
    places = view(only_flip, pictures(2000)).params(0).places
    mirrored = (places[:, 0, 0] < 0).float().mean()
    assert 0.45 < float(mirrored) < 0.55
    x = pictures(4).float()
    mirror = torch.from_numpy(placements(-np.ones(4), 0, 0, 0, 1, 0)).float()
    assert torch.allclose(resampled(x, mirror), x.flip(3), atol=1e-3)


def test_a_quarter_turn_of_a_square() -> None:
    x = pictures(1, 16, 16).float()
    turn = torch.from_numpy(rotations(np.array([90.0]), 16, 16)).float()
    assert torch.allclose(resampled(x, turn), x.rot90(1, (2, 3)), atol=1e-2)


def test_placements_are_composed_inside_out() -> None:
    shift, scale = placements(1, 0, 0.5, 0, 1, 0), placements(0.5, 0, 0, 0, 0.5, 0)
    assert after(scale, shift).tolist() == [[[0.5, 0, 0.25], [0, 0.5, 0]]]  # shifted, then scaled: 0.5 (u + 0.5)


def test_jitter_by_hand() -> None:
    x = torch.tensor([100.0, 50.0, 200.0]).view(1, 3, 1, 1)
    brightness, contrast, saturation = 1.1, 0.8, 1.2
    params = jitter(np.array([[0.75, 0.0, 1.0]]), 0.2)
    got = painted_(x.clone(), params.as_tensor(), MEAN).flatten()
    grey = 0.299 * 100 + 0.587 * 50 + 0.114 * 200
    saturated = [grey + saturation * (v - grey) for v in (100, 50, 200)]
    want = [(v * brightness - m) * contrast + m for v, m in zip(saturated, MEAN.tolist(), strict=True)]
    assert torch.allclose(got, torch.tensor(want), atol=1e-3)


def test_values_are_solarised_and_posterised() -> None:
    x = torch.tensor([30.0, 150.0, 250.0]).view(1, 3, 1, 1).repeat(3, 1, 1, 1)
    threshold, levels = np.array([NEVER, 200, NEVER]), np.array([1.0, 1, 16])
    change = replace(no_change(3), threshold=threshold, levels=levels)
    got = painted_(x.clone(), change.as_tensor(), MEAN).flatten(1)
    assert torch.allclose(got[0], x[0].flatten(), atol=1e-4)
    assert torch.allclose(got[1], torch.tensor([30.0, 150.0, 5.0]), atol=1e-4)
    assert got[2].tolist() == [16, 144, 240]


def test_two_changes_of_colour_are_one() -> None:
    x, random = pictures(2, 4, 4).float(), np.array([[0.6, 0.5, 0.4], [0.5, 0.5, 0.5]])
    first, second = jitter(random, 0.1), jitter(1 - random, 0.1)
    together = both(first, second).as_tensor()
    assert torch.allclose(together[1], torch.tensor([1.0, 1.0, 1.0, NEVER, 1.0]))
    assert torch.allclose(painted_(x.clone(), together[:1].repeat(2, 1), MEAN)[1:].mean(), x[1:].mean(), rtol=0.05)


def test_every_operation_is_drawn_and_does_what_it_says() -> None:
    random = np.full((N_OPERATIONS, 1, 2), 0.9)
    random[:, 0, 0] = (np.arange(N_OPERATIONS) + 0.5) / N_OPERATIONS
    operations = Operations(random)
    still = placements(np.ones(N_OPERATIONS), 0, 0, 0, 1, 0)
    moved = (operations.moved(still, 10, 10) != still).any(axis=(1, 2))
    painted = (operations.colours().as_tensor() != no_change(1).as_tensor()).any(1)
    assert moved.tolist() == [True] * 5 + [False] * 6
    assert painted.tolist() == [False] * 5 + [True] * 5 + [False]
    assert operations.moved(still, 10, 10)[3, 0, 2] == pytest.approx(2 * 0.45 * MAGNITUDE)


def test_erased_rectangles() -> None:
    boxes = erased_boxes(np.random.default_rng(0).random((20_000, 5)), 0.25)
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    found = height * width > 0
    assert 0.24 < found.mean() < 0.26
    assert 0.02 <= (height * width)[found].min() <= (height * width)[found].max() < 1 / 3 + 1e-9
    assert boxes.min() >= 0
    assert boxes.max() <= 1 + 1e-9
    erasing = Augmentation(crop=0, flip=False, cutout=0, erase=1.0)
    out = view(erasing, torch.zeros(N, 3, 20, 24, dtype=torch.uint8)).batch(0, torch.arange(N))
    assert set(out.unique().tolist()) == {0.0, *MEAN.tolist()}
    assert bool((out[:, 0] > 0).flatten(1).any(1).all())


def test_what_is_no_colour_picture_keeps_its_values() -> None:
    grey = torch.full((N, 1, 20, 24), 0.25)
    other = augmented(grey, MEAN[:1], STRONG.model_copy(update={"erase": None}), 0)
    assert torch.allclose(other.batch(0, torch.arange(N)), grey)


def test_a_teachers_view_of_another_size_is_cropped_alike() -> None:
    small = torch.rand(N, 1, 10, 12)
    changes = matching_augmentation(STRONG, (3, 20, 24), (1, 10, 12))
    teacher = augmented(small, MEAN[:1], changes, 0)
    assert isinstance(teacher, PhotographView)
    student = view().params(2)
    for mine, its in zip(teacher.params(2), student, strict=True):
        assert torch.equal(mine, its)


def test_the_key_covers_what_is_done() -> None:
    keys = {
        view(augment).key
        for augment in (
            STANDARD,
            STRONG,
            STANDARD.model_copy(update={"resized_crop": 0.5}),
            STANDARD.model_copy(update={"flip": False}),
            STANDARD.model_copy(update={"colour": 0.1}),
            STANDARD.model_copy(update={"operations": 1}),
            STANDARD.model_copy(update={"erase": 0.1}),
            STANDARD.model_copy(update={"crop": 2}),
        )
    } | {view(STANDARD, seed=1).key, view(STANDARD, pictures(N, 24, 20)).key}
    assert len(keys) == 10
    assert view(STANDARD).key == view(STANDARD).key


def test_options_of_photographs_that_are_not_given_are_in_no_key() -> None:
    assert key_facts(Augmentation()).keys() == {"strength", "crop", "flip", "cutout"}
    assert key_facts(Augmentation(erase=0.1))["erase"] == 0.1
    assert isinstance(augmented(pictures(), MEAN, Augmentation(crop=2, flip=True, cutout=0), 0), Augmenter)


def test_photographs_are_mixed_after_they_are_augmented() -> None:
    shown = view(STANDARD)
    mixer = Mixer("mixup", N, (3, 20, 24), 0)
    got = MixedView(shown, mixer).batch(1, torch.tensor([4]))
    params, whole = mixer.params(1), shown.batch(1, torch.arange(N))
    share = params.share[4]
    assert torch.equal(got[0], whole[4] * share + whole[params.partner[4]] * (1 - share))


def test_data_sets_of_photographs_get_resized_crops_and_smaller_ones_shifts(write_npz: WriteNpz) -> None:
    large = load_dataset(DataOptions(source="npz", path=write_npz(x_train=noise(0, 20, 3, 96, 96))), 0)
    assert isinstance(TrainingViews(large, 0).student("standard"), PhotographView)
    small = load_dataset(DataOptions(source="npz", path=write_npz(x_train=noise(0, 20, 3, 95, 95))), 0)
    assert isinstance(TrainingViews(small, 0).student("strong"), Augmenter)


def test_a_batch_is_cheap_beside_a_training_step() -> None:
    shown = view(STANDARD, pictures(128, 128, 128))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        shown.batch(0, torch.arange(128))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.3  # about 0.03 on one core; a step of a 300 kB network takes more than 0.5
