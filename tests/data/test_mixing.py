"""Mixup and cutmix: exact values by a plain loop, a pure function of (seed, epoch, sample), and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.augment import Augmenter, TrainingViews, mixed
from nas_kd.data.augmentation_choices import NONE
from nas_kd.data.dataset import Dataset
from nas_kd.data.mixing import MixedView, why_not_mixed
from nas_kd.data.prepare import load_dataset
from nas_kd.data.view import View

MIXES = ("mixup", "cutmix")
SHIFTED = Augmentation(crop=2, flip=True, cutout=3)
N, SHAPE = 30, (3, 8, 9)


def images(n: int = N, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def augmenter(x: Tensor, augment: Augmentation = SHIFTED, seed: int = 3) -> Augmenter:
    return Augmenter(x, torch.full((x.shape[1] if x.ndim == 4 else 1,), 7.0), augment, seed)


def view_of(mix: str, x: Tensor | None = None, augment: Augmentation = SHIFTED, seed: int = 3) -> MixedView:
    found = mixed(augmenter(images() if x is None else x, augment, seed), mix)
    assert isinstance(found, MixedView)
    return found


def by_hand(view: MixedView, plain: View, epoch: int, i: int) -> Tensor:
    """Sample i, pixel by pixel, from the epoch's parameters."""
    params, everything = view.mixer.params(epoch), torch.arange(len(plain))
    j, share = int(params.partner[i]), params.share[i]
    first, second = (plain.batch(epoch, everything)[k] for k in (i, j))
    out = first.clone()
    if view.mixer.mix == "mixup":
        for place in np.ndindex(*first.shape):
            out[place] = share * first[place] + (1 - share) * second[place]
        return out
    top, bottom, left, right = params.box[i].tolist()
    for c, row, column in np.ndindex(*first.shape):
        if top <= row < bottom and left <= column < right:
            out[c, row, column] = second[c, row, column]
    return out


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("augment", [NONE, SHIFTED])
def test_values_are_those_of_a_plain_loop(mix: str, augment: Augmentation) -> None:
    view, plain = view_of(mix, augment=augment), augmenter(images(), augment)
    for epoch in (0, 4):
        batch = view.batch(epoch, torch.arange(N))
        assert batch.dtype == torch.float32
        for i in range(0, N, 3):
            assert torch.equal(batch[i], by_hand(view, plain, epoch, i))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 24), (11,)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_mixup_takes_arrays_of_any_shape(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = images(12, shape).to(dtype)
    view = view_of("mixup", x, NONE)
    mixture = view.mixture(1, torch.arange(12))
    share = mixture.share.view(-1, *[1] * len(shape))
    assert torch.equal(view.batch(1, torch.arange(12)), share * x.float() + (1 - share) * x[mixture.partner].float())


@pytest.mark.parametrize("mix", MIXES)
def test_a_sample_is_the_same_alone_in_any_batch_and_in_any_order(mix: str) -> None:
    whole = view_of(mix).batch(5, torch.arange(N))
    other = view_of(mix)
    for i in (17, 0, 29):
        other.batch(i, torch.tensor([1]))  # what was asked before does not matter
        assert torch.equal(other.batch(5, torch.tensor([i]))[0], whole[i])
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    for size in (7, 16):
        parts = [other.batch(5, part) for part in order.split(size)]
        assert torch.equal(torch.cat(parts), whole[order])


@pytest.mark.parametrize("mix", MIXES)
def test_epochs_and_seeds_differ_and_augmentation_is_that_of_unmixed_samples(mix: str) -> None:
    everything = torch.arange(N)
    first = view_of(mix).batch(0, everything)
    assert not torch.equal(first, view_of(mix).batch(1, everything))
    assert not torch.equal(first, view_of(mix, seed=4).batch(0, everything))
    view, plain = view_of(mix), augmenter(images())
    alone = view.mixer.params(0).partner == everything
    assert torch.allclose(view.batch(0, everything)[alone], plain.batch(0, everything)[alone], atol=1e-4)


@pytest.mark.parametrize("mix", MIXES)
def test_partners_are_a_permutation_and_shares_are_a_half_to_one(mix: str) -> None:
    view = view_of(mix, images(3000, (1, 8, 8)), NONE)
    for epoch in (0, 1):
        mixture = view.mixture(epoch, torch.arange(3000))
        assert mixture.partner.sort().values.tolist() == list(range(3000))
        assert float((mixture.partner == torch.arange(3000)).float().mean()) < 0.01
        assert mixture.share.dtype == torch.float32
        assert float(mixture.share.min()) >= 0.5
        assert float(mixture.share.max()) <= 1
    if mix == "mixup":  # uniform in 1/2..1: a mean of 3/4 and a standard deviation of 0.144, here within 4 of its own
        assert float(mixture.share.mean()) == pytest.approx(0.75, abs=4 * 0.144 / 3000**0.5)
        assert float(mixture.share.std()) == pytest.approx(0.1443, abs=0.006)


def test_the_share_of_cutmix_is_the_area_that_is_left() -> None:
    x = torch.arange(400, dtype=torch.float32).view(-1, 1, 1, 1).expand(400, 1, 7, 10).contiguous()  # sample i is all i
    view = view_of("cutmix", x, NONE)
    shown, mixture = view.batch(2, torch.arange(400)), view.mixture(2, torch.arange(400))
    own = shown == x
    others = mixture.partner != torch.arange(400)
    assert torch.allclose(own.flatten(1).float().mean(dim=1)[others], mixture.share[others], atol=1e-6)
    pasted = mixture.partner.view(-1, 1, 1, 1).float().expand_as(shown)
    assert torch.equal(shown[~own], pasted[~own])
    areas = {int(v) for v in ((1 - mixture.share) * 70).round().tolist()}
    assert len(areas) > 15
    assert max(areas) <= 35
    assert 0 in areas


@pytest.mark.parametrize("mix", MIXES)
def test_key_covers_the_samples_their_augmentation_and_the_mixing(mix: str) -> None:
    keys = {
        view_of(mix).key,
        view_of("mixup" if mix == "cutmix" else "cutmix").key,
        augmenter(images()).key,
        view_of(mix, seed=4).key,
        view_of(mix, augment=NONE).key,
        view_of(mix, augment=NONE, seed=4).key,  # without augmentation, too, the seed decides partners
        view_of(mix, images() + 1).key,
    }
    assert len(keys) == 7
    assert view_of(mix).key == view_of(mix).key
    assert not view_of(mix, augment=NONE).identity
    assert len(view_of(mix)) == N
    assert torch.equal(view_of(mix).example(), augmenter(images()).example())


def test_samples_that_are_not_mixed_have_the_view_that_they_had() -> None:
    plain = augmenter(images())
    assert mixed(plain, "none") is plain


@pytest.fixture
def paired(write_npz: Callable[..., Path]) -> Dataset:
    rng, y = np.random.default_rng(0), np.arange(80) % 2
    own, shown = (rng.integers(0, 256, (80, *shape), dtype=np.uint8) for shape in ((3, 8, 8), (1, 8, 8)))
    path = write_npz(x_train=own, y_train=y, x_teacher_train=shown)
    return load_dataset(DataOptions(source="npz", path=path), 0)


@pytest.mark.parametrize("mix", MIXES)
def test_the_teachers_own_view_is_mixed_by_the_same_partners_shares_and_rectangles(mix: str, paired: Dataset) -> None:
    everything, views = torch.arange(len(paired.train)), TrainingViews(paired, 5)
    own, shown = views.student("none", mix), views.teacher("none", mix)
    assert isinstance(own, MixedView)
    assert isinstance(shown, MixedView)
    assert own.key != shown.key
    assert all(map(torch.equal, own.mixture(3, everything), shown.mixture(3, everything)))
    assert torch.equal(own.mixer.params(3).box, shown.mixer.params(3).box)
    assert views.student("none", mix) is own
    assert views.student("none") is not own
    assert views.as_teachers_see().student("none", mix) is shown


def test_what_cannot_be_mixed_is_said() -> None:
    assert why_not_mixed("mixup", (3, 8, 8), "uint8") is None
    assert why_not_mixed("cutmix", (3, 8, 8), "int64") is None
    assert why_not_mixed("mixup", (2, 100), "int32") is None  # a series of whole numbers
    assert why_not_mixed("mixup", (100,), "float32") is None
    for dtype in ("int64", "int16", "uint16", ">i4"):
        assert "may be ids" in str(why_not_mixed("mixup", (100,), dtype))
    assert why_not_mixed("mixup", (100,), "uint8") is None
    for shape in ((2, 100), (100,), (3, 1, 50)):
        assert str(why_not_mixed("cutmix", shape, "float32")) == (
            f"cutmix pastes parts of pictures (C, H, W), samples have shape {shape}: use mixup"
        )
