"""Lower rank against narrower layers: cuts of a small vision transformer on the digits, of equal size, distilled alike.

    OMP_NUM_THREADS=1 python -m benchmarks.ranks [--seeds 0,1,2] [--out reports/ranks]

The teacher is trained on 600 digits; students are trained on its outputs for a few epochs, and judged on the 997 digits
that neither has seen. Latencies are of ONNX Runtime on one thread and batch 1, taken by turns with the teacher's.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.common import machine_facts, markdown_table, numbers
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.derived.derived_space import DerivedSpace
from nas_kd.results.candidate import Architecture
from tests.models.derived.transformers import VisionTransformer

OUT = Path("reports/ranks")
SHAPE, N_CLASSES, DIM = (3, 16, 16), 10, 64
TRAINED, TESTED = slice(0, 600), slice(800, None)
SHARES, SIZES = (0.6, 0.4, 0.25), 24  # of the teacher's weights, and cuts among which the nearest are looked for
TEACHER_EPOCHS, STUDENT_EPOCHS, BATCH, TEMPERATURE = 25, 4, 64, 2.0
CALLS = 300  # of each file, by turns
ARMS = ("narrower", "lower rank", "both")


def digits() -> tuple[Tensor, Tensor]:
    """Pictures (1797, 3, 16, 16) of digits in 0..1, and their labels."""
    data = load_digits()
    small = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    return F.interpolate(small, SHAPE[1:], mode="bilinear").expand(-1, 3, -1, -1), torch.tensor(data.target)


def train(network: nn.Module, x: Tensor, targets: Tensor, *, epochs: int, rate: float, seed: int) -> nn.Module:
    """Train on labels (N,), or on a teacher's logits (N, C)."""
    generator, network = torch.Generator().manual_seed(seed), network.train()
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    steps = epochs * math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x), generator=generator), BATCH):
            loss = _loss(network(x[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    if targets.dim() == 1:
        return F.cross_entropy(logits, targets)
    soft, taught = (logits / TEMPERATURE).log_softmax(1), (targets / TEMPERATURE).softmax(1)
    return F.kl_div(soft, taught, reduction="batchmean") * TEMPERATURE**2


def candidates(space: DerivedSpace, arm: str) -> list[tuple[nn.Module, str]]:
    """The cuts of an arm with their descriptions, from small to large."""
    if arm == "narrower":
        space = space.of_whole_layers()
    sizes: list[Architecture] = space.size_ladder(SIZES)
    if arm == "lower rank":
        ranks = [cut.name for cut in space.cuts if cut.layers]
        whole = {name: int(value) for name, value in sizes[-1].choices.items()}
        sizes = [space.canonical(whole | dict.fromkeys(ranks, eighths)) for eighths in range(1, 9)]
    return [(space.build(size, SHAPE, N_CLASSES).eval(), space.describe(size)) for size in sizes]


def students(seed: int) -> Iterator[dict[str, Any]]:
    """The students of one seed's teacher."""
    x, y = digits()
    torch.manual_seed(seed)
    teacher = train(
        VisionTransformer(dim=DIM, n_classes=N_CLASSES),
        x[TRAINED],
        y[TRAINED],
        epochs=TEACHER_EPOCHS,
        rate=2e-3,
        seed=seed,
    )
    with torch.no_grad():
        logits = teacher(x)
    space = DerivedSpace(teacher, x[:64])
    weights = count(teacher)
    yield {"seed": seed, "arm": "teacher", "weights": weights, "after": accuracy(teacher, x, y)}
    for arm in ARMS:
        cuts = candidates(space, arm)
        for share in SHARES:
            nearest, description = min(cuts, key=lambda cut: abs(count(cut[0]) - share * weights))
            student = deepcopy(nearest)
            before = accuracy(student, x, y)
            latency = latency_share(student, teacher)
            train(student, x[TRAINED], logits[TRAINED], epochs=STUDENT_EPOCHS, rate=1e-3, seed=seed)
            yield {
                "seed": seed,
                "arm": arm,
                "share": share,
                "weights": count(student),
                "before": before,
                "after": accuracy(student, x, y),
                "latency": latency,
                "description": description,
            }


def count(network: nn.Module) -> int:
    """Count the weights of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the held-out digits that are recognised."""
    with torch.no_grad():
        return float((network(x[TESTED]).argmax(1) == y[TESTED]).float().mean())


def latency_share(student: nn.Module, teacher: nn.Module) -> float:
    """Median of a student's latency over that of the teacher, taken by turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    files = [export_onnx(network, SHAPE) for network in (student, teacher)]
    sessions = [onnxruntime.InferenceSession(file, options) for file in files]
    x = {"input": torch.rand(1, *SHAPE).numpy()}

    def seconds(session: onnxruntime.InferenceSession) -> float:
        started = time.perf_counter()
        session.run(None, x)
        return time.perf_counter() - started

    pairs = [[seconds(session) for session in sessions] for _ in range(CALLS)]
    return statistics.median(one / other for one, other in pairs)


def report(rows: list[dict[str, Any]]) -> str:
    """Means over the seeds, with the least and the largest."""
    teachers = [row for row in rows if row["arm"] == "teacher"]
    lines = []
    for share in SHARES:
        for arm in ARMS:
            own = [row for row in rows if row.get("share") == share and row["arm"] == arm]
            weights = statistics.fmean(row["weights"] for row in own) / teachers[0]["weights"]
            latency = statistics.fmean(row["latency"] for row in own)
            accuracies = (_spread([row[key] for row in own]) for key in ("before", "after"))
            lines.append([f"{share:.0%}", arm, f"{weights:.0%}", *accuracies, f"{latency:.2f}", own[0]["description"]])
    head = ["size", "cut", "weights", "before", "after", "latency", "first seed's student"]
    taught = _spread([row["after"] for row in teachers])
    machine = {key: value for key, value in machine_facts(1).items() if key != "load_1m"}
    return (
        f"# {(__doc__ or '').splitlines()[0]}\n\nTeacher: {DIM} wide, 3 blocks, {teachers[0]['weights']:,} weights, "
        f"accuracy {taught}. Accuracy in per cent before and after {STUDENT_EPOCHS} epochs of distillation, means "
        f"(least to largest) of {len(teachers)} seeds; latency as a share of the teacher's. {machine}\n\n"
        f"{markdown_table(head, lines)}"
    )


def _spread(values: list[float]) -> str:
    low, mean, high = (100 * value for value in (min(values), statistics.fmean(values), max(values)))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def main() -> int:
    """Train, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [row for seed in given.seeds for row in students(seed)]
    (given.out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (given.out / "report.md").write_text(report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
