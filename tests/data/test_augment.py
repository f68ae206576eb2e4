"""Augmentation is a pure function of (seed, epoch, sample), covers what it should, and does nothing when off."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.augment import Augmenter, TrainingViews
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import usual_augmentation

MEAN = torch.tensor([10.4, 20.6, 30.0])
ALL = Augmentation(crop=4, flip=True, cutout=5)


def images(n: int = 40, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def augmenter(x: Tensor, augment: Augmentation = ALL, seed: int = 0) -> Augmenter:
    return Augmenter(x, MEAN, augment, seed)


def reference(augmenter: Augmenter, epoch: int, index: int) -> Tensor:
    """One sample, the slow way: pad, cut a window, mirror, blank a square."""
    params, crop = augmenter.params(epoch), augmenter.crop
    c, height, width = augmenter.x.shape[1:]
    padded = augmenter.fill.view(c, 1, 1).repeat(1, height + 2 * crop, width + 2 * crop)
    padded[:, crop : crop + height, crop : crop + width] = augmenter.x[index]
    top, left = params.shift[index].tolist()
    out = padded[:, top : top + height, left : left + width].clone()
    if params.flip[index]:
        out = out.flip(-1)
    if augmenter.cutout:
        top, left = (params.centre[index] - augmenter.cutout // 2).tolist()
        rows, columns = (slice(max(0, at), max(0, at + augmenter.cutout)) for at in (top, left))
        out[:, rows, columns] = augmenter.fill.view(c, 1, 1)
    return out.float()


@pytest.mark.parametrize(
    "augment",
    [
        ALL,
        Augmentation(crop=0, flip=False, cutout=6),
        Augmentation(crop=3, flip=False),
        Augmentation(crop=0, flip=True),
    ],
)
@pytest.mark.parametrize("as_float", [False, True])
def test_equals_the_slow_way_sample_by_sample(augment: Augmentation, as_float: bool) -> None:
    x = images().float() / 3 if as_float else images()
    it = augmenter(x, augment)
    out = it.batch(2, torch.arange(len(x)))
    assert out.dtype == torch.float32
    assert torch.equal(out, torch.stack([reference(it, 2, i) for i in range(len(x))]))


def test_not_square() -> None:
    it = augmenter(images()[:, :, :, :9].contiguous())
    assert torch.equal(it.batch(0, torch.tensor([7, 3])), torch.stack([reference(it, 0, 7), reference(it, 0, 3)]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=40), st.integers(0, 3))
def test_a_sample_is_the_same_in_every_batch_order_and_object(indices: list[int], epoch: int) -> None:
    whole = augmenter(images()).batch(epoch, torch.arange(40))
    other = augmenter(images())
    other.batch(epoch + 1, torch.tensor([0]))  # what was asked before must not matter
    batch = other.batch(epoch, torch.tensor(indices))
    assert torch.equal(batch, whole[indices])
    assert torch.equal(other.batch(epoch, torch.tensor(indices[:1])), whole[indices[:1]])


def test_epochs_and_seeds_differ() -> None:
    everything = torch.arange(40)
    first = augmenter(images()).batch(0, everything)
    assert not torch.equal(first, augmenter(images()).batch(1, everything))
    assert not torch.equal(first, augmenter(images(), seed=1).batch(0, everything))


def test_one_option_does_not_change_what_another_draws() -> None:
    alone = augmenter(images(), Augmentation(crop=4, flip=False)).params(0)
    together = augmenter(images()).params(0)
    assert torch.equal(alone.shift, together.shift)
    assert not alone.flip.any()
    assert together.flip.any()


def test_nothing_to_do_is_the_identity() -> None:
    off = Augmentation(crop=0, flip=False, cutout=0)
    indices = torch.tensor([5, 5, 0])
    assert torch.equal(augmenter(images(), off).batch(3, indices), images()[indices].float())
    vectors = torch.randn(6, 7)
    assert torch.equal(Augmenter(vectors, torch.zeros(1), off, 0).batch(0, indices), vectors[indices])


def test_shifts_cover_the_whole_range_evenly() -> None:
    it = augmenter(images(1, 8).repeat(20_000, 1, 1, 1), Augmentation(crop=2, flip=False))
    shift = it.params(0).shift
    counts = torch.bincount(shift[:, 0] * 5 + shift[:, 1], minlength=25).double()
    expected = 20_000 / 25
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert len(counts) == 25
    assert chi2 < 51.2  # 99.9 % point of chi-squared with 24 degrees of freedom
    assert 0.48 < float(augmenter(it.x).params(0).flip.double().mean()) < 0.52


def test_cutout_blanks_a_square_with_the_rounded_mean() -> None:
    it = augmenter(torch.full((200, 3, 16, 16), 255, dtype=torch.uint8), Augmentation(crop=0, flip=False, cutout=4))
    out = it.batch(0, torch.arange(200))
    hole = out[:, 0] != 255
    assert int(hole.sum((1, 2)).max()) == 16  # whole, or partly outside the image
    assert int(hole.sum((1, 2)).min()) >= 4
    assert hole.any(0).all()  # every pixel is hit by some sample
    assert set(out[hole[:, None].expand_as(out)].tolist()) == {10.0, 21.0, 30.0}


def test_digits_are_never_mirrored() -> None:
    dataset = load_dataset(DataOptions(source="digits"), 0)
    assert usual_augmentation(dataset) == Augmentation(strength="standard", crop=1, flip=False, cutout=0)
    it = TrainingViews(dataset, 0).student("standard")
    assert not any(it.params(epoch).flip.any() for epoch in range(5))
    padded = torch.nn.functional.pad(dataset.train.x[:50].float(), (1, 1, 1, 1), value=float(it.fill))
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1).reshape(50, 9, 8, 8)
    shown = it.batch(4, torch.arange(50))
    assert bool((windows == shown).all((2, 3)).any(1).all())  # each is an unmirrored window of the original


def test_views_of_one_split_differ_by_strength_and_are_made_once() -> None:
    dataset = load_dataset(DataOptions(source="digits"), 0)
    views = TrainingViews(dataset, 3)
    found = {strength: views.student(strength) for strength in ("none", "standard", "strong")}
    assert [(it.crop, it.flip, it.cutout) for it in found.values()] == [(0, False, 0), (1, False, 0), (1, False, 2)]
    assert len({it.key for it in found.values()}) == 3
    for strength, it in found.items():
        assert views.student(strength) is it  # its drawn parameters are shared
        assert views.teacher(strength) is it  # the data have no view of their own for teachers
        assert views.as_teachers_see().student(strength) is it
        assert TrainingViews(dataset, 3).student(strength).key == it.key
    assert TrainingViews(dataset, 4).student("standard").key != found["standard"].key


def test_key_covers_samples_options_and_seed() -> None:
    x = images()
    changed = x.clone()
    changed[3, 0, 0, 0] += 1
    off = Augmentation(crop=0, flip=False)
    keys = [
        augmenter(x).key,
        augmenter(changed).key,
        augmenter(x, seed=1).key,
        augmenter(x, Augmentation(crop=3, flip=True, cutout=5)).key,
        Augmenter(x, MEAN + 1, ALL, 0).key,
        augmenter(x, off).key,
    ]
    assert len(set(keys)) == len(keys)
    assert augmenter(x.clone()).key == keys[0]
    assert augmenter(x, off, seed=5).key == keys[-1]  # without chance the seed does not matter
    assert len(augmenter(x)) == 40


def test_refuses_samples_that_are_no_images() -> None:
    with pytest.raises(InputError, match="needs images"):
        Augmenter(torch.zeros(5, 7), torch.zeros(1), ALL, 0)


def test_a_batch_takes_about_a_millisecond() -> None:
    it = augmenter(images(2000, 32))
    indices = torch.randperm(2000)[:128]
    it.batch(0, indices)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        it.batch(0, indices)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.003  # about 0.0005 on one quiet core; a loop over samples takes 0.005 or more
