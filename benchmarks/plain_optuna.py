"""What a user writes today: Optuna's and PyTorch's tutorials put together. `search_cost.py` is measured against it.

    python benchmarks/plain_optuna.py CASE.json --out TRIALS.jsonl

Suggest a network and two numbers, distil it to the end from the live teacher, export it, time it, tell Optuna. Each
trial is a line of TRIALS.jsonl: seconds since this process was started, choices, accuracy, bytes, milliseconds. Space,
data and splits, and the teacher's file are those of nas-kd; everything else is plain torch, ONNX Runtime and Optuna,
with their defaults where the tutorials have them. There are no teacher assistants.
"""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import numpy as np
import onnxruntime
import optuna
import psutil
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nas_kd.config.options import DataOptions
from nas_kd.data.prepare import load_dataset
from nas_kd.plugins import load

Sample = tuple[Tensor, Tensor]
WARM_UP, TIMED = 10, 100  # calls


@dataclass(frozen=True)
class Task:
    """What is given: the space, and normalised images in memory. `shift`: in pixels; `example`: (1, C, H, W)."""

    space: Any
    train: Sample
    val: Sample
    classes: int
    shift: int
    flip: bool
    epochs: int
    batch_size: int
    learning_rate: float
    max_latency_ms: float
    max_size_kb: float

    @property
    def example(self) -> Tensor:
        """An image to trace with."""
        return self.val[0][:1]


class Images(Dataset[Sample]):
    """Training images, shifted and mirrored at random; a DataLoader fetches whole batches through `__getitems__`."""

    def __init__(self, task: Task) -> None:
        self.x, self.y = task.train
        self.shift, self.flip = task.shift, task.flip
        self.padded = F.pad(self.x, [self.shift] * 4)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Sample:
        x, y = self.__getitems__([index])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        """A batch: (B, C, H, W), (B,)."""
        chosen = torch.as_tensor(indices)
        count, (channels, height, width) = len(chosen), self.x.shape[1:]
        top, left = torch.randint(0, 2 * self.shift + 1, (2, count, 1))
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        if self.flip:
            columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
        shifted = self.padded[
            chosen[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
        return shifted, self.y[chosen]


def batch_as_it_is(batch: Any) -> Any:
    """The dataset has put it together already."""
    return batch


def prepare(case: dict[str, Any]) -> tuple[Task, nn.Module]:
    """Load the data and the teacher."""
    data = load_dataset(DataOptions.model_validate(case["data"]), case["seed"])
    augment = data.augmentation.at(data.augmentation.usual_strength)
    shape = (1, -1, 1, 1)

    def normalised(x: Tensor) -> Tensor:
        return (x.float() - data.mean.view(shape)) / data.std.view(shape)

    task = Task(
        space=load("space", case["space"]),
        train=(normalised(data.train.x[:]), data.train.y),
        val=(normalised(data.val.x[:]), data.val.y),
        classes=data.n_classes,
        shift=augment.crop or 0,
        flip=bool(augment.flip),
        epochs=case["epochs"],
        batch_size=case["batch_size"],
        learning_rate=case["learning_rate"],
        max_latency_ms=case["max_latency_ms"],
        max_size_kb=case["max_size_kb"],
    )
    of_teacher = load("space", case["teacher_space"])
    teacher = of_teacher.build(of_teacher.size_ladder(2)[-1], data.input_shape, data.n_classes)
    weights = load_file(case["teacher"])  # of body and normalisation, which is in the data here
    teacher.load_state_dict({k.removeprefix("body."): v for k, v in weights.items() if k.startswith("body.")})
    return task, teacher.eval().requires_grad_(False)


def train(model: nn.Module, teacher: nn.Module, task: Task, alpha: float, temperature: float) -> None:
    """Distil with soft targets (Hinton et al. 2015), from the first epoch to the last."""
    loader = DataLoader(Images(task), task.batch_size, shuffle=True, drop_last=True, collate_fn=batch_as_it_is)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=task.learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, task.learning_rate, task.epochs * len(loader), pct_start=0.1, cycle_momentum=False
    )
    model.train()
    for _ in range(task.epochs):
        for x, y in loader:
            with torch.no_grad():
                taught = F.log_softmax(teacher(x) / temperature, dim=1)
            logits = model(x)
            said = F.log_softmax(logits / temperature, dim=1)
            soft = F.kl_div(said, taught, reduction="batchmean", log_target=True) * temperature**2
            loss = (1 - alpha) * F.cross_entropy(logits, y) + alpha * soft
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()


@torch.no_grad()
def accuracy(model: nn.Module, split: Sample) -> float:
    """Share of correct answers, 0..1."""
    model.eval()
    logits = torch.cat([model(x) for x in torch.split(split[0], 512)])
    return float((logits.argmax(dim=1) == split[1]).float().mean())


def export(model: nn.Module, example: Tensor, path: Path) -> int:
    """Write the file and what the exporter puts beside it; bytes of all."""
    torch.onnx.export(model, (example,), str(path), dynamo=exporter() == "dynamo", verbose=False)
    return sum(file.stat().st_size for file in path.parent.iterdir())


def exporter() -> str:
    """The default one needs a package of its own."""
    return "dynamo" if importlib.util.find_spec("onnxscript") else "torchscript"


def latency_ms(path: Path, example: Tensor) -> float:
    """Mean time of a call with one image on one thread, after some calls that are not counted."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: example.numpy()}
    for _ in range(WARM_UP):
        session.run(None, feed)
    started = time.perf_counter()
    for _ in range(TIMED):
        session.run(None, feed)
    return (time.perf_counter() - started) / TIMED * 1000


def evaluate(trial: optuna.Trial, task: Task, teacher: nn.Module) -> tuple[float, float, float]:
    """The objective: accuracy on validation, bytes, milliseconds; the budget is a constraint."""
    architecture = task.space.suggest(trial)
    alpha = trial.suggest_float("alpha", 0.1, 0.9)
    temperature = trial.suggest_float("temperature", 1.0, 8.0, log=True)
    model = task.space.build(architecture, tuple(task.example.shape[1:]), task.classes)
    train(model, teacher, task, alpha, temperature)
    judged = accuracy(model, task.val)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "student.onnx"
        size = export(model, task.example, path)
        milliseconds = latency_ms(path, task.example)
    trial.set_constraint("latency", milliseconds - task.max_latency_ms)
    trial.set_constraint("size", size / 1000 - task.max_size_kb)
    trial.set_user_attr("architecture", architecture.to_json())
    return judged, float(size), milliseconds


def main() -> None:
    """Search, and leave a line for each trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("case", type=Path, help="JSON: data, seed, space, teacher_space, teacher, epochs, ...")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    case = json.loads(given.case.read_text())
    started = psutil.Process().create_time()
    if case["script_threads"]:
        torch.set_num_threads(case["script_threads"])
    torch.manual_seed(case["seed"])
    np.random.seed(case["seed"])
    task, teacher = prepare(case)
    sampler = optuna.samplers.TPESampler(seed=case["seed"])  # Optuna's default, also for several objectives
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)

    def write(_study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        judged, size, milliseconds = trial.values
        line = {
            "elapsed_s": round(time.time() - started, 3),
            "architecture": trial.user_attrs["architecture"],
            "alpha": trial.params["alpha"],
            "temperature": trial.params["temperature"],
            "val_accuracy": judged,
            "size_bytes": int(size),
            "latency_ms": milliseconds,
        }
        with given.out.open("a") as file:
            file.write(json.dumps(line) + "\n")

    given.out.unlink(missing_ok=True)
    study.optimize(lambda trial: evaluate(trial, task, teacher), n_trials=case["trials"], callbacks=[write])
    facts = {
        "exporter": exporter(),
        "sampler": type(study.sampler).__name__,
        "threads": torch.get_num_threads(),
        "total_s": round(time.time() - started, 3),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
