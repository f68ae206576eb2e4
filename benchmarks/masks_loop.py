"""Segmentation against a plain PyTorch loop: the same networks, losses, steps and rates; scores and step times.

    OMP_NUM_THREADS=2 python -m benchmarks.masks_loop --data-dir DATA [--out reports/masks_loop] [--seeds 5]
        [--epochs 20] [--blocks 9] [--threads 2]

DATA holds nuclei/{train,val,test}/{images,masks}/*.png. A teacher is trained by labels; then a student of a quarter of
its weights, by labels (`none`: CE + Dice) and with soft targets of each pixel (0.1 (CE + Dice) + 0.9 T^2 KL). The plain
loop is what papers' code does: float32, channels first, a DataLoader, the teacher run live on each batch, SGD with
warm-up and cosine, shifts and mirroring of picture and mask together. First the losses are checked: same weights, same
batch, equal to 1e-4. Judged: the last weights of both, mean IoU on test.
"""

import argparse
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.common import by_turns, in_words, machine_facts, markdown_table, spread
from nas_kd.config.options import DataOptions, DistillOptions, EngineOptions
from nas_kd.data.augment import TrainingViews
from nas_kd.data.dataset import Dataset as Data
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.evaluation import evidence_of
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import PLAIN, Numerics, training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.models.search_space import load_space
from nas_kd.models.wrappers import Normalized
from nas_kd.results.intervals import paired_gain
from nas_kd.results.training_recipe import WEIGHT_DECAYS, TrainingRecipe
from nas_kd.scores.base import load_score
from nas_kd.serialization import write_atomic

SPACE, TEACHER, STUDENT = "resnet+pyramid", 3, 2  # rungs of a ladder of five sizes
SIDE, BATCH, RATE, TEMPERATURE = 80, 32, 0.1, 4.0
METHODS = ("none", "soft_targets")
SHIFT = 4  # pixels
SAME = 1e-4
CLAIM = 1.05  # of the step times


@dataclass(frozen=True)
class Stage:
    """What both sides share: data, networks, schedule.

    Attributes:
        data: pictures and masks.
        epochs: of a training.
    """

    data: Data
    epochs: int

    @property
    def schedule(self) -> Schedule:
        """The project's default schedule, over these epochs."""
        recipe = TrainingRecipe(self.epochs, BATCH, "sgd", RATE, WEIGHT_DECAYS["sgd"], "standard")
        return Schedule.of(DistillOptions(), recipe)

    def net(self, rung: int, seed: int) -> nn.Module:
        """A new network of a rung of the ladder of sizes."""
        space = load_space(SPACE)
        torch.manual_seed(seed)
        body = space.build(space.size_ladder(5)[rung], self.data.input_shape, self.data.n_classes)
        return Normalized(body, self.data.mean, self.data.std)

    def training(
        self, student: nn.Module, method: str, teacher: nn.Module | None, numerics: Numerics, seed: int
    ) -> Training:
        """A training of ours, with published weights."""
        data, view = self.data, TrainingViews(self.data, seed).student("standard")
        facts = DatasetInfo(len(data.train), data.n_classes, data.mean, data.std, data.task)
        batches = ArrayBatches(view, data.train.y, data.task.moving)
        setup = TrainingSetup(batches, facts, self.schedule, numerics, seed, calibrated=False)
        teachers = []
        if (taught_by := teacher_of(method, teacher)) is not None:
            costs = count_parameters(taught_by), count_macs(taught_by, data.input_shape)
            teachers = [TeacherOutputs(Teacher(taught_by, "0" * 64, "", *costs), view, BATCH, numerics, None)]
        return Training(student, teachers, make_method(method), setup)

    def score(self, network: nn.Module, numerics: Numerics) -> float:
        """Judge a network by its mean IoU on test."""
        return load_score("mean_iou").value(evidence_of(network, self.data.test, self.data.task, numerics))


def teacher_of(method: str, teacher: nn.Module | None) -> nn.Module | None:
    """The teacher, where the method learns from one."""
    return None if make_method(method).teachers == "none" else teacher


def plain_loss(raw: Tensor, taught: Tensor | None, y: Tensor) -> Tensor:
    """CE + Dice of pixels, or 0.1 (CE + Dice) + 0.9 T^2 KL; logits are interpolated to them.

    Args:
        raw: the student's logits (B, C, h, w).
        taught: the teacher's, or None.
        y: masks (B, H, W), void 255.
    """
    n_classes, size = raw.shape[1], (y.shape[1], y.shape[2])
    raw = F.interpolate(raw, size, mode="bilinear")
    shares = F.one_hot(y.long().where(y != 255, n_classes), n_classes + 1)[..., :-1].movedim(3, 1).float()
    counts = shares.sum(dim=1, keepdim=True)
    cross_entropy = -(shares * F.log_softmax(raw, dim=1)).sum() / counts.sum()
    p = F.softmax(raw, dim=1)
    overlap, total = (p * shares).sum(dim=(0, 2, 3)), (p * counts + shares).sum(dim=(0, 2, 3))
    labels = cross_entropy + 1 - (2 * overlap / total).mean()
    if taught is None:
        return labels
    taught = F.interpolate(taught, size, mode="bilinear")
    log_q, wanted = F.log_softmax(raw / TEMPERATURE, dim=1), F.softmax(taught / TEMPERATURE, dim=1)
    each = F.kl_div(log_q, wanted, reduction="none").sum(dim=1, keepdim=True)
    soft: Tensor = (each * counts).sum() / counts.sum()
    return 0.1 * labels + 0.9 * TEMPERATURE**2 * soft


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures and masks, moved together by up to `SHIFT` pixels and mirrored."""

    def __init__(self, data: Data) -> None:
        fill = data.mean.round().view(-1, 1, 1)
        x = data.train.x[:].float() - fill
        self.x = F.pad(x, (SHIFT,) * 4) + fill
        self.y = F.pad(data.train.y, (SHIFT,) * 4, value=255)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        top, left = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
        rows, columns = slice(top, top + SIDE), slice(left, left + SIDE)
        x, y = self.x[index][:, rows, columns], self.y[index][rows, columns]
        return (x.flip(2), y.flip(1)) if torch.rand(()) < 0.5 else (x, y)


def plain_epochs(stage: Stage, student: nn.Module, teacher: nn.Module | None) -> Iterator[None]:
    """Train in a plain loop; each step of the iterator is an epoch."""
    loader = DataLoader(Pictures(stage.data), BATCH, shuffle=True, drop_last=True)
    plan = stage.schedule
    weights = [p for p in student.parameters() if p.dim() > 1], [p for p in student.parameters() if p.dim() <= 1]
    groups = [{"params": weights[0], "weight_decay": plan.weight_decay}, {"params": weights[1], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, plan.learning_rate, plan.momentum, nesterov=True)
    steps = plan.epochs * len(loader)
    warm = max(1, round(plan.warmup * steps))
    parts = [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, 1.0, warm),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warm)),
    ]
    rates = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [warm])
    while True:
        student.train()
        for x, y in loader:
            with torch.no_grad():
                taught = None if teacher is None else teacher(x)
            loss = plain_loss(student(x), taught, y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(student.parameters(), plan.clip_norm)
            optimizer.step()
            rates.step()
        yield


def check_losses(stage: Stage, teacher: nn.Module) -> dict[str, dict[str, float]]:
    """Both losses of the same weights on the same batch, by method.

    Raises:
        InputError: they differ.
    """
    found: dict[str, dict[str, float]] = {}
    x, y, task = stage.data.train.x[:BATCH].float(), stage.data.train.y[:BATCH].clone(), stage.data.task
    y[:, :SHIFT] = 255  # as shifts leave it
    for method in METHODS:
        training = stage.training(stage.net(STUDENT, 0), method, teacher, PLAIN, 0)
        own = teacher_of(method, teacher)
        with torch.no_grad():
            raw, taught = training.student.train()(x), None if own is None else own(x)
        shown = [Outputs(task.decide(each), (), each) for each in (raw, *([] if taught is None else [taught]))]
        batch = Batch(x, y, torch.arange(BATCH), 0.5, task=task)
        ours = float(training.loss(shown[0], shown[1:], batch)[0])
        theirs = float(plain_loss(raw, taught, y))
        if abs(ours - theirs) > SAME * abs(theirs):
            raise InputError(f"{method}: our loss is {ours}, the plain one {theirs}: nothing to compare")
        found[method] = {"ours": ours, "plain": theirs}
    return found


def trained_by_both(stage: Stage, method: str, teacher: nn.Module | None, seed: int) -> dict[str, float]:
    """Scores of the last weights of both sides, 0..1."""
    numerics = Numerics.choose(EngineOptions(), stage.data.input_shape)
    first = stage.net(STUDENT, seed)
    training = stage.training(deepcopy(first), method, teacher, numerics, seed)
    training.run()
    torch.manual_seed(seed)
    plain = plain_epochs(stage, first, teacher_of(method, teacher))
    for _ in range(stage.epochs):
        next(plain)
    return {"ours": stage.score(training.student, numerics), "plain": stage.score(first, PLAIN)}


def times(stage: Stage, method: str, teacher: nn.Module, blocks: int) -> dict[str, Any]:
    """Seconds of an epoch of both by turns, and their ratio."""
    numerics = Numerics.choose(EngineOptions(), stage.data.input_shape)
    long = Stage(stage.data, 1_000)
    training = long.training(long.net(STUDENT, 0), method, teacher, numerics, 0)
    plain = plain_epochs(long, long.net(STUDENT, 0), teacher_of(method, teacher))
    seconds = by_turns({"ours": lambda: training.run(training.epoch + 1), "plain": lambda: next(plain)}, blocks)
    milliseconds = {who: spread(1000 * of / training.steps_per_epoch, 1) for who, of in seconds.items()}
    return {"ms_per_step": milliseconds, "ratio": spread(seconds["ours"] / seconds["plain"], 3)}


def taught_by(stage: Stage) -> tuple[nn.Module, float]:
    """A teacher trained by labels, and its mean IoU on test."""
    numerics = Numerics.choose(EngineOptions(), stage.data.input_shape)
    training = stage.training(stage.net(TEACHER, 1_000), "none", None, numerics, 1_000)
    training.run()
    network, _ = training.deployed(stage.data.val)
    return network.eval().requires_grad_(False), stage.score(network, numerics)


def markdown(result: dict[str, Any]) -> str:
    """The report as Markdown text."""
    rows = []
    for method, found in result["methods"].items():
        ours, plain = ([run[who] for run in found["scores"]] for who in ("ours", "plain"))
        gain = paired_gain(ours, plain, result["test_samples"])
        within = "yes" if gain.low <= 0 <= gain.high else "ours is better" if gain.mean > 0 else "**no**"
        time = found["times"]
        rows.append(
            [
                f"`{method}`",
                *(f"{sum(scores) / len(scores):.1%}" for scores in (ours, plain)),
                f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]",
                within,
                *(in_words(time["ms_per_step"][who], 0) for who in ("ours", "plain")),
                in_words(time["ratio"]),
                "yes" if time["ratio"]["median"] <= CLAIM else "**no**",
            ]
        )
    head = ["method", "ours, mean IoU", "plain", "difference, points", "0 within", "ours, ms a step", "plain", "ratio"]
    facts = result["machine"]
    return (
        f"# {(__doc__ or '').splitlines()[0]}\n\n"
        f"Nuclei at {SIDE} px, {result['epochs']} epochs of batch {BATCH}, {result['seeds']} seeds, paired; teacher "
        f"{result['teacher']['words']}: {result['teacher']['score']:.1%} mean IoU on test; student "
        f"{result['student']['words']}. {facts['cpu']}, {facts['threads']} threads, torch {facts['torch']}. Intervals "
        "of differences: 95 %; of times: median and quartiles of blocks by turns. Losses of both on one batch: "
        f"{result['losses']}.\n\n" + markdown_table([*head, f"<= {CLAIM}"], rows)
    )


def main() -> None:
    """Compare, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("reports/masks_loop"))
    for option, usual in {"seeds": 5, "epochs": 20, "blocks": 9, "threads": 2}.items():
        parser.add_argument(f"--{option}", type=int, default=usual)
    given = parser.parse_args()
    options = DataOptions(source="mask_folder", path=given.data_dir / "nuclei", image_size=SIDE, task="segmentation")
    stage = Stage(data := load_dataset(options, 0), given.epochs)
    space = load_space(SPACE)
    with training_threads(given.threads):
        teacher, score = taught_by(stage)
        result: dict[str, Any] = {
            "machine": machine_facts(given.threads),
            "epochs": given.epochs,
            "seeds": given.seeds,
            "test_samples": len(data.test),
            "teacher": {"words": space.describe(space.size_ladder(5)[TEACHER]), "score": score},
            "student": {"words": space.describe(space.size_ladder(5)[STUDENT])},
            "losses": check_losses(stage, teacher),
            "methods": {},
        }
        for method in METHODS:
            scores = [trained_by_both(stage, method, teacher, seed) for seed in range(given.seeds)]
            result["methods"][method] = {"scores": scores, "times": times(stage, method, teacher, given.blocks)}
            print(method, result["methods"][method], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    write_atomic(given.out / "result.json", json.dumps(result, indent=1) + "\n")
    write_atomic(given.out / "report.md", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
