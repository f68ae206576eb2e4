"""The loop in plain PyTorch: soft targets, calibration, SGD or AdamW, schedule and averaged weights: the engine's."""

import math
from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import PLAIN, mix_seeds, training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.combine import make_method
from nas_kd.methods.response.soft_targets import SoftTargets

from .conftest import CLASSES, N, net, stripes

SEED, TEMPERATURE, STRENGTH = 3, 4.0, 2.0


def terms(student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy, and soft targets at their published weight."""
    logits = student(x)
    with torch.no_grad():
        target = F.softmax(teacher.eval()(x) / TEMPERATURE, dim=1)
    kl = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), target, reduction="batchmean")
    return F.cross_entropy(logits, y), 0.9 * TEMPERATURE**2 * kl


def calibrated_scale(student: nn.Module, teacher: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The factor with which the gradient of soft targets is as many times that of cross-entropy as it should be."""
    tried, norms = deepcopy(student), [0.0, 0.0]
    for x, y in batches:
        for i, term in enumerate(terms(tried, teacher, x, y)):
            gradients = torch.autograd.grad(term, list(tried.parameters()), retain_graph=True)
            norms[i] += math.sqrt(sum(float(g.square().sum()) for g in gradients))
    return SoftTargets.target_grad_ratio * norms[0] / norms[1]


def reference(
    student: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    y: Tensor,
    schedule: Schedule,
    *,
    calibrated: bool,
) -> dict[str, Tensor]:
    """Train the student in place on all whole batches; returns the averaged weights by name."""
    parameters = list(student.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if schedule.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=schedule.momentum, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(schedule.momentum, 0.99))
    average = {name: value.clone() for name, value in student.state_dict().items() if value.is_floating_point()}
    steps = len(x) // schedule.batch_size
    total, done, scale = schedule.epochs * steps, 0, 1.0
    for epoch in range(schedule.epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mix_seeds(SEED, 2, epoch)))
        student.train()
        batches = order[: steps * schedule.batch_size].split(schedule.batch_size)
        for step, batch in enumerate(batches):
            if calibrated and done in (0, min(35, total // 2)):
                first = max(0, min(step, steps - 4))
                shown = [batches[(first + i) % steps] for i in range(4)]
                scale = calibrated_scale(student, teacher, [(x[b], y[b]) for b in shown])
            ce, soft_targets = terms(student, teacher, x[batch], y[batch])
            loss = 0.1 * ce + STRENGTH * scale * soft_targets
            optimizer.zero_grad()
            loss.backward()
            if calibrated:
                nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
            progress = (done + 1) / total
            rising = progress / schedule.warmup
            falling = 0.5 * (1 + math.cos(math.pi * (progress - schedule.warmup) / (1 - schedule.warmup)))
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * (rising if progress < schedule.warmup else falling)
            optimizer.step()
            decay = min(1 - 1 / max(2.0, schedule.ema * total), (1 + done) / (10 + done))
            for name, value in average.items():
                value.lerp_(student.state_dict()[name], 1 - decay)
            done += 1
    return average


@pytest.mark.parametrize(
    ("optimizer", "rate", "decay", "tolerance"),
    [("sgd", 0.1, 5e-4, 5e-6), ("adamw", 0.01, 0.05, 3e-5)],  # AdamW divides by small numbers, which rounding moves
)
@pytest.mark.parametrize(("batch_size", "calibrated"), [(6, True), (20, True), (32, False), (96, True)])
def test_the_engine_is_the_plain_loop(
    batch_size: int, calibrated: bool, optimizer: str, *, rate: float, decay: float, tolerance: float
) -> None:
    # A norm of 0.1 is exceeded: gradients are clipped, but for those of published weights.
    # The second calibration is before step 35, or in the middle where that is earlier.
    schedule = Schedule(3, batch_size, rate, 0.9, decay, 0.2, 0.1, 0.1, optimizer=optimizer)
    x, y = stripes()
    source = ArrayBatches(Augmenter(x, torch.zeros(1), Augmentation(crop=0, flip=False, cutout=0), seed=0), y)
    dataset = DatasetInfo(N, CLASSES, torch.zeros(1), torch.ones(1))
    setup = TrainingSetup(source, dataset, schedule, PLAIN, seed=SEED, calibrated=calibrated)
    teacher = net(12, seed=9)
    outputs = TeacherOutputs(Teacher(teacher), source.augmenter, batch_size, PLAIN, None)
    method = make_method("soft_targets", TEMPERATURE, STRENGTH)
    training = Training(net(4, seed=1), [outputs], method, setup)
    plain = net(4, seed=1)
    with training_threads(1):  # of which there are more, sums are taken in other orders for batches of other sizes
        training.run()
        average = reference(plain, teacher, x.float(), y, schedule, calibrated=calibrated)
    trained = training.student.state_dict()
    assert all(torch.allclose(trained[k], v, rtol=0, atol=tolerance) for k, v in plain.state_dict().items())
    averaged = training.averaged_students()[0].state_dict()
    assert all(torch.allclose(averaged[k], v, rtol=0, atol=tolerance) for k, v in average.items())
    untrained = net(4, seed=1).state_dict()
    assert all((trained[k] - v).abs().max() > 1e-4 for k, v in untrained.items() if v.is_floating_point())
