"""One contestant of `benchmarks/step_throughput.py`: torchdistill, in the environment it was installed into.

Started by that script with the environment's Python, a folder and the number of threads; needs torch, torchvision,
torchdistill and safetensors there. Reads a method's name from standard input and answers with the loss on the common
batch; then trains one block for every empty line.
"""

import importlib
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

from nas_kd.models.blocks import ConvNet, ConvNorm, ResidualBlock

WIDTHS = (16, 32, 64)
STAGES = ["stages.0", "stages.1", "stages.2"]


def network(weights: dict[str, Tensor]) -> nn.Module:
    """The network with these weights; its depth is read from their names."""
    depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("stages.0."))
    stages = [
        [ResidualBlock(c_in if block == 0 else c_out, c_out, 3, stride if block == 0 else 1) for block in range(depth)]
        for (c_in, c_out), stride in zip(pairwise((WIDTHS[0], *WIDTHS)), (1, 2, 2), strict=True)
    ]
    net = ConvNet(ConvNorm(3, WIDTHS[0], 3), stages, None, WIDTHS[-1], len(weights["classifier.bias"]))
    net.load_state_dict(weights)
    return net


def criterion(method: str) -> dict[str, Any]:
    """The loss as torchdistill's configurations spell it."""
    ends = {
        f"{who}_module_{what}": v for who in ("student", "teacher") for what, v in (("path", "."), ("io", "output"))
    }
    if method == "soft_targets":
        options = ends | {"temperature": 4.0, "alpha": 0.1, "reduction": "batchmean"}
        terms = {"kd": {"criterion": {"key": "KDLoss", "kwargs": options}, "weight": 1.0}}
    else:
        pairs = {stage: {who: {"path": stage, "io": "output"} for who in ("student", "teacher")} for stage in STAGES}
        wrapper = {
            "input": {"is_from_teacher": False, "module_path": ".", "io": "output"},
            "target": {"uses_label": True},
        }
        terms = {
            "ce": {
                "criterion": {"key": "CrossEntropyLoss", "kwargs": {"reduction": "mean"}},
                "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": wrapper},
                "weight": 1.0,
            },
            "at": {"criterion": {"key": "ATLoss", "kwargs": {"at_pairs": pairs, "mode": "code"}}, "weight": 1000.0},
        }
    return {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}}


class Images:
    """PIL images behind the transforms of torchdistill's CIFAR configurations."""

    def __init__(self, x: Tensor, y: Tensor, mean: Tensor, std: Tensor) -> None:
        transforms = importlib.import_module("torchvision.transforms")
        image = importlib.import_module("PIL.Image")
        self.images = [image.fromarray(v.permute(1, 2, 0).numpy()) for v in x]
        self.labels = y.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(x.shape[2], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((mean / 255).tolist(), (std / 255).tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """One augmented sample."""
        return self.transform(self.images[index]), self.labels[index]


def trainer(method: str, files: dict[str, dict[str, Tensor]]) -> tuple[float, Callable[[], None]]:
    """The loss on the common batch, and a function that trains one block, as torchdistill's examples do."""
    shared = files["shared"]
    data = Images(shared["x"], shared["y"], shared["mean"], shared["std"])
    hooks = {"forward_proc": "forward_batch_only"}
    if method != "soft_targets":
        hooks |= {"forward_hook": {"input": [], "output": STAGES}}  # type: ignore[dict-item]
    config = {
        "num_epochs": 10_000,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": torch.utils.data.RandomSampler, "kwargs": {}},
            "kwargs": {"batch_size": len(shared["batch"]), "num_workers": 0, "drop_last": True},
        },
        "teacher": {**hooks, "requires_grad": False},
        "student": {**hooks, "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005}},
        "criterion": criterion(method),
    }
    distillation = importlib.import_module("torchdistill.core.distillation")
    teacher, student = network(files["teacher"]), network(files["student"])
    box = distillation.DistillationBox(teacher, student, {"train": data}, config, torch.device("cpu"), None, False, 1)
    box.teacher_model.eval()
    box.student_model.train()
    common = box.forward_process(shared["batch"], shared["batch_y"], {}).item()

    def block() -> None:
        box.student_model.train()
        box.teacher_model.eval()
        box.pre_epoch_process(epoch=0)
        for images, labels, extra in box.train_data_loader:
            box.pre_forward_process()
            loss = box.forward_process(images, labels, extra)
            box.post_forward_process(loss)
            loss.item()
        box.post_epoch_process()

    return common, block


def main() -> None:
    """Serve until standard input ends."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    files = {name: load_file(folder / f"{name}.safetensors") for name in ("teacher", "student", "shared")}
    versions = {m: importlib.import_module(m).__version__ for m in ("torch", "torchvision", "torchdistill")}
    block: Callable[[], None] | None = None
    for line in sys.stdin:
        if name := line.strip():
            loss, block = trainer(name, files)
            print(json.dumps({"loss": loss, "versions": versions}), flush=True)
        elif block is not None:
            block()
            print(json.dumps({}), flush=True)


if __name__ == "__main__":
    main()
