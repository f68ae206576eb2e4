"""The interface of tasks: what data ask of a network. A file in this folder adds one.

A task reads the targets of samples, turns what a network returns into decisions that distillation methods work on, and
says how networks are taught by labels, how they are judged, and how their files are compared.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.plugins import load
from nas_kd.results.finalist_record import PictureRecord
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.base import Evidence, Score, load_score
from nas_kd.tasks.divergence import kl_divergence
from nas_kd.tasks.moving import MovingTargets

Array = NDArray[Any]
# What a network decides about a sample, which methods that read logits are made for: "sample": one of C classes;
# "rows": several times one of C classes, such as one for each label or pixel; "values": real numbers.
DecisionKind = Literal["sample", "rows", "values"]


class Targets(NamedTuple):
    """Targets of all splits, checked.

    Attributes:
        values: by split, (N, ...) each; what `Split.y` holds.
        names: of the classes, or of the network's other outputs, in their order.
        task: the task as these data have it.
        encoding: how targets were converted, where it needs to be said.
    """

    values: dict[str, Array]
    names: tuple[str, ...]
    task: "Task"
    encoding: str | None = None


class MixedLabels(NamedTuple):
    """Targets of what L samples are mixed with.

    Attributes:
        y: (L, ...) of the other samples.
        share: (L,) float32, what is left of the samples themselves, 1/2..1.
    """

    y: Tensor
    share: Tensor


class Differences(NamedTuple):
    """Samples about which two networks decide differently.

    Attributes:
        rows: (D,) int64 positions of these samples.
        gaps: (D,) how far the first network's outputs are from deciding like the second's, in units of its outputs.
    """

    rows: NDArray[np.int64]
    gaps: NDArray[np.float32]


@dataclass(frozen=True)
class Task(ABC):
    """A task plug-in; instances hold what a task knows of the data.

    Attributes:
        name: in configs (`data.task`).
        title: in sentences.
        summary: one line for `nas-kd list tasks`.
        headline: the score that decides unless `data.score` names another, and the one that comes first everywhere.
        scored_as: the built-in task whose scores judge it, too; "": it has scores of its own.
        knowledge: the score by which a teacher has to be better than guessing.
        decisions: what a network decides about a sample.
        one_class: whether every sample has one class, so that classes can be counted and weighted, a teacher may know
            other ones, and probabilities are those of a softmax.
        default_methods: what a search chooses from unless `distill.methods` says.
        stratum: what keeps its share when splits are carved.
        output: name of the output of exported files.
        heads: names of the heads that make networks of search spaces return what the task asks for, the usual one
            first (`nas_kd.models.heads`); none: a classifier's last layer does.

    Example:
        >>> import numpy as np, torch
        >>> from nas_kd.tasks.base import load_task
        >>> regression = load_task("regression").read_targets({"train": np.array([1.0, 3.0])}, None).task
        >>> regression.decide(torch.tensor([[2.0], [4.0]])).flatten().tolist()  # in deviations from the mean
        [0.0, 2.0]
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    headline: ClassVar[str]
    scored_as: ClassVar[str] = ""
    knowledge: ClassVar[str]
    decisions: ClassVar[DecisionKind]
    one_class: ClassVar[bool] = False
    default_methods: ClassVar[tuple[str, ...]]
    stratum: ClassVar[str]
    output: ClassVar[str] = "logits"
    heads: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Check targets and bring them into one form.

        Args:
            ys: as the source gave them, by split.
            names: of classes or outputs, if the source knows them.

        Raises:
            InputError: they are not what this task learns.
        """

    @abstractmethod
    def strata(self, y: Array) -> NDArray[np.int64]:
        """Number the groups of samples (N,) whose shares are kept when splits are carved.

        Args:
            y: checked targets of the training samples.
        """

    def check_carving(self, y: Array, names: tuple[str, ...], carved: tuple[str, ...]) -> None:
        """Refuse training samples that are too few to carve splits from; each group may ask for more.

        Args:
            y: checked targets of the training samples.
            names: of classes or outputs.
            carved: names of the splits to carve.

        Raises:
            InputError: says what is too few.
        """
        if len(y) < (least := max(2, 1 + len(carved))):
            raise InputError(f"train has {len(y)} samples, want {least} at least")

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

    @property
    def moving(self) -> MovingTargets | None:
        """How its targets move with pictures that are augmented; None: they stay as they are."""
        return None

    def fitted(self, targets: Targets, shape: tuple[int, ...]) -> Targets:
        """Fit checked targets to their samples.

        Args:
            targets: what `read_targets` returned.
            shape: of one sample, such as (3, 32, 32).

        Raises:
            InputError: they are not for samples of this shape.
        """
        return targets

    def raw_shape(self, n_outputs: int) -> tuple[int | None, ...]:
        """Shape of what a network returns for one sample; None: a side of any length.

        Args:
            n_outputs: number of classes, or of other outputs.
        """
        return (n_outputs,)

    def in_order(self, outputs: NDArray[np.float32], order: Sequence[int]) -> NDArray[np.float32]:
        """Bring outputs (N, ...) into another order of classes.

        Args:
            outputs: as a network returns them.
            order: for each class, its number among those of the network.
        """
        return outputs[:, list(order)]

    def row_counts(self, y: Tensor, taught: Sequence[Tensor]) -> Tensor | None:
        """How much each row counts where a student is compared with teachers, (P,) 0..1; None: all alike.

        A row of 0 counts nowhere, in the label loss neither: padding, or void pixels. Methods do not see it.

        Args:
            y: (B, ...) targets of samples.
            taught: (P, C) decisions of each teacher.
        """
        return None

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

    @abstractmethod
    def evidence(self, outputs: NDArray[np.float32], y: Array) -> Evidence:
        """What a network did with the samples of a split.

        Args:
            outputs: (N, ...) as the network, or its file, returns them.
            y: (N, ...) targets.
        """

    def fault_of_outputs(self, outputs: NDArray[np.float32]) -> str:
        """What is wrong with outputs of a user's network that are clearly not what the task works with; else "".

        Args:
            outputs: (N, ...) for some samples.
        """
        return ""

    def details(self, tested: Sequence[Evidence], deployed: Evidence) -> dict[str, Any]:
        """Further facts for the record of a network that was judged on test, by field.

        Args:
            tested: evidence of each seed.
            deployed: that of the network that is deployed.
        """
        return {}

    def pictures(
        self, x: NDArray[np.float32], y: Array, outputs: NDArray[np.float32], names: Sequence[str]
    ) -> tuple[PictureRecord, ...]:
        """Draw what a network says of a few test samples, for the report; none unless a task does.

        Args:
            x: (N, ...) samples in stored units.
            y: (N, ...) their targets.
            outputs: (N, ...) of the network.
            names: of classes or outputs.
        """
        return ()

    @abstractmethod
    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """Find the samples about which two networks decide differently.

        Args:
            ours: (N, ...) outputs of one.
            theirs: of the other, on the same samples.
        """

    @abstractmethod
    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """What cards of exported networks say of their output.

        Args:
            names: of classes or outputs.
        """

    def class_counts(self, y: Array, n_outputs: int) -> tuple[int, ...]:
        """Samples by class; empty where samples have no single class."""
        return ()

    @property
    def output_scale(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation (k,) of what search spaces' networks have to return; None: no matter."""
        return None

    def score(self, name: str | None) -> Score:
        """The score that decides.

        Args:
            name: `data.score`; None: the task's own.

        Raises:
            InputError: there is none of this name for this task.
        """
        return load_score(name or self.headline, self.scored_as or self.name)

    @property
    def headline_score(self) -> Score:
        """The score that comes first everywhere."""
        return load_score(self.headline)

    @property
    def knowledge_score(self) -> Score:
        """The score by which a teacher has to be better than guessing."""
        return load_score(self.knowledge)

    def first_score(self, evidence: Evidence) -> float:
        """A network's headline score, 0..1."""
        return self.headline_score.value(evidence)


def load_task(given: Any) -> Task:
    """Find a task by name; a class is instantiated.

    Args:
        given: a name in the registry, `package.module:Name`, or the task itself.

    Raises:
        InputError: there is none of this name, or it is no task.
    """
    found = load("task", given)
    if isinstance(found, type) and issubclass(found, Task):
        found = found()
    return load("task", found, Task)  # type: ignore[type-abstract]
