"""Unlabelled samples as a user passes them to `distill`: checked, and mixed into the batches of the training data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.commands.module_checks import name_of_method
from nas_kd.config.options import Augmentation
from nas_kd.data.augment import UNLABELLED_SEEDS, augmented, mixed
from nas_kd.data.augmentation_choices import NONE, AugmentationChoices
from nas_kd.data.duplicates import sample_digests
from nas_kd.data.in_memory_arrays import unlabelled_array
from nas_kd.data.tensors import as_tensor
from nas_kd.data.unlabelled import LARGEST_SHARE, checked_unlabelled, copies_sentence, find_copies
from nas_kd.engine.batch_source import ArrayBatches, BatchSource
from nas_kd.engine.dataset_batches import DatasetBatches, DatasetData
from nas_kd.engine.mixed_batches import MixedBatches
from nas_kd.engine.target_readers import TargetReader
from nas_kd.engine.user_data import UserData
from nas_kd.errors import InputError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import uses_unlabelled

BYTES = ("uint8", "bool")


class GivenUnlabelled:
    """Samples without labels, and the share of a batch that they take."""

    def __init__(self, given: Any, share: float | None, augment: Augmentation | None, seed: int) -> None:
        """Read the samples; they are compared with the labelled ones later.

        Args:
            given: an array, a tensor or a Dataset of samples; None: there are none.
            share: between 0 and 1; None: as the data divide, at most 7/8.
            augment: of arrays of images.
            seed: of augmentation.

        Raises:
            InputError: it is something else, or the share is out of range.
        """
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if share is not None and not (number and 0 < share < 1):
            raise InputError(f"unlabelled_share must be > 0 and < 1, got {share!r}")
        if share is not None and given is None:
            raise InputError("unlabelled_share is for unlabelled, which is not given")
        self._x = None if given is None else unlabelled_array(given)
        self._share, self._augment, self._seed = share, augment or NONE, seed

    def check(self, method: Method, train: UserData) -> None:
        """Refuse a method that would not use them, and training data that they cannot be mixed with.

        Raises:
            InputError: says which.
        """
        if self._x is None:
            return
        if not uses_unlabelled(method):
            raise InputError(
                f"method {name_of_method(method)!r} would not learn from unlabelled samples; take one that learns from "
                "a teacher's outputs, such as soft_targets, or leave unlabelled out"
            )
        if not train.numbered:
            raise InputError(f"unlabelled goes with arrays or a Dataset as train, not with a {train.kind}")

    def ready(self, train: UserData, val: UserData | None, read: TargetReader) -> "ReadyUnlabelled | None":
        """Convert the samples as those of train, and leave out those that are in train or val; None: there are none.

        Raises:
            InputError: they are not like the training samples, or all of them are copies of labelled ones.
        """
        if self._x is None:
            return None
        x = _converted(self._x, train)
        labelled = {"train": train} if val is None else {"train": train, "val": val}
        keep, copies = find_copies(
            x.astype(np.float32), {split: _digests(data, read) for split, data in labelled.items()}
        )
        if not keep.any():
            raise InputError(
                f"unlabelled: all of its {len(x):,} samples are in {' or '.join(labelled)}, too; give others"
            )
        kept = as_tensor(x[keep])
        share = min(len(kept) / (len(train) + len(kept)), LARGEST_SHARE) if self._share is None else self._share
        return ReadyUnlabelled(kept, share, self._augment, self._seed, copies_sentence(copies, len(x)))


@dataclass(frozen=True)
class ReadyUnlabelled:
    """Unlabelled samples that are in no labelled split.

    Attributes:
        x: (U, ...) of the type of the training samples.
        share: of a batch, between 0 and 1.
        augment: of arrays of images.
        seed: of augmentation.
        note: how many were left out; None: none were.
    """

    x: Tensor
    share: float
    augment: Augmentation
    seed: int
    note: str | None

    def __len__(self) -> int:
        return len(self.x)

    def mixed_into(self, source: BatchSource, train: UserData, mix: str) -> BatchSource:
        """Batches of the source's samples and of these, which are mixed (`mix`) among themselves."""
        if not isinstance(source, ArrayBatches | DatasetBatches):
            return source
        choices = AugmentationChoices(self.augment, tuple(self.x.shape[1:]), flip_safe=False, pictures=False)
        changes = choices.at(self.augment.strength or "standard")
        augmenter = augmented(self.x, train.statistics()[0], changes, UNLABELLED_SEEDS + self.seed)
        return MixedBatches(source, mixed(augmenter, mix), self.share, use_unlabelled=True)


def _converted(x: NDArray[Any], train: UserData) -> NDArray[Any]:
    """Check samples and convert them as those of train are: items of a Dataset reach networks as float32."""
    samples = train.samples().numpy()
    if samples.dtype == np.int64:
        raise InputError(
            "unlabelled: samples of train are token ids (whole numbers), with which unlabelled ones cannot be mixed: "
            "only pictures and real numbers can; leave unlabelled out"
        )
    if isinstance(train, DatasetData):
        given, stored = np.dtype(x.dtype).name, str(train.stored_dtype).removeprefix("torch.")
        if (given in BYTES) != (stored in BYTES):
            raise InputError(f"unlabelled: x is {given}, x of train {stored}; store both in the same units")
        x = x.astype(np.float32) if given in BYTES else x
    return checked_unlabelled(x, samples, "unlabelled")


def _digests(data: UserData, read: TargetReader) -> set[bytes]:
    """Of all samples as float32, which holds every stored value."""
    return {digest for x, _ in data.batches(read) for digest in sample_digests(x.float().numpy())}
