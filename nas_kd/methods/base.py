"""What a distillation method is: named loss terms on what student and teachers show, and the modules they train."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

# What a method looks at. Of student and teachers: logits, features, embedding. "indices": which sample of the training
# split is which; "network": the teacher itself, to send gradients through it; "pairs": another view for the teacher.
Need = Literal["logits", "features", "embedding", "indices", "network", "pairs"]


class Outputs(NamedTuple):
    """What a forward pass shows to a method; parts that no method asked for are empty."""

    logits: Tensor  # (B, C)
    features: tuple[Tensor, ...]  # one a stage, (B, c, h, w) or (B, t, d)
    embedding: Tensor  # (B, d), what the classifier reads


class Batch(NamedTuple):
    """One training batch. `indices`: (B,) positions in the training split, empty if the samples are made up.

    `progress`: share of the schedule done, 0..1.
    """

    x: Tensor  # (B, ...) float32, augmented, in stored units
    y: Tensor  # (B,) int64
    indices: Tensor
    progress: float


Network = Callable[[Tensor], Outputs]


@dataclass(frozen=True)
class MethodContext:
    """What a method may build on: given once, before training. Outputs are those of an example of two samples.

    `rebuild`: the student's architecture with other initial weights, by number. `observe`: runs a network as the
    student is run (number format, memory layout) and shows what the method needs. `branch`: the student's layers behind
    its last stage but one, with other initial weights, by number: that stage's features, number `branch_stage` of the
    student's, -> logits.
    """

    student: nn.Module
    student_outputs: Outputs
    teachers: tuple[nn.Module, ...]
    teacher_outputs: tuple[Outputs, ...]
    rebuild: Callable[[int], nn.Module]
    observe: Callable[[nn.Module, Tensor], Network]  # the network, an example of its input
    branch: Callable[[int], nn.Module]
    branch_stage: int
    example: Tensor  # (2, ...) what the networks take, in stored units; no training sample
    n_samples: int  # of the training split
    n_classes: int
    mean: Tensor  # (C,) of the training split, in stored units; (1,) where samples are no images
    std: Tensor


class Method(nn.Module):
    """A method: its parameters are trained with the student's and never reach the exported file.

    total loss = `ce_weight` * CE + `strength` * `scale` * sum of `forward`'s terms (each at its published weight).
    `scale` is 1, or what calibration makes of it: then the terms' gradient on the student, at strength 1, is `balance`
    times that of CE on the first batches. Of terms on features a fifth to a twentieth of that ratio is left after three
    epochs, of those on logits all (ResNet-20 -> ResNet-8, CIFAR-10): features of untrained networks answer to anything.
    """

    name: ClassVar[str]
    source: ClassVar[str]  # author year, arXiv id
    summary: ClassVar[str]  # one line for `nas-kd list methods`
    needs: frozenset[Need] = frozenset({"logits"})
    teachers: Literal["none", "one", "several"] = "one"
    tunable: tuple[str, ...] = ("strength",)  # which of "temperature", "strength" change this method
    ce_weight: float = 1.0
    target_grad_ratio: float | None = 1.0  # None: the published weights mean the same everywhere
    unscaled_terms: frozenset[str] = frozenset()  # terms that `strength` does not scale: peers' labels, discriminators
    networks: float = 1.0  # how many networks like the student are trained, the student included
    generations: int = 0  # how often the student's architecture is trained before, each from the one before
    default_temperature: ClassVar[float] = 4.0
    scale: Tensor

    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        super().__init__()
        self.temperature = self.default_temperature if temperature is None else temperature
        self.strength = strength
        self.register_buffer("scale", torch.ones(()))

    def attach(self, context: MethodContext) -> None:
        """Create adapters, peers, discriminators and the like; called once, before training.

        Raises:
            InputError: these networks cannot be paired.
        """

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, scalars, at their published weights; teachers' outputs carry no gradient."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """The order in which an epoch shows the samples: a permutation of 0..N-1; `labels`: (N,)."""
        return torch.randperm(len(labels), generator=generator)

    def draw(self, real: Callable[[], Batch]) -> Batch:
        """The batch to learn from; a data-free method makes one up and never calls `real`."""
        return real()

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Optimisers that the method steps by itself, so that checkpoints carry them; not those of `parameters()`."""
        return {}

    def trained(self) -> list[nn.Parameter]:
        """The parameters that are trained with the student's: all that no optimiser of the method's own holds."""
        own = {id(p) for o in self.optimizers().values() for group in o.param_groups for p in group["params"]}
        return [p for p in self.parameters() if id(p) not in own]

    def peers(self) -> Sequence[nn.Module]:
        """Networks of the student's architecture that may be deployed in its place, if better on validation."""
        return ()

    @property
    def chainable(self) -> bool:
        """Whether an assistant can stand in the teacher's place."""
        return self.teachers == "one" and not self.generations and "network" not in self.needs

    def parts(self) -> Sequence["Method"]:
        """The methods whose terms are calibrated apart."""
        return (self,)
