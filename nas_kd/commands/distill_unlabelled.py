"""Unlabelled samples as a user passes them to `distill`: checked, and mixed into the batches of the training data."""

from typing import Any

from nas_kd.commands.module_checks import name_of_method
from nas_kd.config.options import Augmentation
from nas_kd.data.augment import UNLABELLED_SEEDS, Augmenter
from nas_kd.data.augmentation_choices import NONE, AugmentationChoices
from nas_kd.data.in_memory_arrays import unlabelled_array
from nas_kd.data.tensors import as_tensor
from nas_kd.data.unlabelled import LARGEST_SHARE, checked_unlabelled
from nas_kd.engine.batch_source import ArrayBatches, BatchSource
from nas_kd.engine.dataset_batches import DatasetBatches
from nas_kd.engine.mixed_batches import MixedBatches
from nas_kd.engine.user_data import UserData
from nas_kd.errors import InputError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import uses_unlabelled


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

    def __len__(self) -> int:
        return 0 if self._x is None else len(self._x)

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

    def mixed_into(self, source: BatchSource, train: UserData) -> BatchSource:
        """Batches of the source's samples and of these; the source itself where there are none.

        Raises:
            InputError: they are not like the training samples.
        """
        if self._x is None or not isinstance(source, ArrayBatches | DatasetBatches):
            return source
        x = as_tensor(checked_unlabelled(self._x, train.samples().numpy(), "unlabelled"))
        choices = AugmentationChoices(self._augment, tuple(x.shape[1:]), flip_safe=False, pictures=False)
        mean = train.statistics()[0]
        augmenter = Augmenter(x, mean, choices.at(self._augment.strength or "standard"), UNLABELLED_SEEDS + self._seed)
        share = min(len(x) / (len(train) + len(x)), LARGEST_SHARE) if self._share is None else self._share
        return MixedBatches(source, augmenter, share, use_unlabelled=True)
