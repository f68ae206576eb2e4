"""Networks, cuts and trainings of the benchmark of inherited weights; each a line of OUT/results.jsonl."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import nas_kd
from benchmarks.kept_teachers import check_same_teacher, fingerprint_of, kept
from benchmarks.recipe.cases import CASES
from benchmarks.runs import append_result, results_in
from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.numerics import PLAIN, seeded
from nas_kd.export.network_costs import count_macs
from nas_kd.models.derived.derived_space import STARTS
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import load
from nas_kd.results.candidate import Architecture

INHERITED, FRESH = STARTS
METHOD = "soft_targets"
AUGMENT = {"cifar10": {"crop": 4, "flip": True}, "flowers": {"crop": 8, "flip": True}}
WIDTHS, BLOCKS, STEM_STRIDE = (16, 32, 64), 2, 2  # of the network that students are cut out of
EXAMPLES = 64  # samples that blocks are ranked on
SIZES = 40  # steps of the ladder on which a cut of a given cost is looked for
CUTS = {"half": 1 / 2, "fifth": 1 / 5}  # shares of the network's multiply-adds
SHARES = (0.15, 0.6)  # of the candidates whose order is predicted: within one budget, so that size alone tells little
TEACHER_SEED, CUT_SEED = 1000, 20_240


@dataclass(frozen=True)
class Settings:
    """What all results of one folder have in common.

    Attributes:
        rows: first rows of CIFAR-10's training file, a tenth of them for validation.
        test: first rows of CIFAR-10's test file.
        teacher_epochs: of the network that students are cut out of.
        batch_size: samples a step.
    """

    rows: int = 10_000
    test: int = 10_000
    teacher_epochs: int = 20
    batch_size: int = 64


@dataclass(frozen=True)
class Point:
    """One training of a student.

    Attributes:
        dataset: cifar10 or flowers.
        cut: name in `CUTS`, or the number of a candidate.
        start: inherited or fresh.
        epochs: of its schedule.
        seed: of the order, and of fresh weights.
    """

    dataset: str
    cut: str
    start: str
    epochs: int
    seed: int

    @property
    def key(self) -> str:
        """Name in the file of results."""
        return f"{self.dataset}.{self.cut}.{self.start}.{self.epochs}.{self.seed}"


class Trainings:
    """Trainings on one data set."""

    def __init__(self, dataset: str, data_dir: Path, out: Path, settings: Settings) -> None:
        """Data and network are loaded, or trained, when they are needed first.

        Args:
            dataset: cifar10 or flowers.
            data_dir: holds cifar10-train.parquet, cifar10-test.parquet and flowers/CLASS/*.jpg.
            out: folder of results.
            settings: of all results in it.
        """
        self._name, self._data_dir, self._out, self.settings = dataset, data_dir, out, settings

    def train(self, point: Point) -> dict[str, Any]:
        """Train a student, or find its result."""
        done = results_in(self._out)
        check_same_teacher([r for r in done.values() if r["dataset"] == self._name], self._fingerprint)
        if (known := done.get(point.key)) is not None:
            return known
        architecture, space, data = self._cuts[point.cut], self._spaces[point.start], self._data
        with seeded(point.seed, 0):
            student = space.build(architecture, data.input_shape, data.n_classes)
        macs, started = count_macs(student, data.input_shape), time.process_time()
        self._distill(student, self._network, point.epochs, point.seed)
        row = {"key": point.key, **asdict(point), "share": round(macs / self._macs, 4)}
        row |= {"val": accuracy_of(student.eval(), data.val, PLAIN), "test": accuracy_of(student, data.test, PLAIN)}
        row |= {"cpu_seconds": round(time.process_time() - started, 1), "description": space.describe(architecture)}
        row |= {"teacher": self._fingerprint, "teacher_test": self._accuracy, "test_samples": len(data.test)}
        row |= {"settings": asdict(self.settings)}
        append_result(self._out, row)
        return row

    @cached_property
    def _data(self) -> Dataset:
        if self._name == "flowers":
            return load_dataset(DataOptions(**CASES["flowers_64"].data(self._data_dir, self._out / "work")), seed=0)
        options = DataOptions(
            source="parquet",
            train=self._data_dir / "cifar10-train.parquet",
            test=self._data_dir / "cifar10-test.parquet",
            val_fraction=0.1,
            train_rows=self.settings.rows,
            test_rows=self.settings.test,
        )
        return load_dataset(options, seed=0)

    @cached_property
    def _network(self) -> nn.Module:
        data, choices = self._data, {"stem_stride": STEM_STRIDE}
        for stage, width in enumerate(WIDTHS, start=1):
            choices |= {f"width_{stage}": width, f"depth_{stage}": BLOCKS, f"kernel_{stage}": 3}

        def make() -> nn.Module:
            with seeded(TEACHER_SEED, 0):
                body = load("space", "resnet").network(choices, data.input_shape[0], data.n_classes)
            return Normalized(body, data.mean, data.std)

        path = self._out / "work" / f"{self._name}.safetensors"
        return kept(path, make, lambda net: self._distill(net, None, self.settings.teacher_epochs, TEACHER_SEED))

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_of(self._network)

    @cached_property
    def _accuracy(self) -> float:
        return accuracy_of(self._network, self._data.test, PLAIN)

    @cached_property
    def _macs(self) -> int:
        return count_macs(self._network, self._data.input_shape)

    @cached_property
    def _spaces(self) -> Mapping[str, nas_kd.DerivedSpace]:
        example = as_input(self._data.val.x[:EXAMPLES])
        return {start: nas_kd.DerivedSpace(self._network, example, starts=(start,)) for start in STARTS}

    @cached_property
    def _cuts(self) -> Mapping[str, Architecture]:
        """Cuts of the given costs on the way from the smallest to the whole network, and candidates drawn at random."""
        sizes = self._spaces[INHERITED].size_ladder(SIZES)
        costs = [self._share(size) for size in sizes]
        nearest = {n: min(range(len(sizes)), key=lambda i: abs(costs[i] - at)) for n, at in CUTS.items()}
        return {name: sizes[place] for name, place in nearest.items()} | {
            str(number): cut for number, cut in enumerate(self._drawn())
        }

    def _drawn(self, count: int = 16) -> Sequence[Architecture]:
        space, generator = self._spaces[INHERITED], np.random.default_rng(CUT_SEED)
        found: dict[str, Architecture] = {}
        while len(found) < count:
            drawn = space.canonical({d.name: int(generator.choice(d.values)) for d in space.dimensions})
            if SHARES[0] <= self._share(drawn) <= SHARES[1]:
                found.setdefault(space.describe(drawn), drawn)
        return list(found.values())

    def _share(self, architecture: Architecture) -> float:
        shape = self._data.input_shape
        network = self._spaces[INHERITED].build(architecture, shape, self._data.n_classes)
        return count_macs(network, shape) / self._macs

    def _distill(self, net: nn.Module, teacher: nn.Module | None, epochs: int, seed: int) -> None:
        train = self._data.train
        nas_kd.distill(
            net,
            teacher,
            train=(train.x[:], train.y),
            method="none" if teacher is None else METHOD,
            epochs=epochs,
            batch_size=self.settings.batch_size,
            augment=AUGMENT[self._name],
            precision="auto",
            seed=seed,
            threads=1,
        )
