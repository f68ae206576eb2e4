"""Training and validation data as a user of the library passes them: arrays, a data set, or a loader of batches."""

from collections.abc import Iterator, Sized
from copy import copy
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import augmented
from nas_kd.data.augmentation_choices import NONE, AugmentationChoices, check_augmentation
from nas_kd.data.dataset import as_input
from nas_kd.data.prepare import channel_statistics
from nas_kd.data.samples import samples_at_once
from nas_kd.data.validation import validated_samples
from nas_kd.engine.batch_source import ArrayBatches, BatchSource
from nas_kd.engine.dataset_batches import DatasetData
from nas_kd.engine.loader_batches import LoaderData
from nas_kd.engine.sample_checks import as_pair, as_tensor
from nas_kd.engine.target_readers import ClassNumbers, TargetReader
from nas_kd.errors import InputError

ANY_CLASS = ClassNumbers()
WANTED = "want (x, y) of arrays or tensors, a Dataset with items (x, y), or a DataLoader that yields batches (x, y)"


class UserData(Protocol):
    """One split of a user's data.

    Attributes:
        kind: what the user passed, for messages.
        numbered: whether each sample has a number, and the order of samples can be chosen.
    """

    kind: str
    numbered: bool

    @property
    def batch_size(self) -> int | None:
        """Samples a step, where the data comes in batches of its own."""

    def __len__(self) -> int:
        """Number of samples; of a loader, as its first batch suggests."""

    def example(self) -> Tensor:
        """The first samples, two at most, as networks take them."""

    def samples(self) -> Tensor:
        """Some samples (B, ...) that show the range of all: of arrays all of them."""

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel of images, (C,), or of all values, (1,)."""

    def labels(self, read: TargetReader) -> Tensor:
        """Targets of all samples, (N, ...), as `read` converts them; what is no array is read once for them."""

    def source(self, read: TargetReader, own_order: bool) -> BatchSource:
        """Batches to train on; targets that `read` refuses raise InputError.

        Args:
            read: checks and converts targets.
            own_order: whether the order of samples depends on their targets.
        """

    def batches(self, read: TargetReader) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in batches (x, y), to evaluate on."""


def open_data(
    given: Any,
    name: str,
    seed: int,
    augment: Augmentation | None = None,
    any_target: TargetReader = ANY_CLASS,
) -> UserData:
    """Find out what a user passed.

    Args:
        given: (x, y), a Dataset, or batches that can be iterated again and again.
        name: "train" or "val", for messages.
        seed: of augmentation and of the data's own random transforms.
        augment: for arrays of images only; its open fields are filled in as in a config.
        any_target: checks targets before it is known how wide they have to be.

    Raises:
        InputError: it is none of these, or empty.
    """
    if isinstance(given, TorchDataset) and type(given) is TensorDataset and len(given.tensors) == 2:
        given = given.tensors
    arrays = isinstance(given, tuple | list) and any(isinstance(part, Tensor | np.ndarray) for part in given)
    if arrays or isinstance(given, Tensor | np.ndarray):
        x, y = as_pair(given, name)
        return _open_arrays(x, y, name, seed, augment, any_target=any_target)
    if augment is not None:
        raise InputError(f"augment changes arrays; {name} is a {type(given).__name__}: let it augment by itself")
    if isinstance(given, TorchDataset) and not isinstance(given, IterableDataset):
        return DatasetData(given, name, seed, any_target)
    if hasattr(given, "__iter__") and not isinstance(given, str | bytes | dict | TorchDataset):
        return LoaderData(given, name, seed)
    wanted = "define __len__ in it and wrap it in a DataLoader" if isinstance(given, IterableDataset) else WANTED
    raise InputError(f"{name} is of type {type(given).__name__}; {wanted}")


def _open_arrays(
    x: Any, y: Any, name: str, seed: int, augment: Augmentation | None, *, any_target: TargetReader
) -> UserData:
    values = as_tensor(x, name)
    if values.dim() == 0 or not isinstance(y, Sized):
        raise InputError(f"{name}: want samples x (N, ...) and labels y (N,), got single numbers")
    if len(values) != len(y):
        raise InputError(f"{name} has {len(values):,} samples and {len(y):,} labels")
    if not (values.is_floating_point() or values.dtype in {torch.uint8, torch.bool}):
        if augment is not None:
            raise InputError(f"augment changes images; x of {name} has type {values.dtype}")
        targets = any_target(y, len(values), name)
        return DatasetData(TensorDataset(values.long(), targets), name, seed, any_target)
    # NumPy knows no bfloat16; float32 holds every half-precision value.
    array = values.float().numpy() if values.is_floating_point() else values.numpy()
    samples = torch.from_numpy(validated_samples(array, name))
    return ArrayData(samples, y, name, seed, augment or NONE)


class ArrayData:
    """Samples in memory, (N, ...) uint8 or float32."""

    kind = "array"
    numbered = True
    batch_size = None

    def __init__(self, x: Tensor, y: Any, name: str, seed: int, augment: Augmentation) -> None:
        """Keep checked samples and their labels, not checked yet; see `open_data` for the rest."""
        self._x, self._y, self._name, self._seed = x, y, name, seed
        choices = AugmentationChoices(augment, tuple(x.shape[1:]), flip_safe=False, pictures=False)
        self._augment = choices.at(augment.strength or "standard")
        try:
            check_augmentation(augment, tuple(x.shape[1:]), str(x.dtype).removeprefix("torch."))
        except InputError as error:  # which names the options of a config
            raise InputError(str(error).replace("data.augment", "augment")) from error

    def __len__(self) -> int:
        return len(self._x)

    def example(self) -> Tensor:
        """The first samples, two at most, float32."""
        return as_input(self._x[:2])

    def samples(self) -> Tensor:
        """All samples, as stored."""
        return self._x

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of all samples."""
        return channel_statistics(self._x.numpy())

    def labels(self, read: TargetReader) -> Tensor:
        """Read all targets, as `read` checks and converts them."""
        return read(self._y, len(self), self._name)

    def with_targets(self, y: NDArray[Any]) -> "ArrayData":
        """The same samples with other targets (N, ...)."""
        other = copy(self)
        other._y = y
        return other

    def source(self, read: TargetReader, own_order: bool) -> BatchSource:
        """Batches of augmented samples; `own_order` makes no difference."""
        augmenter = augmented(self._x, self.statistics()[0], self._augment, self._seed)
        return ArrayBatches(augmenter, self.labels(read), read.moving)

    def batches(self, read: TargetReader) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in batches, without augmentation."""
        labels = self.labels(read)
        size = samples_at_once(self._x.shape[1:])
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield as_input(self._x[part]), labels[part]
