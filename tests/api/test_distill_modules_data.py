"""Training and validation data that cannot be used are refused in one clear line."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from nas_kd.commands.distill_modules import distill
from nas_kd.errors import InputError

from .refusals import X, Y, assert_refused
from .toys import Batches, Items, N, net


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("crd", "method 'crd' needs to know which sample is which; pass arrays or a Dataset instead of a DataLoader"),
        ("dkd+crd", "method 'crd' needs to know which sample is which; pass arrays or a Dataset instead of .*"),
        ("bake", "method 'bake' chooses the order of samples; pass arrays or a Dataset instead of a DataLoader"),
    ],
)
def test_methods_that_a_loader_cannot_serve(method: str, message: str) -> None:
    loader = DataLoader(TensorDataset(X, Y), 32)
    assert_refused(message, teacher="none" if method == "bake" else None, train=loader, method=method)


class Dicts(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return {"image": X[i], "label": Y[i]}


class Endless(Dataset[Any]):
    def __getitem__(self, i: int) -> Any:
        return X[0], Y[0]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[0], Y[0])] * 64)


class Ragged(Items):
    def __getitem__(self, i: int) -> Any:
        return self.x[i][:, : 4 + i], self.y[i]


class Strings(Items):
    def __getitem__(self, i: int) -> Any:
        return object(), self.y[i]


def with_nan() -> Tensor:
    x = X.clone()
    x[40, 0, 0, 0] = torch.nan
    return x


WANTED = r"want \(x, y\) of arrays or tensors, a Dataset with items \(x, y\), or a DataLoader that yields .*"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, f"train is of type NoneType; {WANTED}"),
        ("train.npz", f"train is of type str; {WANTED}"),
        (X, r"train is a single array of shape \(96, 1, 8, 8\); want a pair \(x, y\)"),
        ((X, Y, Y), r"train is a tuple of 3; want a pair \(x, y\)"),
        ((X, Y[:5]), "train has 96 samples and 5 labels"),
        ((X.tolist(), Y), "x of train is of type list; want a tensor or a NumPy array"),
        ((X[:0], Y[:0]), r"x of train has shape \(0, 1, 8, 8\); want \(N, \.\.\.\) with at least one number a sample"),
        ((X[:1], Y[:1]), "training needs two samples at least, train has 1"),
        ((with_nan(), Y), "x of train has NaN or infinite values in 1 samples, first in sample 40"),
        ((X, Y + 1), r"label 3 of train \(sample 2\) is out of range: classes are 0\.\.2, one per logit"),
        ((X, Y - 1), r"label -1 of train \(sample 0\) is out of range: classes are 0\.\.2, one per logit"),
        ((X, Y + 0.5), "y of train has values that are no whole numbers; want class numbers"),
        ((X, torch.eye(3)[Y]), r"y of train has shape \(96, 3\); want \(96,\) class numbers"),
        ((X, np.array(["a", "b", "c"] * 32)), "y of train has type <U1; want class numbers"),
        ((np.array([None] * 4), Y[:4]), "x of train has type object; want real numbers"),
        ((torch.complex(X, X), Y), "x of train has type torch.complex64; want real numbers"),
        ((X.long(), Y), "student cannot take samples of train, int64 of .*; whole numbers are taken for token ids: .*"),
        (Endless(), "train: Endless has no length: define __len__ in it, or in its dataset"),
        (Stream(), "train is of type Stream; define __len__ in it and wrap it in a DataLoader"),
        (
            DataLoader(Stream(), 8),
            "train: DataLoader has no length: define __len__ in it, or in its dataset",
        ),
        (iter([(X, Y)]), "train is a list_iterator, which can be read only once; want a DataLoader"),
        (Items(X[:0], Y[:0]), "train is empty"),
        (Batches([]), "train is empty"),
        (Items(X[:1], Y[:1]), "training needs two samples at least, train has 1"),
        (Dicts(), r"train\[0\] is a dict with keys 'image', 'label'; want a pair \(x, y\)"),
        (Ragged(X, Y), "train: its items cannot be put into a batch: stack expects each tensor to be equal size.*"),
        (Strings(X, Y), "train: its items cannot be put into a batch: .*"),
        (Items(with_nan(), Y), "x of train has NaN or infinite values"),
        (Items(X, Y + 1), r"label 3 of train \(sample \d+\) is out of range: classes are 0\.\.2, one per logit"),
        (DataLoader(Dicts(), 8), r"a batch of train is a dict with keys 'image', 'label'; want a pair \(x, y\)"),
        (DataLoader(X, 8), r"a batch of train is a single array of shape \(8, 1, 8, 8\); want a pair \(x, y\)"),
        (DataLoader(TensorDataset(X, Y, Y), 8), r"a batch of train is a list of 3; want a pair \(x, y\)"),
        (
            DataLoader(TensorDataset(X, Y), 1),
            "train: its first batch has one sample; training needs two samples a batch at least",
        ),
        (
            DataLoader(TensorDataset(X[:1], Y[:1]), 8),
            "training needs two samples at least, train has 1",
        ),
        (
            DataLoader(TensorDataset(X, torch.eye(3)[Y]), 8),
            r"y of batch 0 of train has shape \(8, 3\); want \(8,\) class numbers",
        ),
        (DataLoader(TensorDataset(with_nan(), Y), 8), "x of batch 5 of train has NaN or infinite values"),
        (
            Batches([(X, Y), (X[:1], Y[:1])]),
            "batch 1 of train has 1 sample; training needs two at least: use drop_last=.*",
        ),
        (
            Batches([(X, Y)] * 2, length=3),
            "train ended after 2 of its 3 batches; it must give all of them in every epoch",
        ),
        (Batches([(X.tolist(), Y)]), "x of batch 0 of train is of type list; want a tensor or a NumPy array"),
        (
            list(zip(X, Y, strict=True)),
            r"batch 0 of train has x of shape \(1, 8, 8\) and one label; want x \(B, \.\.\.\) and y \(B,\)",
        ),
        (Batches([(X, 3)]), r"batch 0 of train has x of shape \(96, 1, 8, 8\) and one label; want .*"),
        (Batches([(X, Y[:5])]), r"batch 0 of train has x of shape \(96, 1, 8, 8\) and 5 labels; want .*"),
        (Batches(["ab"]), r"a batch of train is of type str; want a pair \(x, y\)"),
    ],
)
def test_training_data(train: Any, message: str) -> None:
    if isinstance(train, DataLoader | Batches | Items) and re.search("batch [15]|ended|NaN|sample .d", message):
        student = net()  # training has begun when this is found
        with pytest.raises(InputError) as caught:
            distill(student, net(8), train=train, epochs=1, batch_size=32, calibrate=False)
        assert re.fullmatch(message, str(caught.value)), str(caught.value)
        assert all(torch.isfinite(v).all() for v in student.state_dict().values())
    else:
        assert_refused(message, train=train)


@pytest.mark.parametrize(
    ("val", "message"),
    [
        ((X[:, :, :4], Y), r"student cannot take samples of val, float32 of shape \(1, 4, 8\): RuntimeError: .*"),
        ((X, Y + 1), r"label 3 of val \(sample 2\) is out of range: classes are 0\.\.2, one per logit"),
        (DataLoader(Dicts(), 8), "a batch of val is a dict with keys 'image', 'label'; want .*"),
        ("val", "val is of type str; .*"),
    ],
)
def test_validation_data_is_looked_at_before_training(val: Any, message: str) -> None:
    assert_refused(message, val=val)
