"""The training loop: one student, any number of teachers, one method."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.data.augment import Augmenter
from nas_kd.data.dataset import Split, as_input
from nas_kd.engine import checkpoint
from nas_kd.engine.calibration import calibrate
from nas_kd.engine.feature_extractor import FeatureExtractor
from nas_kd.engine.method_setup import DatasetInfo, MethodSetup
from nas_kd.engine.numerics import Numerics, mix_seeds, seeded
from nas_kd.engine.qat_schedule import QATSchedule
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import TeacherOutputs, can_use_cache
from nas_kd.errors import TrialError
from nas_kd.methods.base import Batch, Method, Outputs

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class TrainingSetup:
    """All that a training depends on, beside the student itself. `calibrated`: see `nas_kd.engine.calibration`.

    `aware_from`: see `nas_kd.engine.qat_schedule`.
    """

    augmenter: Augmenter
    labels: Tensor  # (N,) of the training split
    facts: DatasetInfo
    schedule: Schedule
    numerics: Numerics
    seed: int
    calibrated: bool = True
    qat_start: float = 0.7


@dataclass
class Losses:
    """Means of the loss terms over an epoch, by name, unscaled; `ce` is the student's cross-entropy."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Those of one step."""
        self.steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()

    def means(self) -> dict[str, float]:
        """By name."""
        return {name: float(total) / self.steps for name, total in self.sums.items()}


class Training:
    """A training that can be stopped after any epoch, saved, and gone on with as if never stopped.

    Every random choice follows from (seed, epoch), so the state is the weights and the optimisers alone.
    """

    def __init__(
        self,
        student: nn.Module,
        teachers: Sequence[TeacherOutputs],
        method: Method,
        setup: TrainingSetup,
        rebuild: Callable[[int], nn.Module],
    ) -> None:
        """`rebuild`: the student's architecture with the initial weights of another seed, for methods that train peers.

        Raises:
            InputError: the method cannot work with these networks.
        """
        self.student = setup.numerics.place(student)
        self.method = method
        self.setup = setup
        self.epoch = 0
        self.seconds = 0.0
        self.losses: dict[str, float] = {}  # means over the last epoch
        self._teachers = tuple(teachers)
        self._cached = can_use_cache(method.needs)
        attachment = MethodSetup(self.student, self._teachers, method, setup.numerics, setup.augmenter.example())
        attachment.attach(setup.facts, rebuild, setup.seed)
        self._points = attachment.points
        self._weights = [list(self.student.parameters()), method.trained()]
        self.optimizer = _optimizer([p for group in self._weights for p in group], setup.schedule)
        self._averaged = [t for net in self.networks for t in net.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self._averaged]
        self.batch_size = min(setup.schedule.batch_size, len(setup.augmenter))
        self.steps_per_epoch = len(setup.augmenter) // self.batch_size
        self._qat_schedule = QATSchedule(self.networks, setup.schedule, self.steps_per_epoch, setup.qat_start)

    @property
    def networks(self) -> list[nn.Module]:
        """Those that may be deployed: the student, and its peers where the method has any."""
        return [self.student, *self.method.peers()]

    def run(self, until: int | None = None, after_epoch: Callable[["Training"], None] | None = None) -> None:
        """Train up to epoch `until` of the schedule (default: all of it).

        Raises:
            TrialError: the loss is no longer finite, or memory ran out.
        """
        until = self.setup.schedule.epochs if until is None else until
        student = FeatureExtractor(self.student, self._points, self.method.needs)
        teachers = [] if self._cached else [t.extractor(self.method.needs) for t in self._teachers]
        try:
            while self.epoch < until:
                started = time.perf_counter()
                self._run_epoch(student, teachers)
                self.epoch += 1
                self.seconds += time.perf_counter() - started
                if after_epoch is not None:
                    after_epoch(self)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "memory" in str(error):
                raise TrialError(f"out of memory in epoch {self.epoch + 1}") from error
            raise
        finally:
            for extractor in (student, *teachers):
                extractor.close()

    def _run_epoch(self, student: FeatureExtractor, teachers: list[FeatureExtractor]) -> None:
        setup = self.setup
        generator = torch.Generator().manual_seed(mix_seeds(setup.seed, 2, self.epoch))
        order = self.method.order(setup.labels, generator)
        for network in self.networks:
            network.train()
        self.method.train()
        losses = Losses()

        def indices(step: int) -> Tensor:
            return order[step * self.batch_size : (step + 1) * self.batch_size]

        with seeded(setup.seed, 3, self.epoch):
            if self.epoch == 0 and setup.calibrated:
                calibrate(
                    self.student,
                    self.method,
                    lambda i: self._show(student, teachers, indices(i % self.steps_per_epoch), 0.0),
                )
            for step in range(self.steps_per_epoch):
                if self._qat_schedule.before_step(self.epoch, step):
                    torch._foreach_copy_(self.average, self._averaged)
                losses.add(self._step(student, teachers, indices(step), self.epoch * self.steps_per_epoch + step))
        self.losses = losses.means()

    def _show(
        self, student: FeatureExtractor, teachers: list[FeatureExtractor], indices: Tensor, progress: float
    ) -> tuple[Outputs, list[Outputs], Batch]:
        """What student and teachers say of a batch."""
        batch = self.method.draw(lambda: self._real(indices, progress))
        with self.setup.numerics.autocast():
            outputs = student(batch.x)
        return outputs, self._teach(teachers, batch), batch

    def _real(self, indices: Tensor, progress: float) -> Batch:
        x = self.setup.numerics.to_layout(self.setup.augmenter.batch(self.epoch, indices))
        return Batch(x, self.setup.labels[indices], indices, progress)

    def _teach(self, teachers: list[FeatureExtractor], batch: Batch) -> list[Outputs]:
        if self._cached:
            return [t.cached(self.epoch, batch.indices) for t in self._teachers]
        pairs = zip(self._teachers, teachers, strict=True)
        return [t.live(extractor, self._seen_by(t, batch)) for t, extractor in pairs]

    def _seen_by(self, teacher: TeacherOutputs, batch: Batch) -> Tensor:
        """The batch itself, or the teacher's own view of the same samples."""
        same = teacher.augmenter is self.setup.augmenter or len(batch.indices) == 0
        return batch.x if same else teacher.view(self.epoch, batch.indices)

    def _step(
        self, student: FeatureExtractor, teachers: list[FeatureExtractor], indices: Tensor, step: int
    ) -> dict[str, Tensor]:
        schedule = self.setup.schedule
        total_steps = schedule.epochs * self.steps_per_epoch
        outputs, taught, batch = self._show(student, teachers, indices, step / total_steps)
        loss, terms = self.loss(outputs, taught, batch)
        if not torch.isfinite(loss):
            raise TrialError(f"the loss became {loss.item()} in epoch {self.epoch + 1} of {schedule.epochs}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for weights in self._weights:  # apart: what a method trains beside the student must not slow the student down
            torch.nn.utils.clip_grad_norm_(weights, schedule.clip_norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at((step + 1) / total_steps)
        self.optimizer.step()
        torch._foreach_lerp_(self.average, self._averaged, 1 - schedule.ema_decay_at(step, total_steps))
        return terms

    def loss(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`ce_weight` * CE + `strength` * `scale` * the method's terms, not under autocast; and all terms, unscaled."""
        terms = {"ce": F.cross_entropy(student.logits, batch.y)} if self.method.ce_weight else {}
        total = torch.zeros(())
        for term in terms.values():
            total = total + self.method.ce_weight * term
        for part in self.method.parts():
            own = part(student, teachers, batch)
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

    def deployed(self, split: Split) -> tuple[nn.Module, float]:
        """Of the averaged networks the most accurate on `split` (the student, if none is better), and its accuracy."""
        judged = [(network, self.accuracy(network, split)) for network in self.averaged_students()]
        return max(judged, key=lambda pair: pair[1])

    def accuracy(self, network: nn.Module, split: Split) -> float:
        """Of a network run as this training runs its own."""
        return accuracy_of(network, split, self.setup.numerics)

    def calibration(self) -> dict[str, float]:
        """The factor that calibration gave each part of the method, by name."""
        return {part.name: float(part.scale) for part in self.method.parts() if part.target_grad_ratio is not None}

    def state(self) -> dict[str, Tensor]:
        """Weights, averages, method's parameters and momenta, by name, for a checkpoint."""
        groups = {
            "student": self.student.state_dict(),
            "method": self.method.state_dict(),
            "average": {str(i): t for i, t in enumerate(self.average)},
            "momentum": checkpoint.optimizer_state(self.optimizer),
            "progress": {
                "epoch": torch.tensor(self.epoch),
                "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            },
        }
        for name, optimizer in self.method.optimizers().items():
            groups[f"optimizer.{name}"] = checkpoint.optimizer_state(optimizer)
        return checkpoint.flatten(groups)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        groups = checkpoint.unflatten(state)
        self.student.load_state_dict(groups["student"])
        self.method.load_state_dict(groups.get("method", {}))
        for i, tensor in enumerate(self.average):
            tensor.copy_(groups["average"][str(i)])
        checkpoint.restore_optimizer(self.optimizer, groups.get("momentum", {}))
        for name, optimizer in self.method.optimizers().items():
            checkpoint.restore_optimizer(optimizer, groups.get(f"optimizer.{name}", {}))
        self.epoch = int(groups["progress"]["epoch"])
        self.seconds = float(groups["progress"]["seconds"])


def _optimizer(parameters: list[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """Weights of layers decay; biases and normalisation do not."""
    decayed, plain = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        nesterov=schedule.momentum > 0,
        fused=True,
    )
    if schedule.momentum:
        for (
            parameter
        ) in parameters:  # those that a first step leaves out would have none, which fused steps cannot take
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


@torch.no_grad()
def logits_of(model: nn.Module, split: Split, numerics: Numerics) -> Tensor:
    """(N, C) in float32 arithmetic, whatever format training used."""
    model.eval()
    parts = (split.x[i : i + EVALUATION_BATCH] for i in range(0, len(split), EVALUATION_BATCH))
    return torch.cat([model(numerics.to_layout(as_input(x))).float() for x in parts])


def accuracy_of(model: nn.Module, split: Split, numerics: Numerics) -> float:
    """Share of samples whose largest logit is their label's, 0..1."""
    return float((logits_of(model, split, numerics).argmax(dim=1) == split.y).double().mean())
