"""What both contestants of `search_cost.py` are given: data, space, epochs, budget, and one trained teacher."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_kd.methods.response.soft_targets import SoftTargets
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import load

TEACHER_SPACE = "resnet"  # its largest network
METHOD = "soft_targets"
LIVE = f"{__name__}:LiveSoftTargets"
MANY = 100_000  # candidates: the search ends by time
CLASSES = 10
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


class LiveSoftTargets(SoftTargets):
    """The same from the live teacher: what is asked of it beside its logits is not kept in the store."""

    name = "live_soft_targets"
    needs = frozenset({"logits", "features"})


@dataclass(frozen=True)
class Case:
    """All that results of one case have in common. `rows`: of the training file; `trials`: of the script.

    Size limits leave room for the 50-70 kB of names and remarks that the default exporter writes into each file: what
    they decide would be decided by those, not by the network.
    """

    name: str
    space: str
    rows: int | None
    epochs: int
    teacher_epochs: int
    batch_size: int
    max_latency_ms: float
    max_size_kb: float
    learning_rate: float = 0.1
    trials: int = 40
    script_threads: int | None = None  # None: torch's default

    def data(self, folder: Path | None) -> dict[str, Any]:
        """The section `[data]`, its paths as text."""
        if folder is None or self.name == "digits":
            return {"source": "digits"}
        files = {split: str(folder.resolve() / f"{self.name}-{split}.parquet") for split in ("train", "test")}
        return {"source": "parquet", **files, **({"train_rows": self.rows} if self.rows else {})}

    def script(self, folder: Path | None, seed: int, teacher: Path) -> dict[str, Any]:
        """The input of `plain_optuna.py` for one seed."""
        given = {"data": self.data(folder), "seed": seed, "teacher": str(teacher), "teacher_space": TEACHER_SPACE}
        return asdict(self) | given

    def config(self, folder: Path | None, seed: int, teacher: Path) -> dict[str, Any]:
        """The config of a search: one method and no assistants, as in the script; one finalist, as none is compared."""
        return {
            "name": self.name,
            "data": self.data(folder),
            "teacher": {"factory": f"{__name__}:{self.name}_teacher", "weights": str(teacher)},
            "space": {"name": self.space},
            "chain": {"max_assistants": 0},
            "distill": {
                "methods": [METHOD],
                "epochs": self.epochs,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "optimizer": "sgd",
                "weight_decay": 5e-4,
            },
            "budget": {"max_latency_ms": self.max_latency_ms, "max_size_kb": self.max_size_kb},
            "search": {"trials": MANY, "seed": seed},
            "finalists": {"max": 1, "seeds": 1, "controls": False},
        }

    def changed(self, **given: Any) -> "Case":
        """The same but for what was given."""
        return replace(self, **{k: v for k, v in given.items() if v is not None})

    def allows(self, size_bytes: float, latency_ms: float) -> bool:
        """Whether costs are within the budget."""
        return size_bytes <= self.max_size_kb * 1000 and latency_ms <= self.max_latency_ms


CASES = {
    c.name: c
    for c in (
        # Two threads on networks so small mostly wait for each other: a competent user sees that and takes one.
        Case("digits", "resnet", None, 30, 30, 64, 0.025, 250, script_threads=1),
        Case("mnist", "mobilenet", 5_000, 8, 12, 64, 0.06, 200),
        Case("cifar10", "resnet", 5_000, 8, 24, 64, 0.15, 250),
    )
}


def digits_teacher() -> nn.Module:
    """The untrained teacher of digits, as the config's `teacher.factory` asks for it."""
    return teacher_network(SHAPES["digits"])


def mnist_teacher() -> nn.Module:
    """The untrained teacher of MNIST."""
    return teacher_network(SHAPES["mnist"])


def cifar10_teacher() -> nn.Module:
    """The untrained teacher of CIFAR-10."""
    return teacher_network(SHAPES["cifar10"])


def teacher_network(shape: tuple[int, ...]) -> nn.Module:
    """The largest network of the teacher's space; the normalisation comes with the weights."""
    space = load("space", TEACHER_SPACE)
    body = space.build(space.size_ladder(2)[-1], shape, CLASSES)
    return Normalized(body, torch.zeros(shape[0]), torch.ones(shape[0]))
