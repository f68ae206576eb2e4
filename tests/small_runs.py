"""Small real runs on the digits: their config, and the parts that tests need of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nas_kd.commands.load_run import read_run
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback, EpochEnd, StopRun
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Training
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.training_job import TrainingJob
from nas_kd.latency.stable_timing import MeasurementBudget
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.serialization import fingerprint
from search_spaces.resnet import DIMENSIONS, ResNetSpace

MakeOnce = Callable[[str, Callable[[Path], object]], Path]  # name and how it is made -> the folder
Seed = Callable[[Path], Path]  # puts something into a folder's store, and returns the folder
SMALL_TEACHER: dict[str, Any] = {
    "space": "resnet",
    "epochs": 12,
    "architecture": {
        "stem_stride": 2,
        "width_1": 16,
        "depth_1": 1,
        "kernel_1": 3,
        "width_2": 24,
        "depth_2": 1,
        "kernel_2": 3,
        "width_3": 32,
        "depth_3": 1,
        "kernel_3": 3,
    },
}
SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"source": "digits", "train_rows": 640, "augment": {"crop": 0}},
    "teacher": SMALL_TEACHER,
    "chain": {"assistant_sizes": 3},
    "distill": {"methods": ["soft_targets", "similarity", "none"], "epochs": 4, "batch_size": 64, "probe_minutes": 0},
    "budget": {"max_latency_ms": 5.0, "max_size_kb": 60},
    "search": {"trials": 7, "rungs": 2, "reduction": 2, "rung_steps": 1},
    "finalists": {"max": 2, "seeds": 2, "max_control_epochs": 1.5, "max_share": 1.0, "baselines": []},
    "engine": {"threads": 1},
}


def small_config(**sections: Any) -> SearchConfig:
    """`SMALL` with some options replaced; a list of teachers replaces the one."""
    merged = dict(SMALL)
    for name, options in sections.items():
        merged[name] = {**merged.get(name, {}), **options} if isinstance(options, dict) else options
    return SearchConfig.model_validate(merged)


BRIEF = MeasurementBudget(seconds=0.1, attempts=1, tolerance=1.0)


@contextmanager
def measured_briefly() -> Iterator[None]:
    """Let the gate of this process measure for a moment only inside, however exact it wants to be."""
    with pytest.MonkeyPatch.context() as patch:
        for budget in ("FULL", "QUICK"):
            patch.setattr(f"nas_kd.nas.gate.{budget}", BRIEF)
        yield


@contextmanager
def few_startup_trials(number: int) -> Iterator[None]:
    """Let samplers learn from results after this many trials, rather than a dozen."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("sampler_view", "samplers.auto", "samplers.gp", "samplers.steady_state", "samplers.tpe"):
            patch.setattr(f"nas_kd.nas.{module}.STARTUP_TRIALS", number)
        yield


def open_context(config: SearchConfig, folder: Path) -> RunContext:
    """The context of a run in this folder."""
    return RunContext.prepare(config, RunFolder(folder), Callback())


def distiller_of(context: RunContext, teachers: Sequence[Teacher] = ()) -> Distiller:
    """The run's distiller, with these teachers."""
    return Distiller.for_run(context, NetworkBuilder(context.data, context.space), teachers)


def narrow_space() -> ResNetSpace:
    """The residual networks with 24 architectures only: three depths and a kernel are free."""
    free = {"depth_1", "depth_2", "depth_3", "kernel_3"}
    return ResNetSpace([d if d.name in free else replace(d, high=d.low) for d in DIMENSIONS])


def untrained_teacher(context: RunContext, seed: int) -> Teacher:
    """A teacher of initial weights: where it does not matter what a student learns."""
    builder = NetworkBuilder(context.data, context.space)
    network = builder.build(context.space.size_ladder(6)[4], seed)
    return Teacher(network.eval(), fingerprint(seed), "", 10**6, 1)


def plain_candidate(architecture: Architecture, method: str = "none", precision: str = "fp32") -> Candidate:
    """A student without assistants."""
    return Candidate(architecture, (), Recipe(method), precision)


def candidate_of(context: RunContext, method: str, assistants: int, **further: Any) -> Candidate:
    """A small student behind this many assistants."""
    small, *larger = context.space.size_ladder(6)[:4]
    return Candidate(small, tuple(reversed(larger[:assistants])), Recipe(method), **further)


class TrainingLog:
    """Notes every training of a distiller that really takes place; what is found in the store is not one."""

    def __init__(self, distiller: Distiller) -> None:
        self.jobs: list[TrainingJob] = []
        self.teachers: list[list[str]] = []  # their keys
        self.initial_weights: list[dict[str, torch.Tensor]] = []
        self.epochs: list[int] = []  # that each was trained for, without those before its checkpoint
        trainer = distiller.trainer
        set_up = trainer.training

        def training(job: TrainingJob, student: nn.Module, teachers: Sequence[Teacher], method: Any) -> Training:
            self.jobs.append(job)
            self.teachers.append([t.key for t in teachers])
            self.initial_weights.append({k: v.clone() for k, v in student.state_dict().items()})
            created = set_up(job, student, teachers, method)
            run = created.run

            def counted(until: int, after_epoch: Any) -> None:
                before = created.epoch
                run(until, after_epoch)
                self.epochs.append(created.epoch - before)

            created.run = counted  # type: ignore[method-assign, assignment]
            return created

        trainer.training = training  # type: ignore[method-assign]

    @property
    def methods(self) -> list[str]:
        """The methods of these trainings, in order."""
        return [job.recipe.method for job in self.jobs]


class StopsAfter(Callback):
    """Stops a run after this many epochs of training, whatever is trained."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.left -= 1
        if self.left == 0:
            raise StopRun("now")


def assert_same_run(first: Path, second: Path) -> None:
    """Check that two runs proposed the same candidates, with the same scores, and trained the same weights."""
    whole, resumed = (read_run(RunFolder(path)) for path in (first, second))
    assert [t.id for t in resumed.trials] == [t.id for t in whole.trials]
    assert [t.val_accuracy for t in resumed.trials] == [t.val_accuracy for t in whole.trials]
    files = [{(f.id, s.seed): s.sha256 for f in run.finalists for s in f.seeds} for run in (whole, resumed)]
    shared = files[0].keys() & files[1].keys()  # latencies may make another one the finalist
    assert all(files[0][key] == files[1][key] for key in shared)
