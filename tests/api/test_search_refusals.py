"""What a search cannot use is refused in one line that says what to do, before anything is trained."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import nas_kd

from .search_toys import Given, LogitMatching, tiny_search
from .toys import Items, Net, net, samples

X, Y = samples()


class Nameless(nas_kd.Method):
    pass


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return zip(X, Y, strict=True)


class Endless(Dataset[Any]):
    def __getitem__(self, i: int) -> Any:
        return X[i], Y[i]


def assert_refused(folder: Path, teacher: nn.Module, message: str, /, **changes: Any) -> None:
    """The whole message is this regular expression, one line."""
    with pytest.raises(nas_kd.InputError, match=rf"\A{message}\Z") as caught:
        tiny_search(folder, teacher, **changes)
    assert "\n" not in str(caught.value)


def short(value: Any) -> str:
    """The id of a test, from its parameters."""
    return re.sub(r"\W+", "-", value)[:30] if isinstance(value, str) else type(value).__name__


PAIR = r"data: train must be a pair \(x, y\) of arrays or tensors, or a torch Dataset of \(x, y\), got "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"train": (X, Y), "tset": (X, Y)},
            r"data: unknown split 'tset'; allowed: train, val, test, classes, unlabelled, group",
        ),
        ({"tran": (X, Y)}, r"data\.tran: unknown key; did you mean 'train'\?"),
        ({"train": None}, f"{PAIR}NoneType"),
        (X, f"{PAIR}Tensor"),
        ((X, Y, Y), f"{PAIR}tuple"),
        ((X, None), f"{PAIR}tuple"),
        (5, f"{PAIR}int"),
        (DataLoader(TensorDataset(X, Y)), rf"{PAIR}DataLoader; give its \.dataset"),
        (Stream(), r"data: train is a Dataset without a length; give one with __len__, or arrays"),
        (Endless(), r"data: train is a Dataset without a length; give one with __len__, or arrays"),
        (Given(lambda i: {"x": X[i], "y": Y[i]}), r"data: train\[0\] must be a pair \(x, y\), got dict"),
        (Given(lambda i: X[i]), r"data: train\[0\] must be a pair \(x, y\), got Tensor"),
        (Given(lambda i: (X[i], Y[i]), length=0), r"data: train is empty"),
        (
            Given(lambda i: (X[i, :, : 8 - i % 2], Y[i])),
            r"data: the samples of train differ in shape: \(1, 8, 8\) and \(1, 7, 8\); resize them first",
        ),
        (
            Items(X, Y, noise=0.1),
            r"data: train\[0\] is another sample each time it is read; give the Dataset without .*",
        ),
        (Given(lambda i: (X[i], 0.5)), r"label 0\.5 of train \(sample 0\) is not a class number"),
        ((X, Y[:50]), r"train has 96 samples but 50 labels"),
        ((X[:0], Y[:0]), r"x of train has shape \(0, 1, 8, 8\); want \(N, \.\.\.\) with at least one number a sample"),
        (
            (np.zeros((60, 8, 8, 3), np.uint8), np.arange(60) % 3),
            r"data: samples of train have shape \(8, 8, 3\), which looks like \(H, W, C\); give .*",
        ),
        ("digit", r"unknown dataset 'digit'; did you mean 'digits'\?"),
    ],
    ids=short,
)
def test_data(data: Any, message: str, teacher: Net, tmp_path: Path) -> None:
    assert_refused(tmp_path / "run", teacher, message, data=data)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"module": net(8, classes=4), "fine_tune": "never"},
            r"teacher: must give logits of shape \(2, 3\) for 2 samples, got \(2, 4\); the data has 3 .*",
        ),
        (nn.LazyLinear(3), r"teacher: 'weight' has no shape yet; run the network on a batch before"),
        (nn.Linear(64, 3, device="meta"), r"teacher: 'weight' is on meta; training runs on the CPU, so move it there"),
        (nn.Linear(8, 3), r"teacher: must give logits of shape \(2, 3\) for 2 samples, got \(2, 1, 8, 3\)"),
        (nn.Linear(9, 3), r"teacher: cannot take samples of shape \(1, 8, 8\): RuntimeError: .*"),
        (net(8), r"teacher: no better than chance: validation accuracy \d+\.\d% \(95 % interval .*; guessing gets .*"),
        ("net.pt", r"teacher must be .* got 'net\.pt'; load the weights into your module and pass that, .*"),
        (nn.Linear, r"teacher must be .* got type; pass an instance"),
        ([], r"teacher is an empty list; leave it out to have one trained"),
        ({"module": 5}, r"teacher: module must be a torch\.nn\.Module, got int"),
        ({"module": net(8), "preprocessing": "units"}, r"teacher\.preprocessing must be .*; did you mean 'unit'\?"),
        ({"module": net(8), "preprocess": "unit"}, r"teacher\.preprocess: unknown key; did you mean 'preprocessing'\?"),
        ("nowhere.onnx", r"teacher\.onnx: .*nowhere\.onnx: no such file"),
    ],
    ids=short,
)
def test_a_teacher(given: Any, message: str, teacher: Net, measured: Path) -> None:
    assert_refused(measured, teacher, message, teacher=given)


def test_one_teacher_twice(teacher: Net, measured: Path) -> None:
    message = r"two of the teachers are the same network: give them different seeds or weights"
    assert_refused(measured, teacher, message, teacher=[teacher, teacher])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": 5}, r"space 5 has no 'name'; see nas_kd\.models\.search_space\.SearchSpace"),
        ({"space": "resnett"}, r"unknown space 'resnett'; did you mean 'resnet'\?"),
        ({"methods": []}, r"distill\.methods must have at least 1 items, got \[\]"),
        ({"methods": "soft_target"}, r"unknown method 'soft_target'; did you mean 'soft_targets'\?"),
        ({"methods": [Nameless]}, r"method Nameless has no name; set `name` in the class"),
        ({"methods": [LogitMatching()]}, r"methods: pass the class LogitMatching, not an instance: every trial .*"),
        ({"methods": [5]}, r"a method must be a name or a class derived from nas_kd\.Method, got int"),
        ({"device": 5}, r"device must be a name or a nas_kd\.DeviceProfile, got int"),
        ({"device": "cpu-9t"}, r"unknown device 'cpu-9t'; did you mean 'cpu-2t'\?"),
        ({"budget": 0.5}, r"budget must be a nas_kd\.Budget, such as Budget\(max_latency_ms=0\.5\), got float"),
        ({"budget": {"max_latency_ms": -1}}, r"budget\.max_latency_ms must be > 0, got -1"),
        ({"trials": 0}, r"search\.trials must be >= 1, got 0"),
        ({"trials": "5"}, r"search\.trials must be a whole number, got '5'"),
        ({"workers": 1.5}, r"search\.workers must be a whole number, got 1\.5"),
        ({"seed": -1}, r"search\.seed must be >= 0, got -1"),
        ({"max_minutes": 0}, r"search\.max_minutes must be > 0, got 0"),
        ({"options": {"distill.epoch": 5}}, r"distill\.epoch: unknown key; did you mean 'epochs'\?"),
        (
            {"config": {"search": {}}},
            r"config must be a nas_kd\.SearchConfig or the path of a config\.toml, got dict; .*",
        ),
        ({"config": "nowhere.toml"}, r"nowhere\.toml: no such file; `nas-kd init nowhere\.toml` writes one .*"),
        ({"callbacks": print}, r"callbacks: want instances of nas_kd\.Callback, got builtin_function_or_method; .*"),
    ],
    ids=short,
)
def test_options(changes: dict[str, Any], message: str, teacher: Net, measured: Path) -> None:
    assert_refused(measured, teacher, message, **changes)


def test_options_that_are_no_mapping(tmp_path: Path) -> None:
    message = r"^options must be a mapping of dotted keys, such as \{\"distill\.epochs\": 60\}, got list$"
    with pytest.raises(nas_kd.InputError, match=message):
        nas_kd.search(options=["distill.epochs"], run_dir=tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nas_kd.Budget(max_latency=1), r"budget\.max_latency: unknown key; did you mean 'max_latency_ms'\?"),
        (lambda: nas_kd.Budget(max_size_kb=0), r"budget\.max_size_kb must be > 0, got 0"),
        (lambda: nas_kd.Budget(max_latency_ms="fast"), r"budget\.max_latency_ms must be a number, got 'fast'"),
        (lambda: nas_kd.Budget(min_accuracy=97), r"budget\.min_accuracy must be <= 1, got 97"),
        (lambda: nas_kd.SearchConfig(search={"trial": 3}), r"search\.trial: unknown key; did you mean 'trials'\?"),
        (lambda: nas_kd.SearchConfig(serch={}), r"serch: unknown section; did you mean 'search'\?"),
        (lambda: nas_kd.SearchConfig(trials=3), r"trials: unknown key; did you mean 'search\.trials'\?"),
        (lambda: nas_kd.SearchConfig(name="../x"), r"name must match .*, got '\.\./x'"),
    ],
    ids=short,
)
def test_options_in_python_have_the_errors_of_the_command_line(make: Any, message: str) -> None:
    with pytest.raises(nas_kd.InputError, match=rf"\A{message}\Z"):
        make()


def test_nothing_that_was_given_has_changed(teacher: Net, measured: Path) -> None:
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    training = teacher.train().body.training
    with pytest.raises(nas_kd.InputError):
        tiny_search(measured, teacher, data={"train": (X, Y + 7)})
    assert teacher.body.training is training
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    teacher.eval()
