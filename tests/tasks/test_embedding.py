"""Vectors of identities: the label loss, the order of samples, targets, widths of teachers, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.prepare import load_dataset
from nas_kd.data.source import Arrays, RawData
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.errors import InputError
from nas_kd.methods.base import Outputs
from nas_kd.methods.combine import make_method
from nas_kd.plugins import remember
from nas_kd.tasks.base import MixedLabels, load_task
from nas_kd.tasks.contrastive import GROUP, TEMPERATURE, agreement, grouped_order, supervised_contrastive
from nas_kd.tasks.embedding import Embedding
from nas_kd.tasks.unit_length import UnitLength

Y = torch.tensor([0, 1, 0, 2, 1, 0])
Z = F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)


def by_hand(z: torch.Tensor, y: torch.Tensor) -> float:
    """Khosla et al. 2020, eq. 2, one sample at a time."""
    found = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if y[p] == y[i]]
        if positives:
            below = sum(float(torch.exp(z[i] @ z[a] / TEMPERATURE)) for a in others)
            terms = [np.log(float(torch.exp(z[i] @ z[p] / TEMPERATURE)) / below) for p in positives]
            found.append(-sum(terms) / len(positives))
    return float(np.mean(found))


def test_the_label_loss_is_the_published_one() -> None:
    z = Z.clone().requires_grad_()
    loss = supervised_contrastive(z, agreement(Y).double())
    assert float(loss.detach()) == pytest.approx(by_hand(Z, Y), rel=1e-9)
    assert torch.autograd.gradcheck(lambda v: supervised_contrastive(v, agreement(Y).double()), z)
    (gradient,) = torch.autograd.grad(loss, z)
    assert gradient.abs().min(dim=1).values.max() > 0  # the third identity, seen once, is pushed away from others, too


def test_a_batch_without_two_of_an_identity_teaches_nothing() -> None:
    z = Z.clone().requires_grad_()
    loss = supervised_contrastive(z, agreement(torch.arange(6)).double())
    assert float(loss.detach()) == 0
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(gradient).all()


def test_mixed_samples_are_of_both_identities() -> None:
    task, other, share = Embedding(), Y.flip(0), torch.tensor([1.0, 0.75, 0.5, 0.9, 0.6, 1.0])
    labels = share[:, None] * F.one_hot(Y, 3) + (1 - share[:, None]) * F.one_hot(other, 3)
    assert torch.allclose(agreement(Y, other, share), (labels @ labels.T).fill_diagonal_(0))
    plain = task.label_loss(Z, Y, None, None)
    assert torch.allclose(task.label_loss(Z, Y, None, MixedLabels(other, torch.ones(6))), plain)
    assert not torch.allclose(task.label_loss(Z, Y, None, MixedLabels(other, share)), plain)


def test_samples_of_an_identity_come_in_groups() -> None:
    y = torch.tensor(np.random.default_rng(0).integers(0, 20, 230))
    order = grouped_order(y, torch.Generator().manual_seed(1))
    assert sorted(order.tolist()) == list(range(230))
    shown = y[order]
    runs = torch.unique_consecutive(shown, return_counts=True)[1]
    whole = sum(int(n) // GROUP for n in torch.bincount(y))
    assert int((runs >= GROUP).sum()) >= 0.8 * whole  # two groups of one identity may meet
    again = grouped_order(y, torch.Generator().manual_seed(1))
    assert torch.equal(order, again)
    assert not torch.equal(order, grouped_order(y, torch.Generator().manual_seed(2)))
    beside = (shown[1:] == shown[:-1]).float().mean()
    assert beside > 0.6  # at random it would be 0.05


def test_identities_are_numbered_together_and_have_their_own_outputs() -> None:
    read = load_task("embedding").read_targets(
        {"train": np.array(["b", "a", "b"]), "val": np.array(["c", "c", "a"])}, None
    )
    assert {split: y.tolist() for split, y in read.values.items()} == {"train": [1, 0, 1], "val": [2, 2, 0]}
    assert len(read.names) == 64
    assert read.encoding is not None
    assert read.encoding.startswith("1 of the identities of train have one sample only")
    wide = load_task("embedding").configured(DataOptions(task="embedding", embedding_width=7))
    assert len(wide.read_targets({"train": np.array([3, 3, 9])}, None).names) == 7


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["a", "a"]), "train has samples of 1 identity only; want two or more"),
        (np.array(["a", "b", "c"]), "no identity has two samples in train"),
        (np.array([1.5, 2.0]), "identities that are no whole numbers"),
        (np.zeros((4, 3)), r"shape \(4, 3\) and type float64; embeddings want an identity a sample"),
        (np.array([{}, None], dtype=object), "identities that are no names"),
    ],
)
def test_targets_that_make_no_sense_are_refused(y: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task("embedding").read_targets({"train": y}, None)


def test_names_and_numbers_do_not_mix() -> None:
    with pytest.raises(InputError, match="names, of others numbers"):
        load_task("embedding").read_targets({"train": np.array(["a", "a", "b"]), "test": np.array([0, 0, 1])}, None)


class People:
    """Identities with eight samples each."""

    name, summary, uses = "people", "", frozenset[str]()

    def __init__(self, n: int) -> None:
        self.n = n

    def load(self, options: DataOptions) -> Any:
        y = np.arange(8 * self.n) % self.n
        x = np.random.default_rng(0).normal(size=(len(y), 3)) + y[:, None]
        return RawData("people", Arrays(x, np.array([f"person {i}" for i in y])))


def test_no_identity_is_in_two_splits() -> None:
    source = remember("dataset", "people-12", People(12))
    data = load_dataset(DataOptions(source=source, task="embedding"), 0)
    members = [set(split.y.tolist()) for split in (data.train, data.val, data.test)]
    assert sum(map(len, members)) == 12
    assert min(map(len, members)) >= 2
    wider = load_dataset(DataOptions(source=source, task="embedding", embedding_width=96), 0)
    assert (data.n_classes, wider.n_classes) == (64, 96)
    assert data.key != wider.key
    with pytest.raises(
        InputError, match="splits are carved by identity, and there are 5 only: want 6 at least, 2 for each"
    ):
        load_dataset(DataOptions(source=remember("dataset", "people-5", People(5)), task="embedding"), 0)


def test_the_width_is_for_embeddings_alone() -> None:
    with pytest.raises(InputError, match=r'data\.embedding_width is for data\.task = "embedding", and it is'):
        load_dataset(DataOptions(embedding_width=32), 0)


def test_methods_see_vectors_of_length_one() -> None:
    raw, before = torch.randn(4, 6), torch.randn(4, 9)
    seen = DatasetInfo(4, 6, torch.zeros(1), torch.ones(1), load_task("embedding")).decided(Outputs(raw, (), before))
    for found in (seen.logits, seen.embedding):
        assert torch.allclose(found, F.normalize(raw, dim=1))
    usual = DatasetInfo(4, 6, torch.zeros(1), torch.ones(1)).decided(Outputs(raw, (), before))
    assert usual.embedding is before


def test_methods_are_for_vectors_or_not() -> None:
    for name in ("embedding", "rkd", "crd", "similarity", "fitnet", "embedding+rkd", "none"):
        assert make_method(name).suits("vectors"), name
    for name in ("soft_targets", "dkd", "logits", "dist", "irg", "embedding+soft_targets"):
        assert not make_method(name).suits("vectors"), name


def test_divergence_holds_for_any_width() -> None:
    task, ours = Embedding(), F.normalize(torch.randn(5, 4), dim=1)
    assert float(task.divergence(ours, ours, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(task.divergence(ours, -ours, 1.0)) == pytest.approx(2)
    turned = torch.cat([ours, torch.zeros(5, 3)], dim=1)  # the same cosines in a wider space
    assert float(task.divergence(ours, turned, 1.0)) == pytest.approx(0, abs=1e-6)


def test_networks_differ_by_the_angle_of_their_vectors() -> None:
    ours = np.eye(4, dtype=np.float32)
    theirs = ours * np.array([[3.0], [1.0], [1.0], [1.0]], dtype=np.float32)  # longer, but there
    theirs[2] = [0, 0, 1, 0.3]
    found = load_task("embedding").differences(ours, theirs)
    assert found.rows.tolist() == [2]
    unit = np.array([0, 0, 1, 0.3]) / np.sqrt(1.09)
    assert found.gaps[0] == pytest.approx(np.linalg.norm(unit - ours[2]), rel=1e-5)


def test_networks_return_vectors_of_length_one() -> None:
    network = load_task("embedding").finished(torch.nn.Linear(3, 5), 5, own_units=False)
    assert isinstance(network, UnitLength)
    assert torch.allclose(network(torch.randn(6, 3)).norm(dim=1), torch.ones(6))
