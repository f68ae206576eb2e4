"""What a task makes of a network's outputs while it is trained: decisions, their targets, and how far they are off."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.tasks.divergence import kl_divergence


class MixedLabels(NamedTuple):
    """Targets of what L samples are mixed with.

    Attributes:
        y: (L, ...) of the other samples.
        share: (L,) float32, what is left of the samples themselves, 1/2..1.
    """

    y: Tensor
    share: Tensor


class TaskDecisions(ABC):
    """The part of a task that networks are trained by; see `nas_kd.tasks.base.Task`."""

    @abstractmethod
    def targets(self, y: Tensor) -> Tensor:
        """What is to be decided, in the order of the rows of `decide`: class numbers (P,), or values (B, k).

        Args:
            y: (B, ...) targets of samples.
        """

    @abstractmethod
    def decide(self, raw: Tensor) -> Tensor:
        """Turn a network's outputs into rows of logits (P, C), or into values (B, k) in units of their deviation.

        Args:
            raw: (B, ...) as the network returns it. Gradients reach it.
        """

    def raw_shape(self, n_outputs: int) -> tuple[int | None, ...]:
        """Shape of what a network returns for one sample; None: a side of any length.

        Args:
            n_outputs: number of classes, or of other outputs.
        """
        return (n_outputs,)

    def row_counts(self, y: Tensor, taught: Sequence[Tensor]) -> Tensor | None:
        """How much each row counts where a student is compared with teachers, (P,) 0..1; None: all alike.

        A row of 0 counts nowhere, in the label loss neither: padding, or void pixels. Methods do not see it.

        Args:
            y: (B, ...) targets of samples.
            taught: (P, C) decisions of each teacher.
        """
        return None

    def embedding_of(self, raw: Tensor, before: Tensor) -> Tensor:
        """What methods see as the embedding of samples, (B, d).

        Args:
            raw: (B, ...) as the network returns it.
            before: (B, e) the input of its last linear layer; (B, 0) where no method needs it.
        """
        return before

    def finished(self, network: nn.Module, n_outputs: int, *, own_units: bool) -> nn.Module:
        """Put behind a network of a search space what its outputs need to be those of the task.

        Args:
            network: (B, ...) -> (B, n_outputs).
            n_outputs: of the network.
            own_units: whether it is made of a user's network, whose outputs are in the right units already.
        """
        return network

    def label_loss(self, decided: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """Cross-entropy of decisions, sum_i w_(y_i) CE_i / sum_i w_(y_i), as torch.nn.CrossEntropyLoss has it.

        Of a sample i with share s_i that is mixed with one of class z_i, both labels count, as soft targets:

          sum_i (s_i w_(y_i) CE_i(y_i) + (1 - s_i) w_(z_i) CE_i(z_i)) / sum_i (s_i w_(y_i) + (1 - s_i) w_(z_i)).

        Args:
            decided: (P, C), what `decide` gave for L samples.
            y: (L, ...) their targets.
            weights: (C,) of the classes; None: all count alike.
            mixed: targets of what the samples are mixed with; None: they are not mixed.
        """
        own = self.targets(y)
        if mixed is None:
            return F.cross_entropy(decided, own, weight=weights)
        other = self.targets(mixed.y)
        first, second = (F.cross_entropy(decided, t, weight=weights, reduction="none") for t in (own, other))
        share = self.per_row(mixed.share, own)
        return (share * first + (1 - share) * second).sum() / self.row_weights(y, weights, mixed).sum()

    def divergence(self, decided: Tensor, wanted: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
        """How far a network's decisions are from a teacher's, where no method says: soft targets' divergence.

        Args:
            decided: (P, C) of the network.
            wanted: (P, C) of the teacher. Gradients reach both.
            temperature: T > 0.
            weights: (P,) how much each row counts; None: all alike.
        """
        return kl_divergence(decided, wanted, temperature, weights)

    def summed_loss(self, decided: Tensor, y: Tensor) -> Tensor:
        """The label loss, unweighted and summed over samples; see `label_loss` for the arguments."""
        own = self.targets(y)
        return F.cross_entropy(decided, own, reduction="sum") / (len(own) // len(y))

    def row_weights(self, y: Tensor, weights: Tensor | None, mixed: MixedLabels | None) -> Tensor:
        """What each row counts in the label loss, (P,); see `label_loss` for the arguments."""
        own = self.targets(y)
        if weights is None:
            return torch.ones(len(own), device=y.device)
        if mixed is None:
            return weights[own]
        share = self.per_row(mixed.share, own)
        return share * weights[own] + (1 - share) * weights[self.targets(mixed.y)]

    @staticmethod
    def per_row(of_sample: Tensor, rows: Tensor) -> Tensor:
        """Repeat a figure of each sample (L,) for each of its rows (P,)."""
        each = len(rows) // max(1, len(of_sample))
        return of_sample if each == 1 else of_sample.repeat_interleave(each)
