"""The network, its cuts at given latencies, and the students of all contestants; each a line of OUT/results.jsonl."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from filelock import FileLock
from torch import nn

import nas_kd
from benchmarks.common import residual_net
from benchmarks.kept_teachers import check_same_teacher, fingerprint_of, kept
from benchmarks.plain_pruning.plain import Plan, prune_and_train, pruner_of
from benchmarks.runs import append_result, lock_of, results_in
from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.numerics import PLAIN, seeded
from nas_kd.export.network_costs import count_macs
from nas_kd.export.onnx_classifier import accuracy
from nas_kd.export.onnx_export import export_onnx
from nas_kd.latency.device import open_device
from nas_kd.latency.stable_timing import FULL, QUICK, MeasurementBudget
from nas_kd.models.wrappers import Normalized
from nas_kd.results.candidate import Architecture
from nas_kd.serialization import write_atomic

CUT, CHOSEN, ONE_SHOT, ITERATIVE = "cut", "chosen", "one-shot", "iterative"
ARMS = (CUT, CHOSEN, ONE_SHOT, ITERATIVE)
STEPS = {ONE_SHOT: 1, ITERATIVE: 3}  # in which the script prunes
SHARES = (0.7, 0.45, 0.25)  # of the whole network's latency
RATIOS = 48  # the script's ratio of removed channels is a multiple of 1 over this
SIZES = 40  # steps of the ladder of cuts
NEAR = 0.9  # candidates have at least this share of the latency that is allowed
LIKE = 0.25  # and multiply-adds that differ by this share at most from those of the ladder's cut
EXAMPLES, TEACHER_SEED, DRAW_SEED = 64, 1000, 20_240
METHOD = "soft_targets"
AUGMENT = {"crop": 4, "flip": True}


@dataclass(frozen=True)
class Settings:
    """What all results of one folder have in common.

    Attributes:
        rows: first rows of the training file, a tenth of them for validation.
        test: first rows of the test file.
        blocks: of a stage; 3: ResNet-20.
        teacher_epochs: of the network.
        epochs: of a student of the derived space; the script has as much CPU time as these take.
        candidates: that arm `chosen` trains for one epoch before one of them has the other epochs.
        batch_size: samples a step.
    """

    rows: int = 10_000
    test: int = 10_000
    blocks: int = 3
    teacher_epochs: int = 20
    epochs: int = 8
    candidates: int = 4
    batch_size: int = 64


class Students:
    """Students of one network, trained once each."""

    def __init__(self, data_dir: Path, out: Path, settings: Settings) -> None:
        """Data and network are loaded, or trained, when they are needed first.

        Args:
            data_dir: holds cifar10-train.parquet and cifar10-test.parquet.
            out: folder of results.
            settings: of all results in it.
        """
        self._data_dir, self._out, self.settings = data_dir, out, settings
        self._device = open_device("cpu-1t")

    def train(self, arm: str, share: float, seed: int, learning_rate: float | None = None) -> dict[str, Any]:
        """Train the student of an arm, or find its result.

        Args:
            arm: one of `ARMS`.
            share: of the whole network's latency that is allowed, one of `SHARES`.
            seed: of order and augmentation.
            learning_rate: of the script.
        """
        key = ".".join([arm, f"{share:g}", str(seed), *([] if learning_rate is None else [f"{learning_rate:g}"])])
        with lock_of(self._out / "work", key):  # the other process needs the tuning's results, too
            done = results_in(self._out)
            check_same_teacher(done.values(), self._fingerprint)
            if key not in done:
                append_result(
                    self._out, done.setdefault(key, {"key": key, **self._row(arm, share, seed, learning_rate)})
                )
            return done[key]

    def _row(self, arm: str, share: float, seed: int, learning_rate: float | None) -> dict[str, Any]:
        seconds = 0.0 if arm in (CUT, CHOSEN) else self.train(CUT, share, seed)["cpu_seconds"]
        started = time.process_time()
        if arm == CUT:
            student = self._distilled(self._built(self.plan[f"{share:g}"]["cut"]), self.settings.epochs, seed)
        elif arm == CHOSEN:
            student = self._chosen(share, seed)
        else:
            student = self._pruned(arm, share, seed, seconds, learning_rate or 0.0)
        spent = time.process_time() - started
        content, data = export_onnx(student, self._data.input_shape), self._data
        row = {"arm": arm, "share": share, "seed": seed, "learning_rate": learning_rate}
        row |= {"val": accuracy(content, data.val), "test": accuracy(content, data.test), "size_bytes": len(content)}
        row |= {"latency_ms": self._latency(student), "whole_ms": self.plan["whole_ms"], "cpu_seconds": round(spent, 1)}
        row |= {"macs": self._macs(student), "teacher": self._fingerprint}
        row |= {"teacher_test": accuracy_of(self._network, data.test, PLAIN), "test_samples": len(data.test)}
        return row | {"settings": asdict(self.settings)}

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Cuts, candidates and ratios for each share of the latency; measured once and kept in OUT/plan.json."""
        path = self._out / "plan.json"
        with FileLock(self._out / "work" / "plan.lock"):
            if not path.is_file():
                write_atomic(path, json.dumps(self._measured_plan(), indent=1) + "\n")
            plan: dict[str, Any] = json.loads(path.read_text())
        check_same_teacher([plan], self._fingerprint)
        return plan

    def _measured_plan(self) -> dict[str, Any]:
        whole_ms = self._latency(self._network)
        sizes, ratios = self._space.size_ladder(SIZES), [number / RATIOS for number in range(RATIOS - 1, -1, -1)]
        plan: dict[str, Any] = {"teacher": self._fingerprint, "whole_ms": whole_ms}
        for share in SHARES:
            limit = share * whole_ms
            cut = _largest(sizes, lambda size: self._latency(self._built(size)), limit)
            ratio = _largest(ratios, lambda ratio: self._latency(self._pruned_once(ratio)), limit)
            others = self._drawn(cut, limit, self.settings.candidates - 1)
            plan[f"{share:g}"] = {
                "cut": cut.to_json(),
                "candidates": [cut.to_json(), *(one.to_json() for one in others)],
                "described": [self._space.describe(one) for one in (cut, *others)],
                "ratio": ratio,
            }
        return plan

    def _drawn(self, cut: Architecture, limit_ms: float, count: int) -> list[Architecture]:
        """Cuts at random of about the multiply-adds of `cut`, whose latency is a little below the limit."""
        usual, generator, found = (
            self._macs(self._built(cut)),
            np.random.default_rng(DRAW_SEED),
            dict[str, Architecture](),
        )
        while len(found) < count:
            drawn = self._space.canonical(
                {d.name: int(generator.integers(d.low, d.high + 1)) for d in self._space.dimensions}
            )
            student = self._built(drawn)
            if abs(self._macs(student) / usual - 1) > LIKE:  # far quicker to tell than latency
                continue
            if NEAR * limit_ms <= self._latency(student, QUICK) <= limit_ms:
                found.setdefault(self._space.describe(drawn), drawn)
        return list(found.values())

    def _chosen(self, share: float, seed: int) -> nn.Module:
        """Train candidates for an epoch each, and the most accurate one on validation for the epochs that are left."""
        candidates = [self._built(one) for one in self.plan[f"{share:g}"]["candidates"]]
        tried = [self._distilled(student, 1, seed) for student in candidates]
        best = max(tried, key=lambda student: accuracy_of(student, self._data.val, PLAIN))
        return self._distilled(best, max(1, self.settings.epochs - len(tried)), seed + 1)

    def _pruned(self, arm: str, share: float, seed: int, seconds: float, learning_rate: float) -> nn.Module:
        plan = Plan(self.plan[f"{share:g}"]["ratio"], STEPS[arm], seconds, learning_rate, seed)
        student, train = deepcopy(self._network).requires_grad_(True), self._data.train
        teacher = deepcopy(self._network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        prune_and_train(cast(Normalized, student), teacher, (train.x[:], train.y), plan)
        return student

    def _pruned_once(self, ratio: float) -> nn.Module:
        student = deepcopy(self._network).requires_grad_(True)
        pruner_of(cast(Normalized, student), torch.zeros(2, *self._data.input_shape), ratio, 1).step()
        return student.eval()

    def _built(self, cut: Architecture | Mapping[str, Any]) -> nn.Module:
        architecture = cut if isinstance(cut, Architecture) else Architecture.from_json(cut)
        return self._space.build(architecture, self._data.input_shape, self._data.n_classes).eval()

    def _macs(self, network: nn.Module) -> int:
        return count_macs(network, self._data.input_shape)

    def _latency(self, network: nn.Module, effort: MeasurementBudget = FULL) -> float:
        shape = self._data.input_shape
        return round(self._device.measure(export_onnx(network, shape), 1, shape, measurement_budget=effort).p50, 5)

    @cached_property
    def _data(self) -> Dataset:
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
        data, settings = self._data, self.settings

        def make() -> nn.Module:
            return residual_net(settings.blocks, TEACHER_SEED, n_classes=data.n_classes, mean=data.mean, std=data.std)

        def train(network: nn.Module) -> None:
            self._distilled(network, settings.teacher_epochs, TEACHER_SEED, alone=True)

        return kept(self._out / "work" / "network.safetensors", make, train)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_of(self._network)

    @cached_property
    def _space(self) -> nas_kd.DerivedSpace:
        return nas_kd.DerivedSpace(self._network, as_input(self._data.val.x[:EXAMPLES]))

    def _distilled(self, student: nn.Module, epochs: int, seed: int, *, alone: bool = False) -> nn.Module:
        train = self._data.train
        with seeded(seed, 0):
            return nas_kd.distill(
                student,
                None if alone else self._network,
                train=(train.x[:], train.y),
                method="none" if alone else METHOD,
                epochs=epochs,
                batch_size=self.settings.batch_size,
                augment=AUGMENT,
                precision="auto",
                seed=seed,
                threads=1,
            )


def _largest(ordered: Sequence[Any], latency_ms: Callable[[Any], float], limit_ms: float) -> Any:
    """The last of these, from small to large, that keeps a limit; the first if none does, by bisection."""
    low, high = 0, len(ordered)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if latency_ms(ordered[middle]) <= limit_ms else (low, middle)
    return ordered[low]
