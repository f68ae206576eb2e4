"""What one training step costs: ours against a hand-written PyTorch loop, and with a teacher against without one.

    python benchmarks/step_cost.py [--out reports/step_cost/result.json]

Steps of the contestants alternate in blocks within one process, on the same networks, data and settings; the ratio is
taken block by block, so that the machine's drift cancels. Claims: ours / hand-written <= 1.05; soft targets from the
cache / no teacher = 1. What a step of every method costs: `benchmarks/method_cost.py`.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nas_kd.config.options import Augmentation, EngineOptions
from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, seeded, threads_for, training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.combine import make_method
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import load
from nas_kd.serialization import write_atomic

BATCH, STEPS, BLOCKS = 128, 10, 30
SHAPES = {"8x8 grey": (1, 8, 8), "32x32 colour": (3, 32, 32)}


def contestants(shape: tuple[int, ...], numerics: Numerics) -> dict[str, Callable[[], None]]:
    """Functions that each run STEPS training steps."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (BATCH * STEPS, *shape), generator=generator, dtype=torch.uint8)
    y = torch.randint(0, 10, (len(x),), generator=generator)
    channels = shape[0]
    mean, std = torch.full((channels,), 128.0), torch.full((channels,), 60.0)
    augmenter = Augmenter(x, mean, Augmentation(crop=shape[1] // 8, flip=False, cutout=0), seed=0)
    space = load("space", "resnet")
    ladder = space.size_ladder(6)

    def build(i: int) -> nn.Module:
        with seeded(0):
            return Normalized(space.build(ladder[i], shape, 10), mean, std)

    schedule = Schedule(10_000, BATCH, 0.01, 0.9, 5e-4, 0.1, 0.1, 5.0)
    teacher = TeacherOutputs(Teacher(build(4), "0" * 64, "", 0, 0), augmenter, BATCH, numerics, None)
    facts = DatasetInfo(len(x), 10, mean, std)
    setup = TrainingSetup(ArrayBatches(augmenter, y), facts, schedule, numerics, seed=0)
    for epoch in range(BLOCKS + 1):
        teacher.cached(epoch, torch.arange(1))

    def ours(method: str) -> Callable[[], None]:
        training = Training(build(2), [teacher], make_method(method), setup, lambda _: build(2))
        return lambda: training.run(training.epoch + 1)

    return {
        "hand-written": hand_written(build(2), augmenter, y, numerics, schedule),
        "ours, no teacher": ours("none"),
        "ours, soft targets from the cache": ours("soft_targets"),
        "ours, similarity with the live teacher": ours("similarity"),
    }


def hand_written(
    model: nn.Module, augmenter: Augmenter, y: torch.Tensor, numerics: Numerics, schedule: Schedule
) -> Callable[[], None]:
    """The same step, written out as one would in a script: no hooks, no methods, no checkpoints."""
    model = numerics.place(model).train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, fused=True)
    live = [t for t in model.state_dict().values() if t.is_floating_point()]
    average = [t.clone() for t in live]
    epoch = 0

    def run() -> None:
        nonlocal epoch
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(epoch))
        for step in range(STEPS):
            indices = order[step * BATCH : (step + 1) * BATCH]
            x = numerics.to_layout(augmenter.batch(epoch, indices))
            with numerics.autocast():
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y[indices])
            if not torch.isfinite(loss):
                raise RuntimeError("loss is not finite")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate_at((epoch * STEPS + step) / 100_000)
            optimizer.step()
            torch._foreach_lerp_(average, live, 0.01)
        epoch += 1

    return run


def measure(shape: tuple[int, ...], numerics: Numerics) -> dict[str, dict[str, float]]:
    """Milliseconds a step and ratio to the hand-written loop: median and quartiles over blocks."""
    runs = contestants(shape, numerics)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(BLOCKS - 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - started) / STEPS * 1000)
    base, plain = np.array(times["hand-written"]), np.array(times["ours, no teacher"])
    return {name: _summary(np.array(t), base, plain) for name, t in times.items()}


def _summary(ms: np.ndarray, base: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    low, ratio, high = np.percentile(ms / base, [25, 50, 75])
    figures = {"ms": np.median(ms), "ratio": ratio, "ratio_q25": low, "ratio_q75": high}
    figures["ratio_to_no_teacher"] = np.median(ms / plain)
    return {name: round(float(value), 4) for name, value in figures.items()}


def main() -> None:
    """Measure all steps by turns, print the ratios and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("reports/step_cost/result.json"))
    out = parser.parse_args().out
    result: dict[str, object] = {"torch": torch.__version__, "machine": platform.processor()}
    for name, shape in SHAPES.items():
        for precision in ("fp32", "bf16"):
            numerics = Numerics(bf16=precision == "bf16", channels_last=True)
            threads = threads_for(EngineOptions(), shape)
            with training_threads(threads):
                figures = measure(shape, numerics)
            result[f"{name}, {precision}"] = {"threads": threads, **figures}
            for who, f in figures.items():
                spread = f"x{f['ratio']:.3f} [{f['ratio_q25']:.3f}, {f['ratio_q75']:.3f}]"
                print(f"{name:14} {precision}  {who:40} {f['ms']:8.2f} ms  {spread}")
    write_atomic(out, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
