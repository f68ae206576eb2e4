"""Whatever goes wrong with one candidate ends in its record; the search goes on, and so does a resumed one."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.context.callbacks import Callback, StopRun
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import TrialError
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.results.candidate import Architecture
from tests.small_runs import Seed, small_config

pytestmark = pytest.mark.usefixtures("brief_measurements")
FAULTS = ("none", "build", "exit", "not a module", "forward", "shape", "training", "export", "suggest")


class Network(nn.Module):
    """A convolution and a linear layer, with one fault."""

    def __init__(self, channels: int, width: int, classes: int, fault: str) -> None:
        super().__init__()
        self.fault, self.conv = fault, nn.Conv2d(channels, width, 3)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Any:
        if self.fault == "forward":
            raise IndexError("too many poolings")
        if self.fault == "training" and self.training:
            raise ZeroDivisionError("only in training")
        logits = self.head(self.conv(x).relu().mean((2, 3)))
        if self.fault == "shape":
            return logits[:, :3]
        if self.fault == "export":
            return logits + 0 * torch.special.bessel_j0(logits)
        return logits, {"features": logits}  # as a student, too


class Faulty(GridSpace):
    """Most of its members cannot be built, run, trained or exported, each in a way of its own."""

    name = "faulty"
    summary = "networks with faults"

    def __init__(self, faults: tuple[str, ...] = FAULTS) -> None:
        super().__init__([Dimension("width", 4, 16, step=4), Dimension("fault", 0, len(faults) - 1)])
        self.faults = faults

    def suggest(self, trial: Any, prefix: str = "") -> Architecture:
        architecture = super().suggest(trial, prefix)
        if self.faults[int(architecture.choices["fault"])] == "suggest":
            raise ValueError("no such combination")
        return architecture

    def describe(self, architecture: Architecture) -> str:
        return "{width} wide, fault {fault}".format(**self.checked(architecture))

    def network(self, choices: Any, channels: int, n_classes: int) -> Any:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_dtype(torch.float32)
        fault = self.faults[choices["fault"]]
        if fault == "build":
            raise KeyError("kernel")
        if fault == "exit":
            sys.exit("invalid architecture")
        if fault == "not a module":
            return None
        return Network(channels, choices["width"], n_classes, fault)


class OnlyFaults(Faulty):
    name = "only faults"

    def __init__(self) -> None:
        super().__init__(("build", "forward", "export"))


class OnlyUntrainable(Faulty):
    name = "only untrainable"

    def __init__(self) -> None:
        super().__init__(("training", "training"))


class Stopper(Callback):
    """Stops the search after a few trials."""

    def on_trial_end(self, record: Any, trials: Any, hypervolume: float) -> None:
        if len(trials) >= 9:
            raise StopRun("enough for today")


def config_of(name: str, trials: int = 24) -> Any:
    return small_config(
        space={"name": f"{__name__}:{name}"},
        distill={"methods": ["soft_targets"], "epochs": 1, "batch_size": 64, "probe_minutes": 0},
        chain={"max_assistants": 1},
        search={"trials": trials, "rungs": 1, "sampler": "random", "seed": 4},
        finalists={"max": 1, "seeds": 1, "controls": False},
        budget={},
    )


def test_the_search_goes_on_and_so_does_a_resumed_one(tmp_path: Path, with_teachers: Seed) -> None:
    folder, config = with_teachers(tmp_path / "run"), config_of("Faulty")
    with pytest.raises(StopRun):
        search(config, folder, Stopper())
    before = read_run(RunFolder(folder)).trials
    run = search(config, folder)
    assert run.state == "finished"
    assert [t.id for t in run.trials[: len(before)]] == [t.id for t in before]
    reasons = {t.reason for t in run.trials if t.status == "failed"}
    finished = [t for t in run.trials if t.status == "finished"]
    assert all(Faulty().faults[int(t.candidate.student.choices["fault"])] == "none" for t in finished)
    assert run.finalists
    expected = {
        "KeyError: 'kernel'",
        "SystemExit: it called exit('invalid architecture')",
        "space 'faulty': build must return a torch.nn.Module, got NoneType",
        "IndexError: too many poolings",
        "the network must give logits of shape (2, 10) for 2 samples, got (2, 3); the data has 10 classes: replace its "
        "last layer, or return the logits of these classes only",
        "ZeroDivisionError: only in training",
        "the network cannot be exported to ONNX: Exporting the operator 'aten::special_bessel_j0' to ONNX opset "
        "version 17 is not supported",
        "suggest() of space 'faulty' failed: ValueError: no such combination",
    }
    assert reasons == expected
    assert torch.is_grad_enabled()


def test_a_space_without_a_network_ends_in_one_line(tmp_path: Path, with_teachers: Seed) -> None:
    folder = with_teachers(tmp_path / "run")
    for _ in range(2):  # a resumed one, too
        with pytest.raises(
            TrialError, match=r"\Aspace 'only faults': none of its \d sizes can be built and exported; "
        ):
            search(config_of("OnlyFaults", 3), folder)


def test_networks_of_which_none_can_be_trained_end_in_one_line(tmp_path: Path, with_teachers: Seed) -> None:
    folder = with_teachers(tmp_path / "run")
    for _ in range(2):
        with pytest.raises(TrialError, match=r"\Anone of \d candidates could be trained; the last one: ZeroDivision"):
            search(config_of("OnlyUntrainable", 3), folder)
