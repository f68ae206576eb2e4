"""Data and targets as a user passes them to `distill`: opened, and what the task makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nas_kd.commands.module_checks import as_section, name_of_method
from nas_kd.config.options import Augmentation
from nas_kd.engine.evaluation import evidence_on
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.target_readers import ClassNumbers, TargetReader, TargetValues
from nas_kd.engine.user_data import ArrayData, UserData, open_data
from nas_kd.errors import InputError
from nas_kd.kd.class_weights import weights_of_classes
from nas_kd.methods.base import Method
from nas_kd.tasks.base import Array, Targets, Task, load_task


@dataclass(frozen=True)
class ModuleTask:
    """What a student is to do, as far as that is known.

    Attributes:
        task: with what it knows of the targets, once these were read.
        read: checks and converts targets.
        width: number of classes, or of other outputs; None: as many classes as the student gives.
    """

    task: Task
    read: TargetReader
    width: int | None = None

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of what a network returns for one sample; None: a side of any length."""
        return (None,) if self.width is None or self.task.any_width else self.task.raw_shape(self.width)

    @staticmethod
    def of(given: Any) -> "ModuleTask":
        """Find the task.

        Args:
            given: a name, `package.module:Name`, or the task itself.

        Raises:
            InputError: there is none of this name.
        """
        task = load_task(given)
        return ModuleTask(task, ClassNumbers() if task.one_class else TargetValues())

    def check(self, method: Method, asked: Mapping[str, bool]) -> None:
        """Refuse a method that is not made for the task, and options that make sense for one class a sample only.

        Args:
            method: that the student is to learn by.
            asked: whether these options were given, by their names.

        Raises:
            InputError: says which.
        """
        if not method.suits(self.task.decisions):
            raise InputError(f"method {name_of_method(method)!r} is not made for {self.task.title}")
        wrong = [option for option, given in asked.items() if given]
        if wrong and not self.task.one_class:
            raise InputError(f"{wrong[0]} is for one class a sample, and the task is {self.task.title}: leave it out")

    @property
    def orders_samples(self) -> bool:
        """Whether the order of samples depends on their targets."""
        return type(self.task).order is not Task.order

    def knowing(self, train: UserData, val: UserData | None) -> "KnownData":
        """The data with targets as the task wants them, all of which are read; of classes, nothing needs to be known.

        Args:
            train: the training data.
            val: validation data, if there are any.

        Raises:
            InputError: they are not what the task learns, or would have to be changed and are no arrays.
        """
        if self.task.one_class:
            return KnownData(train, val, self, None)
        splits = {"train": train} if val is None else {"train": train, "val": val}
        given = {name: data.labels(self.read).numpy() for name, data in splits.items()}
        try:
            targets = self.task.read_targets(given, None)
            targets = targets.task.fitted(targets, tuple(train.example().shape[1:]))
        except InputError as error:  # which names the option of a config
            raise InputError(str(error).replace("data.task", "task")) from error
        wanted = targets.values
        known = {name: _with_targets(data, given[name], wanted[name], targets, name) for name, data in splits.items()}
        shown = torch.from_numpy(wanted["train"][:1])
        read = TargetValues(tuple(shown.shape[1:]), shown.dtype, targets.task.moving)
        task = ModuleTask(targets.task, read, len(targets.names))
        return KnownData(known["train"], known.get("val"), task, targets.encoding)

    def with_outputs(self, count: int) -> "ModuleTask":
        """The task of a student that returns this many numbers a decision, where the targets leave that open."""
        if self.task.one_class:
            return replace(self, read=ClassNumbers(count), width=count)
        return replace(self, width=count) if self.task.any_width else self

    def score(self, network: nn.Module, val: UserData, numerics: Numerics) -> float:
        """The task's own score of a network on validation, 0..1."""
        return self.task.first_score(evidence_on(network, val.batches(self.read), self.task, numerics))


class KnownData(NamedTuple):
    """Data whose targets are known to be what a task learns.

    Attributes:
        train: the training data.
        val: validation data, if there are any.
        task: with what it knows of the targets.
        note: how they were read, where it needs to be said.
    """

    train: UserData
    val: UserData | None
    task: ModuleTask
    note: str | None


def _with_targets(data: UserData, given: Array, wanted: Array, targets: Targets, name: str) -> UserData:
    """Arrays with the targets that are wanted; of what is read batch by batch, they must be like this already."""
    if isinstance(data, ArrayData):
        return data.with_targets(wanted)
    if given.size != wanted.size or not np.array_equal(given.reshape(wanted.shape), wanted):
        why = (given.size == wanted.size and targets.encoding) or f"want shape {wanted.shape[1:]} a sample"
        raise InputError(
            f"y of {name} is not as {targets.task.title} needs it ({why}), "
            f"and a {data.kind} is used as it is: change it there, or pass arrays"
        )
    return data


def open_splits(
    train: Any, val: Any, seed: int, augment: Augmentation | None, any_target: TargetReader
) -> tuple[UserData, UserData | None]:
    """Open data for training and validation; see `open_data` for the arguments.

    Raises:
        InputError: they cannot be read, or are fewer than two samples.
    """
    data = open_data(train, "train", seed, augment, any_target)
    if len(data) < 2:
        raise InputError(f"training needs two samples at least, train has {len(data)}")
    return data, None if val is None else open_data(val, "val", seed, None, any_target)


def as_augmentation(augment: Any) -> Augmentation | None:
    """Check what is to be done to arrays of images.

    Args:
        augment: options of `[data.augment]`, as a mapping or a section; None: nothing.

    Raises:
        InputError: it is something else, or an option is not allowed.
    """
    if augment is not None and not isinstance(augment, Augmentation):
        if not isinstance(augment, Mapping):
            raise InputError(f"augment is of type {type(augment).__name__}; want e.g. {{'crop': 4, 'flip': True}}")
        return as_section(Augmentation, "augment.", **augment)
    return augment


def class_weights_of(given: str | tuple[float, ...], train: UserData, n_classes: int) -> Tensor | None:
    """Weights of the classes (C,), as in a config; labels are read only where they are counted.

    Args:
        given: none, balanced, or a number for each class.
        train: the training data.
        n_classes: C.

    Raises:
        InputError: they do not fit the classes.
    """
    labels = train.labels(ClassNumbers(n_classes)) if given == "balanced" else torch.zeros(0, dtype=torch.int64)
    try:
        weights = weights_of_classes(given, labels, tuple(map(str, range(n_classes))))
    except InputError as error:  # which names the option of a config
        raise InputError(str(error).replace("distill.class_weights", "class_weights")) from error
    return None if weights is None else torch.tensor(weights)
