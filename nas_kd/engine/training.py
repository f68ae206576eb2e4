"""The training loop: one student, any number of teachers, one method."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.data.augment import Augmenter
from nas_kd.data.dataset import Split, as_input
from nas_kd.engine.numerics import Numerics, mix, seeded
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.taps import Tapped, find_taps
from nas_kd.engine.teachers import TeacherOutputs, can_use_cache
from nas_kd.errors import TrialError
from nas_kd.methods.base import Batch, Method, Outputs

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Setup:
    """All that a training depends on, beside the student itself."""

    augmenter: Augmenter
    labels: Tensor  # (N,) of the training split
    schedule: Schedule
    numerics: Numerics
    seed: int


class Training:
    """A training that can be stopped after any epoch, saved, and gone on with as if never stopped.

    Every random choice follows from (seed, epoch), so the state is the weights and the optimiser alone.
    """

    def __init__(self, student: nn.Module, teachers: Sequence[TeacherOutputs], method: Method, setup: Setup) -> None:
        self.student = setup.numerics.place(student)
        self.method = method
        self.setup = setup
        self.epoch = 0
        self.seconds = 0.0
        self._teachers = tuple(teachers)
        self._cached = can_use_cache(tuple(method.needs))
        self._attach()
        decayed, plain = _weight_groups(self._trained())
        schedule = setup.schedule
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=schedule.learning_rate,
            momentum=schedule.momentum,
            nesterov=schedule.momentum > 0,
            fused=True,
        )
        self._averaged = [t for t in self.student.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self._averaged]
        self.batch_size = min(schedule.batch_size, len(setup.augmenter))
        self.steps_per_epoch = len(setup.augmenter) // self.batch_size

    def _attach(self) -> None:
        """Let the method see an example of everybody's outputs, so that it can create its adapters."""
        example = self.setup.numerics.lay_out(self.setup.augmenter.batch(0, torch.arange(2)))
        self._points = find_taps(self.student, example)
        tapped = Tapped(self.student, self._points, self.method.needs)
        was_training = self.student.training
        with torch.no_grad(), seeded(self.setup.seed, 1):
            shown = [self._teacher_example(t, example) for t in self._teachers]
            self.student.eval()
            self.method.attach(tapped(example), shown)
        self.student.train(was_training)
        tapped.close()

    def _teacher_example(self, teacher: TeacherOutputs, example: Tensor) -> Outputs:
        tapped = teacher.tapped(self.method.needs)
        outputs = teacher.live(tapped, example)
        tapped.close()
        return outputs

    def _trained(self) -> list[nn.Parameter]:
        return [*self.student.parameters(), *self.method.parameters()]

    def run(self, until: int | None = None, after_epoch: Callable[["Training"], None] | None = None) -> None:
        """Train up to epoch `until` of the schedule (default: all of it).

        Raises:
            TrialError: the loss is no longer finite, or memory ran out.
        """
        until = self.setup.schedule.epochs if until is None else until
        student = Tapped(self.student, self._points, self.method.needs)
        teachers = [] if self._cached else [t.tapped(self.method.needs) for t in self._teachers]
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
            for tapped in (student, *teachers):
                tapped.close()

    def _run_epoch(self, student: Tapped, teachers: list[Tapped]) -> None:
        n = len(self.setup.augmenter)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.setup.seed, 2, self.epoch)))
        self.student.train()
        self.method.train()
        with seeded(self.setup.seed, 3, self.epoch):
            for step in range(self.steps_per_epoch):
                indices = order[step * self.batch_size : (step + 1) * self.batch_size]
                self._step(student, teachers, indices, self.epoch * self.steps_per_epoch + step)

    def _step(self, student: Tapped, teachers: list[Tapped], indices: Tensor, step: int) -> None:
        setup, schedule = self.setup, self.setup.schedule
        total_steps = schedule.epochs * self.steps_per_epoch
        x = setup.numerics.lay_out(setup.augmenter.batch(self.epoch, indices))
        batch = Batch(x, setup.labels[indices], indices, step / total_steps)
        with setup.numerics.autocast():
            outputs = student(x)
        loss = self.loss(outputs, self._teach(teachers, x, indices), batch)
        if not torch.isfinite(loss):
            raise TrialError(f"the loss became {loss.item()} in epoch {self.epoch + 1} of {schedule.epochs}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._trained(), schedule.clip_norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at((step + 1) / total_steps)
        self.optimizer.step()
        torch._foreach_lerp_(self.average, self._averaged, 1 - schedule.ema_decay_at(step, total_steps))

    def _teach(self, teachers: list[Tapped], x: Tensor, indices: Tensor) -> list[Outputs]:
        if not self.method.needs:
            return []
        if self._cached:
            return [t.cached(self.epoch, indices) for t in self._teachers]
        return [t.live(tapped, x) for t, tapped in zip(self._teachers, teachers, strict=True)]

    def loss(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        """`ce_weight` * CE + `strength` * the method's terms, outside of autocast."""
        total = self.method.ce_weight * F.cross_entropy(student.logits, batch.y)
        for term in self.method(student, teachers, batch).values():
            total = total + self.method.strength * term
        return total

    def averaged_student(self) -> nn.Module:
        """The network to deploy, with the averaged weights swapped in; training goes on from the others."""
        student = deepcopy(self.student)
        targets = [t for t in student.state_dict().values() if t.is_floating_point()]
        for target, value in zip(targets, self.average, strict=True):
            target.copy_(value)
        return self.method.detach(student).eval()

    def state(self) -> dict[str, Tensor]:
        """Weights, averages, method's parameters and momenta, by name, for a checkpoint."""
        groups: dict[str, dict[str, Tensor]] = {
            "student": self.student.state_dict(),
            "method": self.method.state_dict(),
            "average": {str(i): t for i, t in enumerate(self.average)},
            "momentum": {
                str(i): self.optimizer.state[p]["momentum_buffer"]
                for i, p in enumerate(self._trained())
                if "momentum_buffer" in self.optimizer.state[p]
            },
            "progress": {"epoch": torch.tensor(self.epoch), "seconds": torch.tensor(self.seconds)},
        }
        return {f"{group}/{name}": t for group, tensors in groups.items() for name, t in tensors.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        groups: dict[str, dict[str, Any]] = {}
        for path, tensor in state.items():
            group, _, name = path.partition("/")
            groups.setdefault(group, {})[name] = tensor
        self.student.load_state_dict(groups["student"])
        self.method.load_state_dict(groups.get("method", {}))
        for i, tensor in enumerate(self.average):
            tensor.copy_(groups["average"][str(i)])
        for i, parameter in enumerate(self._trained()):
            if (momentum := groups.get("momentum", {}).get(str(i))) is not None:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        self.epoch = int(groups["progress"]["epoch"])
        self.seconds = float(groups["progress"]["seconds"])


def _weight_groups(parameters: list[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights of layers, which decay; biases and normalisation, which do not."""
    return [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]


@torch.no_grad()
def logits_of(model: nn.Module, split: Split, numerics: Numerics) -> Tensor:
    """(N, C) in float32 arithmetic, whatever format training used."""
    model.eval()
    parts = (split.x[i : i + EVALUATION_BATCH] for i in range(0, len(split), EVALUATION_BATCH))
    return torch.cat([model(numerics.lay_out(as_input(x))).float() for x in parts])


def accuracy_of(model: nn.Module, split: Split, numerics: Numerics) -> float:
    """Share of samples whose largest logit is their label's, 0..1."""
    return float((logits_of(model, split, numerics).argmax(dim=1) == split.y).double().mean())
