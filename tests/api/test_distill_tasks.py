"""Distillation of modules for other tasks: several labels and numbers, from arrays, data sets and loaders."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas_kd
from nas_kd.errors import InputError

X, Y = load_diabetes(return_X_y=True)
FEATURES = torch.from_numpy((X / X.std(axis=0)).astype(np.float32))
NUMBERS = torch.from_numpy(Y.astype(np.float32))
TRAIN, VAL = slice(0, 300), slice(300, None)
LABELS = torch.stack([NUMBERS > 140, FEATURES[:, 2] > 0.5, FEATURES[:, 8] > 0], dim=1).long()


def network(width: int, outputs: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, outputs))


def in_units(module: nn.Module) -> nn.Module:
    """A module whose outputs are already of the size of the numbers."""
    return nn.Sequential(module, Times(80.0, 150.0))


class Times(nn.Module):
    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor + self.offset


class Scores(nas_kd.Callback):
    def __init__(self) -> None:
        self.last = 0.0

    def on_epoch_end(self, event: Any) -> None:
        self.last = event.val_score


class Notes(nas_kd.Callback):
    def __init__(self) -> None:
        self.said = list[str]()

    def on_note(self, text: str) -> None:
        self.said.append(text)


def given(kind: str, y: torch.Tensor, part: slice) -> Any:
    x, y = FEATURES[part], y[part]
    if kind == "arrays":
        return x.numpy(), y.numpy()
    data = TensorDataset(x, y)
    return DataLoader(data, batch_size=32, shuffle=True) if kind == "loader" else _Plain(data)


class _Plain(torch.utils.data.Dataset[Any]):
    """A data set that is not known to hold tensors."""

    def __init__(self, inner: TensorDataset) -> None:
        self._inner = inner

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, index: int) -> Any:
        return self._inner[index]


@pytest.mark.parametrize("kind", ["arrays", "dataset", "loader"])
def test_numbers_are_learned_from_labels_and_from_a_teacher(kind: str) -> None:
    train, val = given(kind, NUMBERS, TRAIN), given(kind, NUMBERS, VAL)
    options: dict[str, Any] = {"train": train, "val": val, "task": "regression", "epochs": 12, "batch_size": 32}
    teacher = nas_kd.distill(in_units(network(32, 1)), method="none", **options)
    scores = Scores()
    student = nas_kd.distill(in_units(network(4, 1, 1)), teacher, method="logits", callbacks=scores, **options)
    with torch.no_grad():
        seen = r2_score(NUMBERS[VAL].numpy(), student(FEATURES[VAL])[:, 0].numpy())
    assert seen > 0.3
    assert scores.last == pytest.approx(seen, abs=1e-5)


@pytest.mark.parametrize("method", ["soft_targets", "dkd", "none"])
def test_several_labels(method: str) -> None:
    train, val = given("arrays", LABELS, TRAIN), given("arrays", LABELS, VAL)
    options: dict[str, Any] = {"train": train, "val": val, "task": "multi_label", "epochs": 12, "batch_size": 32}
    teacher = nas_kd.distill(network(32, 3), method="none", **options)
    scores = Scores()
    nas_kd.distill(network(4, 3, 1), None if method == "none" else teacher, method=method, callbacks=scores, **options)
    assert scores.last > 0.75  # mean average precision; guessing gets about 0.5


def test_embeddings_are_as_wide_as_the_student() -> None:
    """Ten people, whose patients' measurements differ by less than those of others; the teacher is wider."""
    people = torch.arange(300) % 10
    x = FEATURES[:10][people] + 0.3 * torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"train": (x[:200], people[:200]), "val": (x[200:], people[200:]), "task": "embedding"}
    teacher = nas_kd.distill(network(32, 12), method="none", epochs=10, **options)
    scores = Scores()
    student = nas_kd.distill(network(16, 6, 1), teacher, method="embedding", epochs=10, callbacks=scores, **options)
    assert student(x[:2]).shape == (2, 6)
    assert scores.last > 0.5  # recall@1; guessing gets 0.1
    notes = Notes()
    data = TensorDataset(x[:200], people[:200])
    for train in (_Plain(data), DataLoader(data, batch_size=40)):
        again = options | {"train": train, "epochs": 1}
        nas_kd.distill(network(16, 6, 1), teacher, method="embedding", callbacks=notes, **again)
    assert sum("several samples of each identity" in note for note in notes.said) == 1


def test_the_same_seed_gives_the_same_weights() -> None:
    def trained() -> nn.Module:
        return nas_kd.distill(
            in_units(network(4, 1)), train=(FEATURES, NUMBERS), method="none", task="regression", epochs=2
        )

    first, second = (list(module.parameters()) for module in (trained(), trained()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "soft_targets"}, "method 'soft_targets' is not made for regression"),
        ({"class_weights": "balanced"}, "class_weights is for one class a sample, and the task is regression"),
        ({"standardize": True}, "standardize is for one class a sample, and the task is regression"),
        ({"train": (FEATURES, NUMBERS * float("nan"))}, "y of train has values that are no finite numbers"),
        ({"train": (FEATURES, NUMBERS * 0)}, "is the same for all training samples"),
        ({"train": (FEATURES, torch.stack([NUMBERS] * 2, dim=1))}, "want (2, 2), an output for each column of y"),
        ({"train": (FEATURES, [["a"]] * len(FEATURES))}, "y of train has type <U1; want numbers"),
        ({"task": "captions"}, "unknown task 'captions'"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    teacher = in_units(network(4, 1, 2))
    options = {"train": (FEATURES, NUMBERS), "task": "regression", "method": "logits", "epochs": 1} | changes
    with pytest.raises(InputError) as caught:
        nas_kd.distill(in_units(network(4, 1)), teacher, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
