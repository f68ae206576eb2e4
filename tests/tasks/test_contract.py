"""What every task has to keep, the faults that the contract finds, and scores beside scikit-learn's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, r2_score
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available
from nas_kd.scores.base import load_score
from nas_kd.scores.sample_score import Predictions
from nas_kd.tasks.base import load_task
from nas_kd.tasks.embedding import Embedding
from nas_kd.tasks.multi_label import MultiLabel
from nas_kd.tasks.regression import Regression
from nas_kd.testing import BrokenRule, check_task

GENERATOR = np.random.default_rng(0)
LABELS = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]])
NUMBERS = GENERATOR.normal([5, 1e5], [1, 1e4], size=(40, 2))
MASKS = GENERATOR.integers(0, 3, size=(10, 4, 4)).repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
MASKS[:, :3, :3] = 255  # void
BOXES = np.array([[[i % 3, 3, 2 + i, 14, 13.3 + i], [(i + 1) % 3, 16.7, 5, 30, 22]] for i in range(10)])
BOXES[4, 1] = -1  # one box
BOXES[7] = -1  # none
TARGETS: dict[str, dict[str, NDArray[Any]]] = {
    "classification": {"train": np.arange(12) % 3, "test": np.arange(6) % 3},
    "multi_label": {"train": LABELS, "test": LABELS[::-1]},
    "regression": {"train": NUMBERS, "test": NUMBERS[:7]},
    "segmentation": {"train": MASKS, "test": MASKS[:4]},
    "embedding": {"train": np.array(list("aabbccddeeff")), "test": np.array(list("xxyyz"))},
    "detection": {"train": BOXES, "test": BOXES[:4]},
    "vectors": {"train": GENERATOR.normal(size=(12, 5)), "test": GENERATOR.normal(size=(6, 5))},
}


@pytest.mark.parametrize("name", sorted(available("task")))
def test_every_task_keeps_the_contract(name: str) -> None:
    check_task(load_task(name), TARGETS[name])


@dataclass(frozen=True)
class LosesRows(MultiLabel):
    """Decides about one label too few."""

    def decide(self, raw: Tensor) -> Tensor:
        return super().decide(raw)[:-1]


@dataclass(frozen=True)
class LearnsNothing(Regression):
    """Its loss has no gradient that helps."""

    def label_loss(self, decided: Tensor, y: Tensor, weights: Any, mixed: Any) -> Tensor:
        return 1 + 0 * decided.sum()


@dataclass(frozen=True)
class JudgesByAnother(MultiLabel):
    """Its score is of another task."""

    headline = "accuracy"


@dataclass(frozen=True)
class ShowsOneTwice(Embedding):
    """Its order leaves a sample out."""

    def order(self, y: Tensor, generator: Any) -> Tensor:
        return super().order(y, generator).clamp_min(1)


@dataclass(frozen=True)
class TurnsVectors(Embedding):
    """What it puts behind networks changes what they say."""

    def finished(self, network: nn.Module, n_outputs: int, *, own_units: bool) -> nn.Module:
        return nn.Sequential(network, nn.Tanh())


@dataclass(frozen=True)
class KeepsHalf(Embedding):
    """It says of some samples only what they belong to."""

    def kept_together(self, y: NDArray[Any]) -> NDArray[np.int64]:
        return y[::2]


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        (ShowsOneTwice(), "An epoch has every sample once"),
        (TurnsVectors(), "changes no decision of a user's own"),
        (KeepsHalf(), "and to one that stays together"),
        (LosesRows(), "a target for each row"),
        (LearnsNothing(), "label loss is finite and falls"),
        (JudgesByAnother(), "scores that are for it"),
    ],
)
def test_broken_tasks_are_found(task: Any, rule: str) -> None:
    with pytest.raises(BrokenRule, match=rule):
        check_task(task, TARGETS[task.name])


def test_labels_are_decisions_between_two_classes() -> None:
    """The loss is the binary cross-entropy, soft targets the divergence of Bernoulli distributions."""
    task, y = load_task("multi_label"), torch.tensor(LABELS, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    z, w = (2 * torch.randn(8, 3, generator=generator) for _ in range(2))
    z.requires_grad_()
    loss = task.label_loss(task.decide(z), y, None, None)
    assert float(loss.detach()) == pytest.approx(float(F.binary_cross_entropy_with_logits(z, y).detach()), rel=1e-6)
    t = 4.0
    p, q = torch.sigmoid(w / t), torch.sigmoid(z / t)
    expected = t**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    method = make_method("soft_targets", temperature=t)
    outputs = [_outputs(task.decide(x)) for x in (z, w)]
    batch = Batch(torch.zeros(8, 1), y, torch.arange(8), 0.5, task=task)
    found = method(outputs[0], [outputs[1]], batch)["soft_targets"] / 0.9
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    ours, theirs = (torch.autograd.grad(value, z, retain_graph=True)[0] for value in (found, expected))
    assert torch.allclose(ours, theirs, atol=1e-6)


def _outputs(logits: Tensor) -> Outputs:
    return Outputs(logits, (), logits[:, :0])


def test_numbers_are_learned_in_units_of_their_deviation() -> None:
    read = load_task("regression").read_targets(TARGETS["regression"], None)
    y = torch.from_numpy(read.values["train"])
    decided = read.task.decide(y)
    assert decided.mean(dim=0).abs().max() < 1e-4
    assert torch.allclose(decided.std(dim=0, correction=0), torch.ones(2), rtol=1e-3)
    off = y + torch.tensor([1.0, 1e4])  # about a deviation each: both count alike
    parts = F.huber_loss(read.task.decide(off), decided, reduction="none").mean(dim=0)
    assert parts[0] == pytest.approx(float(parts[1]), rel=0.5)


def test_scores_are_scikit_learn_s() -> None:
    generator = np.random.default_rng(1)
    y = (generator.random((60, 4)) < [0.1, 0.3, 0.5, 0.8]).astype(np.float64)
    z = np.round(y + generator.normal(0, 1.2, y.shape), 1) - 0.5  # rounded: ties
    evidence = Predictions(z, y)
    assert load_score("mean_average_precision").value(evidence) == pytest.approx(average_precision_score(y, z))
    assert load_score("label_f1").value(evidence) == pytest.approx(f1_score(y, z >= 0, average="macro"))
    numbers = generator.normal(3e6, [1, 50], size=(60, 2))
    told = numbers + generator.normal(0, [0.4, 30], size=(60, 2))
    assert load_score("r2").value(Predictions(told, numbers)) == pytest.approx(r2_score(numbers, told), rel=1e-6)


def test_resamples_are_weights() -> None:
    """A sample that counts twice is a sample that is there twice."""
    generator = np.random.default_rng(2)
    y = (generator.random((20, 3)) < 0.4).astype(np.float64)
    z = y + generator.normal(0, 1, y.shape)
    times = generator.integers(0, 3, 20)
    for name, targets in (("mean_average_precision", y), ("label_f1", y), ("r2", y + 0.1 * z)):
        score: Any = load_score(name)
        found = score.weighted(Predictions(z, targets), times[None].astype(np.float64))
        again = Predictions(z.repeat(times, axis=0), targets.repeat(times, axis=0))
        assert found[0] == pytest.approx(score.value(again))


@pytest.mark.parametrize("name", ["mean_average_precision", "label_f1", "r2"])
def test_intervals_cover_the_truth(name: str) -> None:
    """Of splits drawn from a known population, about 95 % have its score in their interval."""
    generator, score = np.random.default_rng(3), load_score(name)
    y = generator.random((20_000, 2))
    y = (y < 0.3).astype(np.float64) if score.task == "multi_label" else y
    z = y + generator.normal(0, 0.25 if score.task == "regression" else 0.8, y.shape) - 0.4 * (name == "label_f1")
    truth, inside, splits = score.value(Predictions(z, y)), 0, 60
    for _ in range(splits):
        rows = generator.choice(len(y), 150, replace=False)
        found = score.of(Predictions(z[rows], y[rows]))
        inside += found.low <= truth <= found.high
    assert inside >= 0.88 * splits


@pytest.mark.parametrize(
    ("task", "y", "message"),
    [
        ("multi_label", np.arange(4), "wants a column for each label"),
        ("multi_label", np.array([[0, 1], [2, 0]]), "is 2 for sample 1, label 0; want 0 or 1"),
        ("multi_label", np.array([[0, 1], [0, 0]]), "label '0' is on no training sample"),
        ("multi_label", np.array([[1, 1], [1, 0]]), "label '0' is on every training sample"),
        ("regression", np.array([1.0, np.nan]), "is nan for sample 1; want finite numbers"),
        ("regression", np.array(["a", "b"]), "regression wants numbers"),
        ("regression", np.array([[1.0, 2.0], [1.0, 3.0]]), "target '0' is the same for all training samples"),
        ("regression", np.zeros((2, 3, 4)), r"regression wants numbers, \(N,\) or \(N, k\)"),
    ],
)
def test_targets_that_make_no_sense_are_refused(task: str, y: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task(task).read_targets({"train": y}, None)


def test_splits_and_names_have_to_agree() -> None:
    with pytest.raises(InputError, match="y of test has 2 columns"):
        load_task("multi_label").read_targets({"train": LABELS, "test": LABELS[:, :2]}, None)
    with pytest.raises(InputError, match="there are 2 names"):
        load_task("multi_label").read_targets({"train": LABELS}, ("a", "b"))
    with pytest.raises(InputError, match="3 names of targets"):
        load_task("regression").read_targets({"train": NUMBERS}, ("a", "b", "c"))


def test_a_score_of_another_task_is_refused() -> None:
    with pytest.raises(InputError, match=r"is for classification; .* label_f1, mean_average_precision"):
        load_task("multi_label").score("macro_f1")


def test_probabilities_are_no_logits_of_labels() -> None:
    task = load_task("multi_label")
    assert "return the logits" in task.fault_of_outputs(GENERATOR.random((20, 3), dtype=np.float32))
    assert task.fault_of_outputs(GENERATOR.normal(size=(20, 3)).astype(np.float32)) == ""
