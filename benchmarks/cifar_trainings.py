"""Data, networks, teachers and trainings on CIFAR-10 that the runs of a benchmark share.

Logits and checkpoints lie in the work folder, which need not be kept. Teachers lie in a folder that is kept with the
results: on another machine the same training gives another teacher, and results under both would not compare.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from benchmarks.common import net_words, residual_net
from benchmarks.runs import record
from nas_kd.config.options import DataOptions, DistillOptions, EngineOptions
from nas_kd.data.augment import TrainingViews
from nas_kd.data.dataset import Dataset, Split
from nas_kd.data.prepare import channel_statistics, load_dataset
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.results.training_recipe import WEIGHT_DECAYS, TrainingRecipe
from nas_kd.serialization import fingerprint, sha256, write_atomic
from nas_kd.store.store import Store

CHECKPOINT_EVERY_S = 60.0
TEACHER_SEED = 1_000
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Settings:
    """What all results of one folder have in common. `rows`: of the training file, None: all; blocks: a stage."""

    rows: int | None
    val_fraction: float
    epochs: int
    teacher_epochs: int
    batch_size: int
    learning_rate: float
    teacher_blocks: int
    student_blocks: int

    def schedule(self, epochs: int) -> Schedule:
        """The project's default schedule over this many epochs."""
        recipe = TrainingRecipe(epochs, self.batch_size, "sgd", self.learning_rate, WEIGHT_DECAYS["sgd"], "standard")
        return Schedule.of(DistillOptions(), recipe)


class CifarTrainings:
    """The data, teachers and trainings that one folder of results shares.

    `colour` and `grey` are the same samples.
    """

    def __init__(self, settings: Settings, data: Path, work: Path, threads: int, teachers: Path) -> None:
        """Load the data.

        Args:
            settings: of all results.
            data: the folder of cifar10-train.parquet and cifar10-test.parquet.
            work: folder for what need not be kept.
            threads: of a training.
            teachers: folder of the trained teachers.
        """
        work.mkdir(parents=True, exist_ok=True)
        if not (ignore := work / ".gitignore").exists():
            write_atomic(ignore, "*\n")
        options = DataOptions(
            source="parquet",
            train=data / "cifar10-train.parquet",
            test=data / "cifar10-test.parquet",
            train_rows=settings.rows,
            val_fraction=settings.val_fraction,
        )
        self.settings, self.work, self.threads, self._teachers = settings, work, threads, teachers
        self.colour = load_dataset(options, 0)
        self.grey = in_grey(self.colour)
        self.numerics = Numerics.choose(EngineOptions(), self.colour.input_shape)
        self._augmenters = {d.key: TrainingViews(d, 0).student("standard") for d in (self.colour, self.grey)}
        self._store = Store(work / "store")
        self._checkpoints: list[str] = []
        self.cpu_ms_per_step: float | None = None  # of the latest training, as far as this process did it
        self.teacher_facts: dict[str, dict[str, Any]] = {}  # of those asked for, by key

    def build(self, blocks: int, seed: int, data: Dataset) -> nn.Module:
        """A network with the initial weights of that seed."""
        return residual_net(blocks, seed, n_classes=data.n_classes, mean=data.mean, std=data.std)

    def training(
        self,
        blocks: int,
        teachers: Sequence[TeacherOutputs],
        method: Method,
        *,
        seed: int,
        epochs: int,
        data: Dataset,
        calibrated: bool = True,
        kind: type[Training] = Training,
    ) -> Training:
        """A training of a new network with this many blocks in each stage."""
        setup = TrainingSetup(
            source=ArrayBatches(self._augmenters[data.key], data.train.y),
            dataset=DatasetInfo(len(data.train), data.n_classes, data.mean, data.std),
            schedule=self.settings.schedule(epochs),
            numerics=self.numerics,
            seed=seed,
            calibrated=calibrated,
        )
        student = self.build(blocks, seed, data)
        return kind(student, teachers, method, setup, lambda other: self.build(blocks, other, data))

    def train(self, training: Training, name: str) -> Training:
        """To its end, from the checkpoint `name` if there is one; checkpoints last until `forget`."""
        key = fingerprint([name, asdict(self.settings), training.setup.schedule.to_json(), torch.__version__])
        self._checkpoints.append(key)
        if (entry := self._store.load("checkpoint", key)) is not None:
            training.restore(entry.tensors)
        saved_at = time.monotonic()

        def save(running: Training) -> None:
            nonlocal saved_at
            last = running.epoch == running.setup.schedule.epochs
            if time.monotonic() - saved_at >= CHECKPOINT_EVERY_S or last:
                self._store.save("checkpoint", key, {k: v.contiguous() for k, v in running.state().items()}, {})
                saved_at = time.monotonic()

        first, started = training.epoch, time.process_time()
        training.run(after_epoch=save)
        steps = (training.epoch - first) * training.steps_per_epoch
        self.cpu_ms_per_step = (time.process_time() - started) / steps * 1000 if steps else None
        return training

    def forget(self) -> None:
        """Remove the checkpoints of this process's trainings."""
        for key in self._checkpoints:
            self._store.remove("checkpoint", key)

    def teacher(self, number: int) -> TeacherOutputs:
        """The teacher of that number, trained by labels alone."""
        blocks, epochs, seed = self.settings.teacher_blocks, self.settings.teacher_epochs, TEACHER_SEED + number

        def start() -> Training:
            return self.training(blocks, [], make_method("none"), seed=seed, epochs=epochs, data=self.colour)

        outputs = self.kept(f"teacher-{number}", blocks, epochs, start)
        self.teacher_facts[outputs.teacher.key]["number"] = number
        return outputs

    def kept(self, name: str, blocks: int, epochs: int, start: Callable[[], Training]) -> TeacherOutputs:
        """A network of that name from its file, or trained now; another process at it is waited for."""
        settings, path = self.settings, self._teachers / f"{name}.safetensors"
        recipe = [settings.rows, settings.val_fraction, settings.batch_size, settings.learning_rate]
        wanted = fingerprint([name, blocks, epochs, *recipe])
        with FileLock(self.work / f"{name}.lock"):
            if not path.exists():
                training = self.train(start(), name)
                trained, _ = training.deployed(self.colour.val)
                weights = {k: v.contiguous() for k, v in trained.state_dict().items()}
                facts = {"test": training.accuracy(trained, self.colour.test), "seconds": training.seconds}
                write_atomic(path, save(weights, {"key": wanted, "facts": json.dumps(facts)}))
            with safe_open(path, framework="pt") as file:
                header = file.metadata()
                tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        if header["key"] != wanted:
            raise InputError(f"{path} is a network of other settings; take another --out")
        model = self.build(blocks, 0, self.colour)
        model.load_state_dict(tensors)
        outputs = self.outputs(model, blocks, self.colour)
        self.teacher_facts[outputs.teacher.key] = {"key": outputs.teacher.key, **json.loads(header["facts"])}
        return outputs

    def filled(self, teacher: TeacherOutputs, epochs: int) -> TeacherOutputs:
        """The same outputs, with the logits of all epochs in the store, so that no run's time pays for them."""
        facts = [teacher.teacher.key, epochs, torch.__version__, self.numerics.bf16, self.settings.batch_size]
        with FileLock(self.work / f"logits-{teacher.teacher.key[:12]}.lock"):
            if self._store.load_json("filled", fingerprint(facts)) is None:
                for epoch in range(epochs):
                    teacher.cached(epoch, torch.arange(1))
                self._store.save_json("filled", fingerprint(facts), True)
        return teacher

    def outputs(self, model: nn.Module, blocks: int, data: Dataset) -> TeacherOutputs:
        """A trained network with this many blocks in each stage as the teacher; its key is that of its weights."""
        digest = sha256(b"".join(t.contiguous().numpy().tobytes() for t in model.state_dict().values()))
        macs = count_macs(model, data.input_shape)
        teacher = Teacher(model, digest, net_words(blocks), count_parameters(model), macs)
        batch = min(self.settings.batch_size, len(data.train))
        return TeacherOutputs(teacher, self._augmenters[data.key], batch, self.numerics, self._store)


def in_grey(data: Dataset) -> Dataset:
    """The same samples with one channel, their luminance."""
    weights = torch.tensor(LUMINANCE).view(1, 3, 1, 1)

    def grey(split: Split) -> Split:
        parts = [(part.float() * weights).sum(dim=1, keepdim=True).round() for part in torch.split(split.x[:], 1_000)]
        return Split(torch.cat([p.to(torch.uint8) for p in parts]), split.y)

    train = grey(data.train)
    mean, std = channel_statistics(train.x[:].numpy())
    key = fingerprint([data.key, LUMINANCE])
    return replace(data, train=train, val=grey(data.val), test=grey(data.test), mean=mean, std=std, key=key)


def record_cifar_run(
    settings: Settings,
    given: argparse.Namespace,
    folder: Path,
    work: Path,
    run: Callable[[str, CifarTrainings], dict[str, Any]],
) -> int:
    """Do the run that the command line names, with the trainings of its folder; returns the exit status.

    Args:
        settings: of all results of the folder.
        given: `run`: its name; `data`: folder of CIFAR-10; `threads`: of a training.
        folder: of the results, and of the teachers.
        work: folder for what need not be kept.
        run: gives the result of a run, by its name.
    """
    with training_threads(given.threads):
        return record(
            folder,
            work,
            given.run,
            lambda: CifarTrainings(settings, given.data, work, given.threads, folder / "teachers"),
            run,
        )
