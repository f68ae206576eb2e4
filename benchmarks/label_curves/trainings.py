"""Data, networks and trainings of the label curves; each training is a line of OUT/results.jsonl and done once."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
import torch
from torch import Tensor, nn

import nas_kd
from benchmarks.runs import append_result, results_in
from nas_kd.config.options import DataOptions
from nas_kd.data.augmentation_choices import NONE
from nas_kd.data.dataset import Split
from nas_kd.data.prepare import channel_statistics, load_dataset
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.numerics import PLAIN, seeded
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import load

METHOD = "soft_targets"
GIVEN, OWN = "given", "own"  # a teacher that saw every label of the pool, and one trained on the labels counted
AUGMENT = {"mnist": {"crop": 3}, "cifar10": {"crop": 4, "flip": True}}
TEACHER, STUDENT = (32, 64, 128), (8, 16, 32)  # channels of the three stages, one residual block each
ALL = 0


@dataclass(frozen=True)
class Settings:
    """What all results of one folder have in common.

    Attributes:
        pool: first rows of the training file: those without a label that counts are the unlabelled pictures.
        test: first rows of the test file.
        steps: of every training.
        batch_size: samples a step.
    """

    pool: int = 10_000
    test: int = 10_000
    steps: int = 800
    batch_size: int = 64


@dataclass(frozen=True)
class Point:
    """One student, or with no `unlabelled` choice a teacher.

    Attributes:
        dataset: mnist or cifar10.
        labels: that count; 0: all of the pool.
        teacher: given or own.
        unlabelled: whether the rest of the pool teaches, too; None: this is the teacher itself.
        seed: draws the labels, initial weights and order.
    """

    dataset: str
    labels: int
    teacher: str
    unlabelled: bool | None
    seed: int

    @property
    def key(self) -> str:
        """Name in the file of results."""
        role = "teacher" if self.unlabelled is None else "with" if self.unlabelled else "without"
        return f"{self.dataset}.{self.labels or 'all'}.{self.teacher}.{role}.{self.seed}"


class Trainings:
    """Trainings on one data set."""

    def __init__(self, dataset: str, data_dir: Path, out: Path, settings: Settings) -> None:
        """Read what is done; data are loaded when they are needed first.

        Args:
            dataset: mnist or cifar10.
            data_dir: holds DATASET-train.parquet and DATASET-test.parquet.
            out: folder of results.
            settings: of all results in it.
        """
        self._name, self._data_dir, self._out, self.settings = dataset, data_dir, out, settings

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """Results so far, by key."""
        return results_in(self._out)

    @cached_property
    def _splits(self) -> tuple[Split, Split, int]:
        options = DataOptions(
            source="parquet",
            train=self._data_dir / f"{self._name}-train.parquet",
            test=self._data_dir / f"{self._name}-test.parquet",
            val_fraction=0.01,  # not read: nothing is chosen
            train_rows=self.settings.pool,
            test_rows=self.settings.test,
        )
        data = load_dataset(options, seed=0)
        return data.train, data.test, data.n_classes

    def labelled(self, labels: int, seed: int) -> Tensor:
        """Rows of the pool whose labels count: as many of each class, drawn by the seed; 0: all rows."""
        y = self._splits[0].y
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        if labels == ALL:
            return order
        each, n_classes = labels // self._splits[2], self._splits[2]
        return torch.cat([order[y[order] == c][:each] for c in range(n_classes)])

    def train(self, point: Point) -> dict[str, Any]:
        """Train a network, or find its result."""
        if (known := self.done.get(point.key)) is not None:
            return known
        net = self._network(STUDENT, point.seed)
        teacher = self.teacher(point.labels if point.teacher == OWN else ALL, point.seed)
        started = time.perf_counter()
        rows = self.labelled(point.labels, point.seed)
        rest = torch.ones(len(self._splits[0]), dtype=torch.bool)
        rest[rows] = False
        more = self._splits[0].x[rest] if point.unlabelled and rest.any() else None
        self._distill(net, teacher, rows, more, point.seed)
        return self._write(point, net, time.perf_counter() - started, 0 if more is None else len(more))

    def teacher(self, labels: int, seed: int) -> nn.Module:
        """The teacher of this many labels: one for all seeds where it saw every label."""
        seed = 0 if labels == ALL else seed
        point = Point(self._name, labels, GIVEN if labels == ALL else OWN, None, seed)
        net, path = self._network(TEACHER, 1000 + seed), self._out / "work" / f"{point.key}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            started, there = time.perf_counter(), path.exists()
            if there:
                net.load_state_dict(safetensors.torch.load_file(path))
            else:
                self._distill(net, None, self.labelled(labels, seed), None, 1000 + seed)
                safetensors.torch.save_file(net.state_dict(), path)
            if point.key not in self.done:
                self._write(point, net, time.perf_counter() - started, 0)
        return net.eval()

    def _network(self, widths: Sequence[int], seed: int) -> nn.Module:
        train, _, n_classes = self._splits
        choices = {"stem_stride": 2}
        for stage, width in enumerate(widths, start=1):
            choices |= {f"width_{stage}": width, f"depth_{stage}": 1, f"kernel_{stage}": 3}
        with seeded(seed, 0):
            body = load("space", "resnet").network(choices, train.x.shape[1], n_classes)
        return Normalized(body, *channel_statistics(train.x[:].numpy()))

    def _distill(self, net: nn.Module, teacher: nn.Module | None, rows: Tensor, more: Tensor | None, seed: int) -> None:
        """Train for as many steps as all other networks, on these rows and, if there are any, unlabelled pictures."""
        train, batch = self._splits[0], self.settings.batch_size
        samples = len(rows) + (0 if more is None else len(more))
        nas_kd.distill(
            net,
            teacher,
            train=(train.x[rows], train.y[rows]),
            unlabelled=more,
            method="none" if teacher is None else METHOD,
            epochs=max(1, round(self.settings.steps / (samples // min(batch, samples)))),
            batch_size=batch,
            augment=NONE.model_copy(update={"strength": None, **AUGMENT[self._name]}),
            seed=seed,
            threads=1,
        )

    def _write(self, point: Point, net: nn.Module, seconds: float, unlabelled: int) -> dict[str, Any]:
        accuracy = accuracy_of(net.eval(), self._splits[1], PLAIN)
        n_labels = point.labels or len(self._splits[0])
        row = {"key": point.key, **asdict(point), "labels": n_labels, "n_unlabelled": unlabelled, "test": accuracy}
        row |= {"seconds": round(seconds, 2), "settings": asdict(self.settings)}
        append_result(self._out, row)
        return row
