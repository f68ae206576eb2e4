"""Trainings of the pairs of families; each is a line of OUT/results.jsonl and done once."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

import nas_kd
from benchmarks.families.networks import Family, network
from benchmarks.runs import append_result, results_in
from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.numerics import PLAIN
from nas_kd.methods.combine import make_method

TEACHER_SEED = 1000
AUGMENT = {"crop": 4, "flip": True}
# What each family is usually trained with; SGD at the tool's own learning rate.
OPTIMIZERS: Mapping[Family, Mapping[str, Any]] = {
    "cnn": {"optimizer": "sgd"},
    "vit": {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05},
}


@dataclass(frozen=True)
class Settings:
    """What all results of one folder have in common.

    Attributes:
        rows: first rows of the training file that students see.
        teacher_rows: first rows that teachers are trained on.
        test: first rows of the test file.
        epochs: of students.
        teacher_epochs: of teachers.
        batch_size: samples a step.
    """

    rows: int = 1000
    teacher_rows: int = 4000
    test: int = 4000
    epochs: int = 16
    teacher_epochs: int = 12
    batch_size: int = 32


@dataclass(frozen=True)
class Point:
    """One student, or with no method a teacher.

    Attributes:
        teacher: its family.
        student: its family; empty: this is the teacher itself.
        method: of distillation.
        seed: of initial weights and order.
    """

    teacher: Family
    student: Family | None
    method: str
    seed: int

    @property
    def key(self) -> str:
        """Name in the file of results."""
        return f"{self.teacher}.{self.student or 'itself'}.{self.method}.{self.seed}"


class Trainings:
    """Trainings on the first rows of CIFAR-10."""

    def __init__(self, data_dir: Path, out: Path, settings: Settings) -> None:
        """Data are loaded when they are needed first.

        Args:
            data_dir: holds cifar10-train.parquet and cifar10-test.parquet.
            out: folder of results.
            settings: of all results in it.
        """
        self._data_dir, self._out, self.settings = data_dir, out, settings

    @cached_property
    def _data(self) -> Dataset:
        options = DataOptions(
            source="parquet",
            train=self._data_dir / "cifar10-train.parquet",
            test=self._data_dir / "cifar10-test.parquet",
            val_fraction=0.01,  # not read: nothing is chosen
            train_rows=self.settings.teacher_rows,
            test_rows=self.settings.test,
        )
        return load_dataset(options, seed=0)

    def train(self, point: Point) -> dict[str, Any]:
        """Train a student, or find its result."""
        if (known := results_in(self._out).get(point.key)) is not None:
            return known
        if point.student is None:
            raise ValueError("teachers are trained where a student needs them")
        teacher = self._teacher(point.teacher)
        net, started = self._network(point.student, "student", point.seed), time.process_time()
        self._distill(net, teacher, point, rows=self.settings.rows, epochs=self.settings.epochs)
        return self._write(point, net, time.process_time() - started)

    def _teacher(self, family: Family) -> nn.Module:
        point = Point(family, None, "none", TEACHER_SEED)
        net, path = self._network(family, "teacher", TEACHER_SEED), self._out / "work" / f"{family}.safetensors"
        if path.exists() and point.key in results_in(self._out):
            net.load_state_dict(safetensors.torch.load_file(path))
            return net.eval()
        started = time.process_time()
        self._distill(net, None, point, rows=self.settings.teacher_rows, epochs=self.settings.teacher_epochs)
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(net.state_dict(), path)
        self._write(point, net, time.process_time() - started)
        return net.eval()

    def _network(self, family: Family, role: str, seed: int) -> nn.Module:
        return network(family, role, seed, self._data)

    def _distill(self, net: nn.Module, teacher: nn.Module | None, point: Point, *, rows: int, epochs: int) -> None:
        x, y = self._first(rows)
        nas_kd.distill(
            net,
            None if make_method(point.method).teachers == "none" else teacher,
            train=(x, y),
            method=point.method,
            epochs=epochs,
            batch_size=self.settings.batch_size,
            augment=AUGMENT,
            **OPTIMIZERS[point.student or point.teacher],
            seed=point.seed,
            threads=1,
        )

    def _first(self, rows: int) -> tuple[Tensor, Tensor]:
        train = self._data.train
        return train.x[:rows], train.y[:rows]

    def _write(self, point: Point, net: nn.Module, seconds: float) -> dict[str, Any]:
        accuracy = accuracy_of(net.eval(), self._data.test, PLAIN)
        parameters = sum(p.numel() for p in net.parameters())
        row = {"key": point.key, **asdict(point), "test": accuracy, "parameters": parameters}
        row |= {"cpu_seconds": round(seconds, 1), "settings": asdict(self.settings)}
        append_result(self._out, row)
        return row
