"""The training loop: one student, any number of teachers, one method."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from nas_kd.data.dataset import Split
from nas_kd.engine import checkpoint
from nas_kd.engine.batch_source import BatchSource, Order, Samples
from nas_kd.engine.calibration import BATCHES, calibrate, calibration_steps
from nas_kd.engine.evaluation import evidence_of
from nas_kd.engine.feature_extractor import FeatureExtractor
from nas_kd.engine.freed_memory import keep_freed_memory
from nas_kd.engine.method_setup import DatasetInfo, MethodSetup, loss_terms, reinitialized
from nas_kd.engine.numerics import PLAIN, Numerics, is_out_of_memory, seeded
from nas_kd.engine.optimizer import ALL_ALIKE, RATE_FACTOR, SlowWeights, make_optimizer
from nas_kd.engine.qat_schedule import QATSchedule
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import LiveTeacher, TeacherReader
from nas_kd.errors import TrialError
from nas_kd.methods.base import Batch, Method, Outputs


@dataclass(frozen=True)
class TrainingSetup:
    """What a training depends on beside the student, its teachers and the method.

    Attributes:
        source: where batches come from.
        dataset: facts about the training samples that methods may use.
        schedule: epochs, batch size, learning rate and the like.
        numerics: number format and memory layout.
        seed: all random choices follow from it and the number of the epoch.
        calibrated: whether the method's terms are scaled by their gradients, see `nas_kd.engine.calibration`.
        qat_start: see `nas_kd.engine.qat_schedule`; has no effect on a student without quantizers.
        class_weights: (C,) weights of the classes in the label loss; None: all count alike.
        slow: weights of the student that are trained at a lower learning rate.
    """

    source: BatchSource
    dataset: DatasetInfo
    schedule: Schedule
    numerics: Numerics = PLAIN
    seed: int = 0
    calibrated: bool = True
    qat_start: float = 0.7
    class_weights: Tensor | None = None
    slow: SlowWeights = ALL_ALIKE


@dataclass
class Losses:
    """Means of the loss terms over an epoch, by name, unscaled; `ce` is the student's cross-entropy."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of one step, scalars."""
        self.steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()

    def means(self) -> dict[str, float]:
        """The mean of each term over all steps, by name."""
        return {name: float(total) / self.steps for name, total in self.sums.items()}


# What student and teachers give for the batch of a step, given the share of the schedule that is done.
_Forward = Callable[[int, float], tuple[Outputs, list[Outputs], Batch]]


class Training:
    """A training that can be stopped after any epoch, saved, and resumed as if it had never stopped.

    Every random choice follows from (seed, epoch), so the state is the weights and the optimisers alone.
    """

    def __init__(
        self,
        student: nn.Module,
        teachers: Sequence[LiveTeacher],
        method: Method,
        setup: TrainingSetup,
        rebuild: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """Attach the method to the networks and create the optimiser.

        Args:
            student: x (B, ...) -> (B, C) logits; trained in place.
            teachers: as many as the method learns from.
            method: gives the loss terms; its own parameters are trained, too.
            setup: data, schedule and seed.
            rebuild: the student's architecture with the initial weights of a seed, for methods that train peers. By
                default, a copy of the student whose layers are initialized again.

        Raises:
            InputError: the method cannot work with these networks.
        """
        self.student = setup.numerics.place(student)
        self.method = method
        self.setup = setup
        self.epoch = 0
        self.seconds = 0.0
        self.losses: dict[str, float] = {}  # means over the last epoch
        self.grad_ratios: dict[str, float] = {}  # see `nas_kd.engine.calibration.calibrate`
        self._teachers = tuple(teachers)
        method_setup = MethodSetup(self.student, self._teachers, method, setup.numerics, setup.source.example())
        method_setup.attach(setup.dataset, rebuild or partial(reinitialized, self.student), setup.seed)
        self._points, self._student_needs = method_setup.points, method_setup.student_needs
        self._weights = [list(self.student.parameters()), method.trained()]
        self.optimizer = make_optimizer([p for group in self._weights for p in group], setup.schedule, setup.slow)
        self._averaged = [t for net in self.networks for t in net.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self._averaged]
        self.steps_per_epoch = setup.source.steps_per_epoch(setup.schedule.batch_size)
        self._calibration_steps = calibration_steps(setup.schedule, self.steps_per_epoch) if setup.calibrated else ()
        self._qat_schedule = QATSchedule(self.networks, setup.schedule, self.steps_per_epoch, setup.qat_start)

    @property
    def networks(self) -> list[nn.Module]:
        """Networks that may be deployed: the student, and its peers where the method trains any."""
        return [self.student, *self.method.peers()]

    @property
    def clipped(self) -> bool:
        """Whether gradients are clipped: not at published weights, which come from training without it."""
        return self.setup.calibrated and all(part.clipped for part in self.method.parts())

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def run(self, until: int | None = None, after_epoch: Callable[["Training"], None] | None = None) -> None:
        """Train up to epoch `until` of the schedule (default: all of it).

        Args:
            until: the number of epochs that are done afterwards.
            after_epoch: called with this training after each epoch; what it raises ends the training.

        Raises:
            TrialError: the loss is no longer finite, or memory ran out.
        """
        until = self.setup.schedule.epochs if until is None else until
        keep_freed_memory()
        with ExitStack() as hooks:
            student = hooks.enter_context(FeatureExtractor(self.student, self._points, self._student_needs))
            view = self.setup.source.view
            teachers = [teacher.reader(teacher.given_of(self.method), view, hooks) for teacher in self._teachers]
            while self.epoch < until:
                started = time.perf_counter()
                try:
                    self._run_epoch(student, teachers)
                except (MemoryError, RuntimeError) as error:
                    if is_out_of_memory(error):
                        raise TrialError(f"out of memory in epoch {self.epoch + 1}") from error
                    raise
                self.epoch += 1
                self.seconds += time.perf_counter() - started
                if after_epoch is not None:
                    after_epoch(self)

    def _run_epoch(self, student: FeatureExtractor, teachers: Sequence[TeacherReader]) -> None:
        setup, first = self.setup, self.epoch * self.steps_per_epoch
        order = Order(self.method, setup.seed, setup.dataset.task)
        samples = setup.source.epoch(self.epoch, setup.schedule.batch_size, order)
        for network in self.networks:
            network.train()
        self.method.train()
        losses, decided = Losses(), setup.dataset.decided

        def forward(step: int, progress: float) -> tuple[Outputs, list[Outputs], Batch]:
            batch = self.method.draw(lambda: self._real(samples(step), progress))
            with setup.numerics.autocast():
                outputs = decided(student(batch.x))
            return outputs, [decided(read(self.epoch, batch)) for read in teachers], batch

        with seeded(setup.seed, 3, self.epoch):
            for step in range(self.steps_per_epoch):
                if first + step in self._calibration_steps:
                    self._calibrate(forward, step)
                if self._qat_schedule.before_step(self.epoch, step):
                    torch._foreach_copy_(self.average, self._averaged)
                losses.add(self._step(forward, step, first + step))
        self.losses = losses.means()

    def _calibrate(self, forward: _Forward, step: int) -> None:
        """Calibrate the method on the batches from `step` of this epoch on, or on its last ones."""
        first = max(0, min(step, self.steps_per_epoch - BATCHES))
        done = (self.epoch + step / self.steps_per_epoch) / self.setup.schedule.epochs

        def shown(i: int) -> tuple[Outputs, list[Outputs], Batch]:
            return forward((first + i) % self.steps_per_epoch, done)

        self.grad_ratios = calibrate(self.student, self.method, shown)

    def _real(self, samples: Samples, progress: float) -> Batch:
        """Training samples as a batch; `progress`: share of the schedule done."""
        x, weights = self.setup.numerics.to_layout(samples.x), self.setup.class_weights
        task = self.setup.dataset.task
        return Batch(x, samples.y, samples.indices, progress, weights, samples.shown, samples.mixed, task)

    def _step(self, forward: _Forward, step: int, done: int) -> dict[str, Tensor]:
        """One step of the optimiser; `step` counts from the epoch's start, `done` from the training's."""
        schedule = self.setup.schedule
        total_steps = schedule.epochs * self.steps_per_epoch
        loss, terms = self.loss(*forward(step, done / total_steps))
        if not torch.isfinite(loss):
            raise TrialError(f"the loss became {loss.item()} in epoch {self.epoch + 1} of {schedule.epochs}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clipped:
            for weights in self._weights:  # apart: what a method trains beside it must not slow the student down
                torch.nn.utils.clip_grad_norm_(weights, schedule.clip_norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at((done + 1) / total_steps) * group[RATE_FACTOR]
        self.optimizer.step()
        torch._foreach_lerp_(self.average, self._averaged, 1 - schedule.ema_decay_at(done, total_steps))
        return terms

    def loss(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the loss of a batch, in float32.

        Returns:
            `ce_weight` * CE + `strength` * `scale` * the method's terms; and all terms by name, unscaled.
        """
        terms = {"ce": batch.label_loss(student.logits)} if self.method.ce_weight else {}
        total = torch.zeros(())
        for term in terms.values():
            total = total + self.method.ce_weight * term
        for part in self.method.parts():
            own = loss_terms(part, student, teachers, batch)
            terms |= own
            for name, term in own.items():
                total = total + (term if name in part.unscaled_terms else part.strength * part.scale * term)
        return total, terms

    def averaged_students(self) -> list[nn.Module]:
        """Copies of the networks that may be deployed, with the averaged weights; the student first, in eval mode."""
        copies = [deepcopy(network) for network in self.networks]
        targets = [t for net in copies for t in net.state_dict().values() if t.is_floating_point()]
        for target, value in zip(targets, self.average, strict=True):
            target.copy_(value)
        return [copy.eval() for copy in copies]

    def load_average(self) -> None:
        """Give the networks themselves their averaged weights, in eval mode; training cannot go on from there."""
        torch._foreach_copy_(self._averaged, self.average)
        for network in self.networks:
            network.eval()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the networks themselves their averaged weights inside, in eval mode; training can go on afterwards."""
        trained = [t.clone() for t in self._averaged]
        self.load_average()
        try:
            yield
        finally:
            torch._foreach_copy_(self._averaged, trained)

    def deployed(self, split: Split) -> tuple[nn.Module, float]:
        """Find the best of the averaged networks; the student, if none is better.

        Returns:
            A copy of the network with averaged weights, and its headline score on `split`, 0..1.
        """
        judged = [(network, self.accuracy(network, split)) for network in self.averaged_students()]
        return max(judged, key=lambda pair: pair[1])

    def accuracy(self, network: nn.Module, split: Split) -> float:
        """Headline score on `split`, 0..1, of a network in this training's memory layout."""
        task = self.setup.dataset.task
        return task.first_score(evidence_of(network, split, task, self.setup.numerics))

    def calibration(self) -> dict[str, float]:
        """The factor that calibration gave each part of the method, by name."""
        return {part.name: float(part.scale) for part in self.method.parts() if part.is_calibrated}

    def state(self) -> dict[str, Tensor]:
        """Weights, averages, method's parameters and momenta, by name, for a checkpoint."""
        groups = {
            "student": self.student.state_dict(),
            "method": self.method.state_dict(),
            "average": {str(i): t for i, t in enumerate(self.average)},
            "momentum": checkpoint.optimizer_state(self.optimizer),
            "grad_ratio": {name: torch.tensor(ratio, dtype=torch.float64) for name, ratio in self.grad_ratios.items()},
            "progress": {
                "epoch": torch.tensor(self.epoch),
                "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            },
        }
        for name, optimizer in self.method.optimizers().items():
            groups[f"optimizer.{name}"] = checkpoint.optimizer_state(optimizer)
        return checkpoint.flatten(groups)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned, in a training of the same networks and setup."""
        groups = checkpoint.unflatten(state)
        self.student.load_state_dict(groups["student"])
        self.method.load_state_dict(groups.get("method", {}))
        for i, tensor in enumerate(self.average):
            tensor.copy_(groups["average"][str(i)])
        checkpoint.restore_optimizer(self.optimizer, groups.get("momentum", {}))
        for name, optimizer in self.method.optimizers().items():
            checkpoint.restore_optimizer(optimizer, groups.get(f"optimizer.{name}", {}))
        self.grad_ratios = {name: float(ratio) for name, ratio in groups.get("grad_ratio", {}).items()}
        self.epoch = int(groups["progress"]["epoch"])
        self.seconds = float(groups["progress"]["seconds"])
