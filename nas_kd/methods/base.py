"""What a distillation method is: named loss terms on what student and teachers show, and the modules they train."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

Need = str  # "logits" | "features" | "embedding" | "indices"


class Outputs(NamedTuple):
    """What a forward pass shows to a method; parts that no method asked for are empty."""

    logits: Tensor  # (B, C)
    features: tuple[Tensor, ...]  # one a stage, (B, c, h, w) or (B, t, d)
    embedding: Tensor  # (B, d), what the classifier reads


class Batch(NamedTuple):
    """One training batch. `indices`: (B,) positions in the training split; `progress`: share of the schedule done."""

    x: Tensor  # (B, ...) float32, augmented, in stored units
    y: Tensor  # (B,) int64
    indices: Tensor
    progress: float


class Method(nn.Module):
    """A method: its parameters are trained with the student's and never reach the exported file.

    total loss = `ce_weight` * CE + `strength` * sum of `forward`'s terms (each at its published weight).
    """

    name: ClassVar[str]
    source: ClassVar[str]  # author year, arXiv id
    summary: ClassVar[str]  # one line for `nas-kd list methods`
    needs: frozenset[Need] = frozenset({"logits"})  # of student and teachers
    tunable: tuple[str, ...] = ("strength",)  # which of "temperature", "strength" change this method
    ce_weight: float = 1.0
    default_temperature: ClassVar[float] = 4.0

    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        super().__init__()
        self.temperature = self.default_temperature if temperature is None else temperature
        self.strength = strength

    def attach(self, student: Outputs, teachers: Sequence[Outputs]) -> None:
        """Create adapters and the like from the shapes of an example's outputs; called once, before training."""

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, scalars, at their published weights; teachers' outputs carry no gradient."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def detach(self, student: nn.Module) -> nn.Module:
        """The network to deploy (an online method may pick one of its peers)."""
        return student
