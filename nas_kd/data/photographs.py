"""Augmentation of photographs: resized crops, mirroring, random operations, colours and erased rectangles.

A pure function of (seed, epoch, sample), like shifts: a sample is the same in every batch, to the last bit.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.config.options import Augmentation
from nas_kd.data.augmentation_choices import look_like_pictures
from nas_kd.data.colours import both, jitter, no_change, painted_
from nas_kd.data.dataset import as_input
from nas_kd.data.rand_augment import Operations
from nas_kd.data.resampling import after, erased, erased_boxes, placements, resampled, resized_crops, sampling_grid
from nas_kd.data.samples import Samples
from nas_kd.data.view import View
from nas_kd.serialization import fingerprint
from nas_kd.tasks.moving import MovingTargets, Placements

FIRST_STREAM = 6  # random streams 0 to 5 of an epoch are those of shifts and mixing


class PhotographParams(NamedTuple):
    """Random parameters of N samples in one epoch.

    Attributes:
        places: (N, 2, 3) float32, where pixels come from.
        colours: (N, 5) float32, see `ColourParams`.
        boxes: (N, 4) float32, what is blanked: top, bottom, left and right in shares of the sides.
    """

    places: Tensor
    colours: Tensor
    boxes: Tensor


class PhotographView:
    """A split whose pictures are augmented as photographs.

    Attributes:
        x: (N, C, H, W), as stored.
        seed: of the random parameters.
        identity: false: no two epochs are alike.
    """

    identity = False

    def __init__(self, view: View, x: Samples, mean: Tensor, augment: Augmentation, seed: int) -> None:
        """Augment the pictures of a view.

        Args:
            view: the pictures, shifted or as they are; mirrored only if `augment` resamples nothing.
            x: the pictures as stored. Colours of other ones than 8-bit colour pictures stay as they are.
            mean: (C,) in stored units.
            augment: what is done; None: nothing.
            seed: of the random parameters.
        """
        self._view, self.x, self.seed, self._augment = view, x, seed, augment
        self._mean = as_input(mean).to(x.device)
        stored = str(x.dtype).removeprefix("torch.")
        self._paints = augment.paints and look_like_pictures(stored, tuple(x.shape[1:]))
        self._drawn: tuple[int, PhotographParams] | None = None

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def key(self) -> str:
        """Content key of the batches: that of the samples, and of what is done to them."""
        augment = self._augment
        does = [bool(augment.flip), augment.resized_crop, augment.colour, augment.operations, augment.erase]
        versions = [np.__version__, torch.__version__]  # of random numbers, and of interpolation
        return fingerprint([self._view.key, "photographs", does, self._mean.tolist(), self.seed, versions])

    def example(self) -> Tensor:
        """Two made-up samples, (2, ...) float32 in stored units; they are not augmented."""
        return self._view.example()

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        """Augment samples of the split as in one epoch.

        Args:
            epoch: number of the epoch.
            indices: (B,) int64 positions in the split.

        Returns:
            (B, ...) float32, in stored units.
        """
        places, colours, boxes = (values.index_select(0, indices) for values in self.params(epoch))
        shown = self._view.batch(epoch, indices)
        if self._augment.resamples:
            shown = resampled(shown, places)
        if self._paints:
            painted_(shown, colours, self._mean)
        return erased(shown, boxes, self._mean) if self._augment.erase else shown

    def targets(self, epoch: int, indices: Tensor, y: Tensor, moving: MovingTargets) -> Tensor:
        """Move targets of the samples `indices` (B,) as their pixels are; see `View.targets`."""
        places, _, boxes = (values.index_select(0, indices) for values in self.params(epoch))
        found = self._view.targets(epoch, indices, y, moving)
        if self._augment.resamples:
            found = moving.resampled(found, Placements(places, sampling_grid(places, *self.x.shape[2:])))
        return moving.blanked(found, boxes) if self._augment.erase else found

    def mixture(self, epoch: int, indices: Tensor) -> None:
        """Return None: samples are not mixed with each other."""

    def params(self, epoch: int) -> PhotographParams:
        """Draw an epoch's random parameters for all samples; those of the latest epoch are cached."""
        if self._drawn is None or self._drawn[0] != epoch:
            params = self._draw(epoch)
            self._drawn = epoch, PhotographParams(*(values.to(self.x.device) for values in params))
        return self._drawn[1]

    def _draw(self, epoch: int) -> PhotographParams:
        augment, n = self._augment, len(self)

        def uniform(stream: int, *shape: int) -> NDArray[np.float64]:
            return np.random.default_rng((self.seed, epoch, FIRST_STREAM + stream)).random((n, *shape))

        operations = Operations(uniform(3, augment.operations or 0, 2))
        places = resized_crops(uniform(0, 4), 1 if augment.resized_crop is None else augment.resized_crop)
        if augment.flip:
            places = after(places, placements(np.where(uniform(1) < 0.5, -1.0, 1.0), 0, 0, 0, 1, 0))
        places = operations.moved(places, *self.x.shape[2:])
        colours = jitter(uniform(2, 3), augment.colour) if augment.colour else no_change(n)
        boxes = erased_boxes(uniform(4, 5), augment.erase or 0)
        return PhotographParams(
            torch.from_numpy(places.astype(np.float32)),
            both(colours, operations.colours()).as_tensor(),
            torch.from_numpy(boxes.astype(np.float32)),
        )
