"""The interface of tasks: what data ask of a network. A file in this folder adds one.

A task reads the targets of samples, turns what a network returns into decisions that distillation methods work on, and
says how networks are taught by labels, how they are judged, and how their files are compared.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from nas_kd.config.data_options import DataOptions
from nas_kd.errors import InputError
from nas_kd.plugins import load
from nas_kd.tasks.decisions import MixedLabels, TaskDecisions
from nas_kd.tasks.judging import Array, Differences, TaskJudging
from nas_kd.tasks.moving import MovingTargets

__all__ = ["Array", "DecisionKind", "Differences", "MixedLabels", "Targets", "Task", "load_task"]

# What a network decides about a sample, which methods that read logits are made for: "sample": one of C classes;
# "rows": several times one of C classes, such as one for each label or pixel; "values": real numbers; "vectors": one
# vector, of which only its angles to others matter.
DecisionKind = Literal["sample", "rows", "values", "vectors"]


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


@dataclass(frozen=True)
class Task(TaskDecisions, TaskJudging):
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
        stratum: what keeps its share when splits are carved, as `strata` numbers it; "": nothing.
        together: what `kept_together` keeps together, such as "identity"; "": nothing.
        least_groups: of what is kept together, in every split that is carved.
        output: name of the output of exported files.
        heads: names of the heads that make networks of search spaces return what the task asks for, the usual one
            first (`nas_kd.models.heads`); none: a classifier's last layer does.
        uses: the fields of `DataOptions` that `configured` reads, which are for tasks that name them alone.
        any_width: whether a teacher may return more or fewer numbers a sample than its students.

    Examples:
        >>> import numpy as np, torch
        >>> from nas_kd.tasks.base import load_task
        >>> regression = load_task("regression").read_targets({"train": np.array([1.0, 3.0])}, None).task
        >>> regression.decide(torch.tensor([[2.0], [4.0]])).flatten().tolist()  # in deviations from the mean
        [0.0, 2.0]
    """

    title: ClassVar[str]
    summary: ClassVar[str]
    decisions: ClassVar[DecisionKind]
    one_class: ClassVar[bool] = False
    default_methods: ClassVar[tuple[str, ...]]
    stratum: ClassVar[str] = ""
    together: ClassVar[str] = ""
    least_groups: ClassVar[int] = 1
    output: ClassVar[str] = "logits"
    heads: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[frozenset[str]] = frozenset()
    any_width: ClassVar[bool] = False

    def configured(self, options: DataOptions) -> "Task":
        """The task as the config asks for it, before targets are read.

        Args:
            options: the `[data]` section.
        """
        return self

    @property
    def key_facts(self) -> dict[str, Any]:
        """What keys of data have to have of the task, as JSON, beside targets and names of outputs."""
        return {}

    @abstractmethod
    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Check targets and bring them into one form.

        Args:
            ys: as the source gave them, by split.
            names: of classes or outputs, if the source knows them.

        Raises:
            InputError: they are not what this task learns.
        """

    def strata(self, y: Array) -> NDArray[np.int64]:
        """Number the groups of samples (N,) whose shares are kept when splits are carved; by default all are in one.

        Args:
            y: checked targets of the training samples.
        """
        return np.zeros(len(y), dtype=np.int64)

    def kept_together(self, y: Array) -> NDArray[np.int64] | None:
        """Number the groups of samples (N,) that must not be in two splits; None: any two may be.

        Args:
            y: checked targets of a split; a group has one number in all splits.
        """
        return None

    def check_split(self, y: Array, split: str) -> None:
        """Refuse a split that nothing could be judged on, or learned from.

        Args:
            y: (N, ...) checked targets of its samples.
            split: its name, for messages.

        Raises:
            InputError: says why.
        """
        if not len(y):
            raise InputError(f"{split} has no samples")

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

    def order(self, y: Tensor, generator: Generator) -> Tensor:
        """Choose the order of the samples in an epoch, unless the method does; random.

        Args:
            y: (N, ...) targets of the training samples.
            generator: the source of randomness, seeded per epoch.

        Returns:
            (N,) int64, a permutation of 0..N-1.
        """
        return torch.randperm(len(y), generator=generator)

    @property
    def output_scale(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation (k,) of what networks have to return; None: it has no unit."""
        return None


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
