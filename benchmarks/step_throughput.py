"""Images a second while distilling: ours against the loops that people use today.

    python benchmarks/step_throughput.py [--out reports/step_throughput] [--pairs survey,small] [--threads 1,2]
        [--methods a,b] [--blocks 9] [--steps 4] [--torchdistill PYTHON]

Contestants take turns block by block on the same networks, batch size and threads: ours (bf16 where this CPU has it,
channels last, the teacher's logits from the cache where they are all that a method needs), the loop of
`benchmarks/usual_loop.py` (fp32, NCHW, live teacher), and torchdistill, if PYTHON is that of an environment that has it
with torchvision (a process of its own, which rests while the others run). First the losses are checked: same weights,
same batch, fp32, equal to 1e-4. `cache warm`: the logits are there, as for every student of a search but the first;
`cache filled`: they are computed within the block. Ratios are taken block by block: median and quartiles.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.common import by_turns, in_words, machine_facts, markdown_table, net_words, residual_net, spread
from benchmarks.usual_loop import CRITERIA, Criterion, FitNet, Images, epochs_of, with_features
from nas_kd.config.options import Augmentation, EngineOptions
from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.feature_extractor import FeatureExtractor, find_feature_points
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs, can_use_cache
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.base import Batch
from nas_kd.methods.combine import make_method
from nas_kd.serialization import write_atomic

BATCH, CLASSES = 128, 10
SHAPE = (3, 32, 32)
PAIRS = {"survey": (9, 3), "small": (3, 1)}  # blocks a stage of teacher and student
METHODS = ("soft_targets", "similarity", "attention_transfer", "fitnet", "rkd")
# Its `similarity` has rows of unit L1 norm and its `rkd` takes maps, not embeddings: other losses, not compared.
IN_TORCHDISTILL = ("soft_targets", "attention_transfer")
CLAIMS = {"soft_targets": 5.0}
CLAIM = 1.8  # of all others
SAME = 1e-4
FP32 = Numerics(bf16=False, channels_last=False)
Run = Callable[[], None]


@dataclass(frozen=True)
class Stage:
    """Made-up images, and the two networks that all contestants start from."""

    blocks: tuple[int, int]
    steps: int
    x: Tensor
    y: Tensor
    mean: Tensor
    std: Tensor

    @staticmethod
    def of(pair: str, steps: int) -> "Stage":
        """Make a stage that trains on `steps` batches of noise."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(0, 256, (BATCH * steps, *SHAPE), generator=generator, dtype=torch.uint8)
        y = torch.randint(0, CLASSES, (len(x),), generator=generator)
        values = x.double().transpose(0, 1).flatten(1)
        return Stage(PAIRS[pair], steps, x, y, values.mean(dim=1).float(), values.std(dim=1).float())

    def net(self, which: int) -> Any:
        """A new copy of the teacher (0) or the student (1)."""
        net = residual_net(self.blocks[which], which, n_classes=CLASSES, mean=self.mean, std=self.std)
        return net.eval() if which == 0 else net

    @property
    def normalised(self) -> Tensor:
        """All images as the networks see them behind the normalisation."""
        return (self.x.float() - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def training(self, method: str, numerics: Numerics, filled: int) -> tuple[Training, TeacherOutputs]:
        """Ours, with published weights; the teacher's logits of the first `filled` epochs are there."""
        augmenter = Augmenter(self.x, self.mean, Augmentation(crop=4, flip=True, cutout=0), seed=0)
        teacher = TeacherOutputs(Teacher(self.net(0), "0" * 64, "", 0, 0), augmenter, BATCH, numerics, None)
        for epoch in range(filled):
            teacher.cached(epoch, torch.arange(1))
        schedule = Schedule(10_000, BATCH, 0.01, 0.9, 5e-4, 0.1, 0.1, 5.0)
        facts = DatasetInfo(len(self.x), CLASSES, self.mean, self.std)
        setup = TrainingSetup(ArrayBatches(augmenter, self.y), facts, schedule, numerics, seed=0, calibrated=False)
        return Training(self.net(1), [teacher], make_method(method), setup, lambda _: self.net(1)), teacher


def criterion_of(method: str, training: Training) -> Criterion:
    """The usual loss; a trained adapter starts from the same weights as ours."""
    if method != "fitnet":
        return CRITERIA[method]
    ours = list(training.method.parameters())
    usual = FitNet(ours[0].shape[1], ours[0].shape[0])
    for target, value in zip(usual.parameters(), ours, strict=True):
        target.data.copy_(value.data)
    return usual


def losses_on(stage: Stage, method: str) -> dict[str, float]:
    """Both losses for the same weights and the same batch, in fp32."""
    training, teacher = stage.training(method, FP32, 0)
    x, y = stage.x[:BATCH].float(), stage.y[:BATCH]
    points = find_feature_points(training.student, x[:2])
    with FeatureExtractor(training.student.train(), points, training.method.needs) as student:
        with teacher.extractor(training.method.needs) as extractor:
            taught = teacher.live(extractor, x)
        training.method.train()
        ours, _ = training.loss(student(x), [taught], Batch(x, y, torch.arange(BATCH), 0.5))
    net, own = stage.net(1).train(), stage.net(0)
    normalised = stage.normalised[:BATCH]
    with torch.no_grad():
        shown = with_features(own.body, normalised)
    usual = criterion_of(method, training)(with_features(net.body, normalised), shown, y)
    return {"ours": ours.item(), "usual": usual.item()}


class Visitor:
    """torchdistill in its own process."""

    def __init__(self, python: str, folder: Path, threads: int) -> None:
        command = [python, str(Path(__file__).with_name("torchdistill_loop.py")), str(folder), str(threads)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def ask(self, line: str) -> dict[str, Any]:
        """One line to it, and its answer."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("no pipe")
        print(line, file=self._process.stdin, flush=True)
        while answer := self._process.stdout.readline():
            if answer.startswith("{"):  # it prints summaries of its own as well
                return dict(json.loads(answer))
        raise RuntimeError(
            f"torchdistill ended (exit status {self._process.wait()}); run its script by hand to see why"
        )

    def close(self) -> None:
        """End the process and collect its output."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def visiting(python: str | None, stage: Stage, threads: int) -> Iterator[Visitor | None]:
    """torchdistill, if its Python was given, with the same weights and images."""
    if python is None:
        yield None
        return
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, name in enumerate(("teacher", "student")):
            body = stage.net(number).body.state_dict()
            save_file({k: v.contiguous() for k, v in body.items()}, folder / f"{name}.safetensors")
        shared = {"x": stage.x, "y": stage.y, "mean": stage.mean, "std": stage.std}
        shared |= {"batch": stage.normalised[:BATCH].clone(), "batch_y": stage.y[:BATCH].clone()}
        save_file(shared, folder / "shared.safetensors")
        visitor = Visitor(python, folder, threads)
        try:
            yield visitor
        finally:
            visitor.close()


def contestants(stage: Stage, method: str, blocks: int) -> dict[str, Run]:
    """Functions that each train for `stage.steps` steps."""
    numerics = Numerics.choose(EngineOptions(), SHAPE)
    reference, _ = stage.training(method, FP32, 0)
    student, teacher = stage.net(1).body, stage.net(0).body
    usual = epochs_of(student, teacher, criterion_of(method, reference), Images(stage.normalised, stage.y), BATCH)

    def ours(numerics: Numerics, filled: int) -> Run:
        training, _ = stage.training(method, numerics, filled)
        return lambda: training.run(training.epoch + 1)

    runs: dict[str, Run] = {"usual": lambda: void(next(usual))}
    if not can_use_cache(make_method(method).needs):
        return runs | {"ours": ours(numerics, 0)}
    runs |= {"ours, cache warm": ours(numerics, blocks + 1), "ours, cache filled": ours(numerics, 0)}
    return (
        runs | {"ours in fp32, cache warm": ours(replace(numerics, bf16=False), blocks + 1)} if numerics.bf16 else runs
    )


def void(_value: object) -> None:
    """Do nothing with the value given."""


def measure(stage: Stage, method: str, blocks: int, visitor: Visitor | None) -> dict[str, Any]:
    """Check the losses, then time the contestants."""
    losses = losses_on(stage, method)
    runs = contestants(stage, method, blocks)
    versions: dict[str, str] = {}
    if visitor is not None and method in IN_TORCHDISTILL:
        answer = visitor.ask(method)
        losses["torchdistill"], versions = answer["loss"], answer["versions"]
        runs["torchdistill"] = lambda: void(visitor.ask(""))
    for who, loss in losses.items():
        if abs(loss - losses["ours"]) > SAME * abs(losses["ours"]):
            raise RuntimeError(f"{method}: the loss of {who} is {loss}, ours {losses['ours']}: nothing to compare")
    seconds = by_turns(runs, blocks)
    images = {who: spread(stage.steps * BATCH / s, 1) for who, s in seconds.items()}
    rivals = [who for who in ("usual", "torchdistill") if who in seconds]
    ratios = {
        f"{who} / {rival}": spread(seconds[rival] / seconds[who], 3)
        for who in seconds
        if who.startswith("ours")
        for rival in rivals
    }
    return {"losses": losses, "images_per_s": images, "ratios": ratios, "versions": versions}


def markdown(results: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The report as Markdown text."""
    rows = []
    for result in results:
        for name, ratio in result["ratios"].items():
            who, rival = name.split(" / ")
            images = result["images_per_s"]
            claim = CLAIMS.get(result["method"], CLAIM)
            met = "" if who not in ("ours", "ours, cache warm") else "met" if ratio["median"] >= claim else "missed"
            head = [result["pair"], str(result["threads"]), f"`{result['method']}`", who, rival]
            figures = [f"{images[who]['median']:.0f}", f"{images[rival]['median']:.0f}", in_words(ratio)]
            rows.append([*head, *figures, f">= {claim} {met}" if met else ""])
    head = ["pair", "threads", "method", "ours", "against", "images/s", "theirs", "ratio [quartiles]", "claim"]
    said = f"{facts['cpu']}, {facts['cores']} cores, torch {facts['torch']}; load before: {facts['load_1m']}."
    pairs = "; ".join(f"`{p}`: {' -> '.join(net_words(b) for b in blocks)}" for p, blocks in PAIRS.items())
    versions = next((r["versions"] for r in results if r["versions"]), None)
    visitor = "torchdistill was not measured." if versions is None else f"torchdistill's environment: {versions}."
    text = f"# Training throughput while distilling, batch {BATCH}, 3x32x32\n\n{said} {pairs}. {visitor}\n\n"
    return text + markdown_table(head, rows)


def main() -> None:
    """Measure the throughput, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("reports/step_throughput"))
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4, help="of a block")
    parser.add_argument("--torchdistill", metavar="PYTHON", help="of an environment with torchdistill and torchvision")
    given = parser.parse_args()
    facts, results = machine_facts(0), []
    for pair in given.pairs.split(","):
        stage = Stage.of(pair, given.steps)
        for threads in map(int, given.threads.split(",")):
            with training_threads(threads), visiting(given.torchdistill, stage, threads) as visitor:
                for method in given.methods.split(","):
                    figures = measure(stage, method, given.blocks, visitor)
                    results.append({"pair": pair, "threads": threads, "method": method, **figures})
                    for name, ratio in figures["ratios"].items():
                        print(f"{pair:7} {threads} thread(s)  {method:20} {name:40} x{in_words(ratio)}", flush=True)
    settings = {"batch": BATCH, "steps": given.steps, "blocks": given.blocks}
    write_atomic(
        given.out / "result.json", json.dumps({**settings, "machine": facts, "results": results}, indent=1) + "\n"
    )
    write_atomic(given.out / "report.md", markdown(results, facts))


if __name__ == "__main__":
    main()
