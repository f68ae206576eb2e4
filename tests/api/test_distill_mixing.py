"""Mixup and cutmix on one's own modules: the same for arrays and data sets, seen by the teacher, or refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_kd.commands.distill_modules import distill
from nas_kd.data.mixing import Mixer

from .refusals import assert_refused
from .toys import Batches, Items, net, same, samples, trained

X, LABELS = samples()
MIXES = ("mixup", "cutmix")


@pytest.mark.parametrize("mix", MIXES)
def test_arrays_and_data_sets_are_mixed_alike(mix: str) -> None:
    arrays = trained(None, (X, LABELS), "none", mix=mix)
    assert same(arrays, trained(None, Items(X, LABELS), "none", mix=mix))
    assert same(arrays, trained(None, (X, LABELS), "none", mix=mix))
    assert not same(arrays, trained(None, (X, LABELS), "none"))
    assert not same(arrays, trained(None, (X, LABELS), "none", mix=mix, seed=1))


class Watching(nn.Module):
    """A teacher that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.seen = net(8, seed=1), list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        logits: Tensor = self.inner(x)
        return logits


@pytest.mark.parametrize("mix", MIXES)
def test_the_teacher_sees_the_mixed_samples(mix: str) -> None:
    teacher = Watching()
    distill(net(), teacher, train=(X, LABELS), epochs=1, batch_size=32, mix=mix)
    mixer = Mixer(mix, len(X), (1, 8, 8), 0)
    everything = torch.arange(len(X))
    expected = mixer.mixed(0, everything, X, X[mixer.mixture(0, everything).partner])
    shown = [x for batch in teacher.seen for x in batch]
    found = [any(torch.equal(x, wanted) for x in shown) for wanted in expected]
    assert all(found)


@pytest.mark.parametrize("method", ["soft_targets", "similarity", "dml", "born_again", "bake", "label_smoothing"])
def test_methods_of_all_kinds_train_on_mixed_samples(method: str) -> None:
    teacher = net(8, seed=1) if method in {"soft_targets", "similarity"} else None
    kinds = [trained(teacher, train, method, mix="mixup") for train in ((X, LABELS), Items(X, LABELS))]
    assert same(*kinds)
    assert not same(kinds[0], trained(teacher, (X, LABELS), method))


def test_unlabelled_samples_are_mixed_too() -> None:
    more, _ = samples(48, seed=5)
    plain, mixed = (
        trained(net(8, seed=1), (X, LABELS), "soft_targets", unlabelled=more, mix=mix) for mix in ("none", "cutmix")
    )
    assert not same(plain, mixed)


FLAT = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": "mixed"}, r"mix must be 'none', 'mixup' or 'cutmix', got 'mixed'.*"),
        (
            {"mix": "mixup", "train": DataLoader(TensorDataset(X, LABELS), 32)},
            r"mix = 'mixup' goes with arrays or a Dataset as train, not with a DataLoader, whose samples have no .*",
        ),
        ({"mix": "mixup", "train": Batches([(X, LABELS)])}, r"mix = 'mixup' goes with arrays or a Dataset .*"),
        (
            {"mix": "cutmix", "train": (X.flatten(1), LABELS), "student": FLAT, "teacher": "none", "method": "none"},
            r"mix = 'cutmix': cutmix pastes parts of pictures \(C, H, W\), samples have shape \(64,\): use mixup",
        ),
        (
            {"mix": "mixup", "train": ((X * 9).long(), LABELS), "teacher": "none", "method": "none"},
            r"mix = 'mixup': samples of train are whole numbers \(ids\), and half of an id is none",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(options: dict[str, Any], message: str) -> None:
    assert_refused(message, **options)
