"""Weights of the classes on one's own modules: the same as in a run, whatever the data come in."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from .refusals import assert_refused
from .toys import CLASSES, Batches, Items, net, same, samples, trained

X, LABELS = samples()
RARE = torch.where(torch.arange(len(X)) % 8 == 0, LABELS, LABELS * 0)  # class 0 is in most of them
COUNTS = torch.bincount(RARE, minlength=CLASSES)
BALANCED = [len(X) / (CLASSES * int(n)) for n in COUNTS]


@pytest.mark.parametrize("kind", ["arrays", "dataset", "loader", "batches"])
def test_balanced_weights_are_counted_in_all_kinds_of_data(kind: str) -> None:
    batches = [(X[i : i + 32], RARE[i : i + 32]) for i in range(0, len(X), 32)]
    kinds: dict[str, Any] = {
        "arrays": (X, RARE),
        "dataset": Items(X, RARE, noise=0.1),
        "loader": DataLoader(TensorDataset(X, RARE), 32, shuffle=True),
        "batches": Batches(batches),
    }
    train = kinds[kind]
    balanced = trained(None, train, "none", class_weights="balanced")
    assert same(balanced, trained(None, train, "none", class_weights=BALANCED))
    assert not same(balanced, trained(None, train, "none"))


def test_a_list_an_array_and_a_tensor_are_the_same() -> None:
    given: list[Any] = [[1, 2, 4], (1.0, 2.0, 4.0), np.array([1, 2, 4]), torch.tensor([1.0, 2.0, 4.0])]
    first, *others = (trained(None, (X, RARE), "none", class_weights=weights, epochs=1) for weights in given)
    assert all(same(first, other) for other in others)


def test_a_rare_class_is_found_more_often() -> None:
    rare = trained(None, (X, RARE), "none", epochs=4, class_weights=[1.0, 50.0, 1.0])
    plain = trained(None, (X, RARE), "none", epochs=4)
    network, named = net(), []
    for weights in (rare, plain):
        network.load_state_dict(weights)
        with torch.no_grad():
            named.append(int((network.eval()(X).argmax(1) == 1).sum()))
    assert named[0] > named[1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"class_weights has 2 numbers, the data has 3 classes \(0, 1, 2\): give one for each, .*"),
        ("balance", r"class_weights: must be none, balanced or a list with a number > 0 for each class, got 'balance'"),
        ([1.0, 0.0, 1.0], r"class_weights: must be none, balanced or a list .*, got \[1.0, 0.0, 1.0\]"),
        (3, r"class_weights: must be none, balanced or a list .*, got 3"),
    ],
)
def test_wrong_weights_are_refused(weights: Any, message: str) -> None:
    assert_refused(message, class_weights=weights)
