"""Parts of a tiny search, all of them objects: networks of a few hundred weights on the problem of `toys`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import Dataset

import nas_kd

from .toys import net, samples

DEVICE = nas_kd.DeviceProfile("test-core", "one core, as tests see it", pinned=False)
OPTIONS = {
    "distill.epochs": 2,
    "distill.batch_size": 32,
    "chain.max_assistants": 1,
    "search.rungs": 1,
    "finalists.max": 2,
    "finalists.seeds": 2,
    "finalists.max_control_epochs": 1,
    "finalists.max_share": 1,
    "engine.threads": 1,
}


class TinySpace(nas_kd.GridSpace):
    """One convolution of stride 2, and perhaps another."""

    name = "tiny"
    summary = "one or two convolutions"

    def __init__(self, largest: int = 8) -> None:
        super().__init__([nas_kd.Dimension("width", 4, largest, step=4), nas_kd.Dimension("depth", 1, 2)])

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        width, layers = choices["width"], list[nn.Module]()
        for c_in in (channels, width)[: choices["depth"]]:
            layers += [nn.Conv2d(c_in, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes))

    def describe(self, architecture: Any) -> str:
        return "{depth} layers, {width} wide".format(**self.checked(architecture))


class LogitMatching(nas_kd.Method):
    """Squared difference of the logits."""

    name = "logit_matching"
    source = "Ba 2014, arXiv:1312.6184"
    summary = "squared difference of the logits"

    def forward(self, student: Any, teachers: Any, batch: Any) -> dict[str, Tensor]:
        return {"logit_matching": mse_loss(student.logits, teachers[0].logits)}


class Given(Dataset[Any]):
    """A data set whose items a function makes."""

    def __init__(self, item: Any, length: int = 60) -> None:
        self.item, self.length = item, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        return self.item(i)


class Recorder(nas_kd.Callback):
    """Keeps what a search reports; raises `error` at the end of trial `at`."""

    def __init__(self, error: Exception | None = None, at: int = 0) -> None:
        self.error, self.at = error, at
        self.resumed: list[bool] = []
        self.notes: list[str] = []
        self.trials: list[Any] = []

    def on_start(self, run_dir: str, resumed: bool) -> None:
        self.resumed.append(resumed)

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_trial_end(self, record: Any, trials: Any, hypervolume: float) -> None:
        self.trials.append(record)
        if self.error is not None and record.number == self.at:
            raise self.error


def splits() -> dict[str, tuple[Tensor, Tensor]]:
    """Training, validation and test data."""
    return {"train": samples(), "val": samples(60, seed=1), "test": samples(60, seed=2)}


def logits_of(file: Path, x: Tensor) -> Tensor:
    """What an exported file makes of samples."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": x.numpy()})
    return torch.from_numpy(logits)


def agrees(student: nn.Module, file: Path, x: Tensor, within: float = 1e-4) -> None:
    """A module and a file make the same of samples."""
    with torch.no_grad():
        difference = (student(x) - logits_of(file, x)).abs().max()
    assert float(difference) < within


def saved_teacher(file: Path) -> nn.Module:
    """The teacher of the tests as another process loads it."""
    teacher = net(12)
    teacher.load_state_dict(torch.load(file, weights_only=True))
    return teacher


def tiny_search(run_dir: Path, teacher: nn.Module, /, **changes: Any) -> nas_kd.Run:
    """A search in which everything is an object; `changes` replace arguments, and single `options`."""
    call = {
        "teacher": teacher,
        "data": splits(),
        "space": TinySpace(),
        "methods": [LogitMatching, "soft_targets"],
        "device": DEVICE,
        "budget": nas_kd.Budget(max_latency_ms=5, max_size_kb=50),
        "trials": 3,
        "run_dir": run_dir,
        **changes,
    }
    return nas_kd.search(**{**call, "options": {**OPTIONS, **changes.get("options", {})}})
