"""What a training step of every method costs, in time and memory, against `none`.

    python benchmarks/method_cost.py [--out reports/step_cost] [--methods a,b] [--blocks 15] [--steps 5] [--threads 1]
        [--teacher 3] [--student 1]

ResNet-20 -> ResNet-8 by default (blocks a stage), batch 128, 3x32x32. All methods take turns block by block in one
process; ratios are taken block by block. With n, m and t the times of `none`, of a method, and of the forward pass of
its live teachers (0 where logits come from the cache): step / none = m / n; without its teacher = (m - t) / n; extra =
(m - t - n) / n. Memory: the peak of a process of its own, a memory bank being that of 50,000 samples. Claims: <= 1.05
for logits from the cache; without the teacher <= 1.3 for `similarity`, `attention_transfer`, `fitnet`, `afd`, `fsp` and
<= 1.5 for `rkd`, `irg`; `crd` within 1 GiB. Methods that make up their own samples: see `benchmarks/methods.py`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import torch
from torch import nn

from benchmarks.common import (
    Seconds,
    by_turns,
    in_words,
    machine_facts,
    markdown_table,
    net_words,
    peak_mib,
    reset_peak,
    residual_net,
    spread,
)
from nas_kd.config.options import Augmentation, EngineOptions
from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs, can_use_cache
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import InputError, TrialError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available
from nas_kd.serialization import write_atomic

BATCH, SHAPE, CLASSES, TEACHERS = 128, (3, 32, 32), 10, 3
BANK = 50_000  # samples that a memory bank is made for
CONTROL, FORWARD = "none", "teacher forward"
SUMS = ("soft_targets+similarity",)
BY_NAME = dict.fromkeys(("similarity", "attention_transfer", "fitnet", "afd", "fsp"), 1.3) | {"rkd": 1.5, "irg": 1.5}
CACHED = 1.05
MEMORY_MIB = {"crd": 1024}


@dataclass(frozen=True)
class Bench:
    """Networks and made-up data that all methods share."""

    setup: TrainingSetup
    teachers: list[TeacherOutputs]
    student: Callable[[], nn.Module]
    steps: int

    @staticmethod
    def of(blocks: tuple[int, int], steps: int, filled: int) -> "Bench":
        """`steps` batches of noise; `filled`: epochs for which the teachers' logits are there."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(0, 256, (BATCH * steps, *SHAPE), generator=generator, dtype=torch.uint8)
        y = torch.randint(0, CLASSES, (len(x),), generator=generator)
        mean, std = torch.full((3,), 127.5), torch.full((3,), 74.0)
        augmenter = Augmenter(x, mean, Augmentation(crop=4, flip=True, cutout=0), seed=0)
        numerics = Numerics.choose(EngineOptions(), SHAPE)
        schedule = Schedule(10_000, BATCH, 0.01, 0.9, 5e-4, 0.1, 0.1, 5.0)
        setup = TrainingSetup(
            ArrayBatches(augmenter, y), DatasetInfo(BANK, CLASSES, mean, std), schedule, numerics, seed=0
        )
        teachers = []
        for seed in range(TEACHERS):
            net = residual_net(blocks[0], 1 + seed, n_classes=CLASSES, mean=mean, std=std)
            teacher = TeacherOutputs(Teacher(net, str(seed) * 64, "", 0, 0), augmenter, BATCH, numerics, None)
            for epoch in range(filled):
                teacher.cached(epoch, torch.arange(1))
            teachers.append(teacher)
        return Bench(setup, teachers, lambda: residual_net(blocks[1], 0, n_classes=CLASSES, mean=mean, std=std), steps)

    def run_of(self, name: str) -> Callable[[], None]:
        """A function that trains `steps` steps; the first call calibrates as well."""
        method = make_method(name)
        shown = self.teachers[: teachers_of(method)]
        training = Training(self.student(), shown, method, self.setup, lambda _: self.student())
        return lambda: training.run(training.epoch + 1)

    def forward(self) -> None:
        """The first teacher's forward passes over as many batches, its features kept."""
        teacher = self.teachers[0]
        x = teacher.view(0, torch.arange(BATCH))
        with teacher.extractor(frozenset({"features", "embedding"})) as extractor:
            for _ in range(self.steps):
                teacher.live(extractor, x)


def teachers_of(method: Method) -> int:
    """How many teachers a method is shown."""
    return {"none": 0, "one": 1, "several": TEACHERS}[method.teachers]


def chosen() -> list[str]:
    """All methods that learn from the data, the control first, but those for paired inputs."""
    names = [CONTROL, *(n for n in available("method") if n != CONTROL), *SUMS]
    return [n for n in names if (type(m := make_method(n)).draw is Method.draw and "pairs" not in m.needs) or n in SUMS]


def figures(name: str, seconds: dict[str, Seconds], steps: int) -> dict[str, Any]:
    """Of one method, from the blocks' times."""
    method = make_method(name)
    live = 0 if can_use_cache(method.needs) else teachers_of(method)
    mine, none = seconds[name], seconds[CONTROL]
    without = (mine - live * seconds[FORWARD]) / none
    return {
        "ms": spread(mine / steps * 1000, 2),
        "to_none": spread(mine / none),
        "without_teacher": spread(without),
        "extra": spread(without - 1),
        "live_teachers": live,
        "networks": method.train_cost_factor,
        "claim": BY_NAME.get(
            name, CACHED if live == 0 and teachers_of(method) and method.train_cost_factor == 1 else None
        ),
    }


def memory_of(name: str, arguments: list[str]) -> float | None:
    """Peak MiB of a process that trains with a method; None if it fails."""
    command = [sys.executable, *arguments, "--memory", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def markdown(result: dict[str, Any]) -> str:
    """The report as Markdown text."""
    facts, methods = result["machine"], result["methods"]
    none = methods[CONTROL]["peak_mib"]
    rows = []
    for name, m in sorted(methods.items(), key=lambda item: item[1]["without_teacher"]["median"]):
        claim = m["claim"]
        met = "" if claim is None else "met" if m["without_teacher"]["median"] <= claim else "missed"
        above = "" if m["peak_mib"] is None or none is None else f"{m['peak_mib'] - none:+.0f}"
        if name in MEMORY_MIB and m["peak_mib"] is not None:
            met += f"; {MEMORY_MIB[name]} MiB {'met' if m['peak_mib'] <= MEMORY_MIB[name] else 'missed'}"
        ratios = [in_words(m[k], 3) for k in ("to_none", "without_teacher", "extra")]
        said = [f"<= {claim} {met}" if claim else met.removeprefix("; ")]
        rows.append([f"`{name}`", f"{m['ms']['median']:.1f}", *ratios, str(m["live_teachers"]), above, *said])
    nets = " -> ".join(net_words(b) for b in result["blocks"])
    head = [
        "method",
        "ms",
        "step / `none`",
        "without its teacher",
        "extra",
        "live teachers",
        "MiB over `none`",
        "claim",
    ]
    text = [
        f"# What a step of each method costs: {nets}, batch {BATCH}, 3x32x32",
        f"{facts['cpu']}, {facts['threads']} thread(s), torch {facts['torch']}, load before: {facts['load_1m']}. "
        f"Forward pass of a live teacher: {in_words(result['teacher_forward_ms'], 1)} ms; peak of `none`: "
        f"{0 if none is None else none:.0f} MiB. Median [quartiles] over {result['turns']} blocks of "
        f"{result['steps']} steps.",
        markdown_table(head, rows),
    ]
    errors = [f"- `{name}`: {error}" for name, error in result["errors"].items()]
    return "\n\n".join(text) + ("\nFailed:\n\n" + "\n".join(errors) + "\n" if errors else "")


def measure(bench: Bench, names: list[str], turns: int) -> tuple[dict[str, Seconds], dict[str, str]]:
    """Seconds of each block, by method; and why some failed."""
    runs: dict[str, Callable[[], None]] = {FORWARD: bench.forward}
    errors = {}
    for name in names:
        try:
            run = bench.run_of(name)
            run()
            runs[name] = run
        except (InputError, TrialError, RuntimeError) as error:
            errors[name] = f"{type(error).__name__}: {error}"
    return by_turns(runs, turns), errors


def main() -> None:
    """Measure the methods, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("reports/step_cost"))
    parser.add_argument("--methods", help="comma-separated (default: all that learn from the data)")
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="of a block")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--teacher", type=int, default=3, help="blocks a stage")
    parser.add_argument("--student", type=int, default=1, help="blocks a stage")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    given = parser.parse_args()
    blocks = (given.teacher, given.student)
    with training_threads(given.threads):
        if given.memory:
            run = Bench.of(blocks, given.steps, 2).run_of(given.memory)
            reset_peak()
            run()
            run()
            print(peak_mib())
            return
        names = given.methods.split(",") if given.methods else chosen()
        names = [CONTROL, *(n for n in names if n != CONTROL)]
        facts = machine_facts(given.threads)
        seconds, errors = measure(Bench.of(blocks, given.steps, given.blocks + 2), names, given.blocks)
    methods = {n: figures(n, seconds, given.steps) for n in names if n in seconds}
    for name, m in methods.items():
        m["peak_mib"] = memory_of(name, sys.argv)
        print(f"{name:28} {m['ms']['median']:8.1f} ms  x{in_words(m['to_none'], 3)}  {m['peak_mib']} MiB", flush=True)
    forward = spread(seconds[FORWARD] / given.steps * 1000, 2)
    plan = {"blocks": list(blocks), "batch": BATCH, "steps": given.steps, "turns": given.blocks, "machine": facts}
    result = {**plan, "teacher_forward_ms": forward, "methods": methods, "errors": errors}
    write_atomic(given.out / "methods.json", json.dumps(result, indent=1) + "\n")
    write_atomic(given.out / "methods.md", markdown(result))


if __name__ == "__main__":
    main()
