"""Random shifts, mirroring and cutout of whole batches, as a pure function of (seed, epoch, sample).

A sample's variant in an epoch is the same alone, in any batch and in any order, so that the teacher's outputs for it
can be computed once and shared by all trainings. Shifts and mirroring: He et al. 2015, arXiv:1512.03385; cutout:
DeVries & Taylor 2017, arXiv:1708.04552.
"""

import hashlib
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nas_kd.config.options import Augmentation
from nas_kd.data.augmentation_choices import matching_augmentation
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.data.mapped_array import remembered
from nas_kd.data.mixing import MixedView, Mixer
from nas_kd.data.photographs import PhotographView
from nas_kd.data.samples import Samples, chunks
from nas_kd.data.view import View
from nas_kd.errors import InputError
from nas_kd.tasks.moving import MovingTargets, Shifts

UNLABELLED_SEEDS = 2**31  # above all seeds of a run: unlabelled samples get random numbers of their own


class AugmentationParams(NamedTuple):
    """Random parameters of the augmentation of N samples in one epoch.

    Attributes:
        shift: (N, 2) int64 in 0..2*crop, rows and columns.
        flip: (N,) bool, mirror left-right.
        centre: (N, 2) int64 centre of the cutout, row and column.
    """

    shift: Tensor
    flip: Tensor
    centre: Tensor


class Augmenter:
    """Augmented batches of one split; shifted-in and cut-out pixels are the channel's mean, about 0 once normalised."""

    def __init__(self, x: Samples, mean: Tensor, augment: Augmentation, seed: int) -> None:
        """Prepare the augmentation of a split.

        Args:
            x: (N, C, H, W); any (N, ...) if `augment` changes nothing.
            mean: (C,) in stored units.
            augment: with no field left None.
            seed: of the random parameters.

        Raises:
            InputError: samples that are not images are to be augmented.
        """
        self.crop, self.flip, self.cutout = augment.crop or 0, bool(augment.flip), augment.cutout or 0
        self.pad = max(self.crop, 1 if self.cutout else 0)  # a hole reads its value from the padding
        self.identity = not (self.crop or self.flip or self.cutout)
        if not self.identity and x.ndim != 4:
            raise InputError(f"augmentation needs images (N, C, H, W), got shape {tuple(x.shape)}")
        self.x, self.seed = x, seed
        fill = mean if x.is_floating_point() else mean.round()
        self.fill = fill.to(device=x.device, dtype=x.dtype)
        self._drawn: tuple[int, AugmentationParams] | None = None

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def key(self) -> str:
        """Content key of the batches: sha256 (hex) of the samples, the augmentation and the random numbers."""
        # NumPy may change its generators from one version to the next.
        changes = [self.crop, self.flip, self.cutout, self.fill.tolist(), self.seed, np.__version__]
        chance = "" if self.identity else repr(changes)
        return remembered(f"key of a view {chance}", [self.x], lambda: self._digest(chance))

    def _digest(self, chance: str) -> str:
        digest = hashlib.sha256(f"{self.x.dtype} {tuple(self.x.shape)}".encode())
        for part in chunks(self.x):
            digest.update(part.cpu().contiguous().numpy().data)
        digest.update(chance.encode())
        return digest.hexdigest()

    def example(self) -> Tensor:
        """Make two synthetic samples, (2, ...) float32 in stored units, for trial runs of networks."""
        noise = torch.rand((2, *self.x.shape[1:]), generator=torch.Generator().manual_seed(0)).to(self.x.device)
        fill = as_input(self.fill)
        return noise * 2 * (fill.view(-1, 1, 1) if self.x.ndim == 4 else fill)

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        """Augment samples of the split as in one epoch.

        Args:
            epoch: number of the epoch, which decides the random parameters.
            indices: (B,) int64 positions in the split.

        Returns:
            (B, ...) float32, in stored units.
        """
        samples = self.x.index_select(0, indices)
        if self.identity:
            return as_input(samples)
        params = AugmentationParams(*(values.index_select(0, indices) for values in self.params(epoch)))
        b, c, height, width = samples.shape
        pixels = self._pixels(params, height, width).view(b, 1, height * width).expand(b, c, -1)
        return as_input(self._padded(samples).flatten(2).gather(2, pixels).view(b, c, height, width))

    def targets(self, epoch: int, indices: Tensor, y: Tensor, moving: MovingTargets) -> Tensor:
        """Move targets of the samples `indices` (B,) as their pixels are; see `View.targets`."""
        chosen = y.index_select(0, indices)
        if self.identity:
            return chosen
        params = AugmentationParams(*(values.index_select(0, indices) for values in self.params(epoch)))
        start = params.centre - self.cutout // 2
        hole = torch.stack([start[:, 0], start[:, 0] + self.cutout, start[:, 1], start[:, 1] + self.cutout], dim=1)
        return moving.shifted(
            chosen, Shifts(params.shift - self.crop, params.flip, hole if self.cutout else hole[:, :0])
        )

    def mixture(self, epoch: int, indices: Tensor) -> None:
        """Return None: samples are not mixed with each other."""

    def params(self, epoch: int) -> AugmentationParams:
        """Draw an epoch's random parameters for all samples; those of the latest epoch are cached."""
        if self._drawn is None or self._drawn[0] != epoch:
            n, (height, width) = len(self.x), self.x.shape[2:]
            shift, flip, centre = (np.random.default_rng((self.seed, epoch, part)) for part in range(3))
            params = AugmentationParams(
                torch.from_numpy(shift.integers(0, 2 * self.crop + 1, (n, 2))),
                torch.from_numpy(flip.integers(0, 2, n).astype(bool) & self.flip),
                torch.from_numpy(centre.integers(0, (height, width), (n, 2))),
            )
            self._drawn = epoch, AugmentationParams(*(values.to(self.x.device) for values in params))
        return self._drawn[1]

    def _pixels(self, params: AugmentationParams, height: int, width: int) -> Tensor:
        """Source of each output pixel: its row-major position in the padded sample, (B, height, width) int64.

        Mirroring reverses the order of columns and a hole reads pixel 0, which is padding, so one gather does all
        three.
        """
        rows, columns = torch.arange(height, device=self.x.device), torch.arange(width, device=self.x.device)
        origin = params.shift + (self.pad - self.crop)
        from_rows = rows + origin[:, :1]
        from_columns = torch.where(params.flip[:, None], width - 1 - columns, columns) + origin[:, 1:]
        pixels = from_rows[:, :, None] * (width + 2 * self.pad) + from_columns[:, None, :]
        if not self.cutout:
            return pixels
        start = params.centre - self.cutout // 2  # the hole may stick out of the image
        in_rows = (rows >= start[:, :1]) & (rows < start[:, :1] + self.cutout)
        in_columns = (columns >= start[:, 1:]) & (columns < start[:, 1:] + self.cutout)
        return pixels.masked_fill_(in_rows[:, :, None] & in_columns[:, None, :], 0)

    def _padded(self, samples: Tensor) -> Tensor:
        if not self.pad:
            return samples
        b, c, height, width = samples.shape
        inner = slice(self.pad, self.pad + height), slice(self.pad, self.pad + width)
        padded = self.fill.view(1, c, 1, 1).repeat(b, 1, height + 2 * self.pad, width + 2 * self.pad)
        padded[:, :, *inner] = samples
        return padded


Augmented = Augmenter | PhotographView


def augmented(x: Samples, mean: Tensor, augment: Augmentation, seed: int) -> Augmented:
    """Show a split with all that an augmentation does.

    Args:
        x: (N, C, H, W); any (N, ...) if `augment` changes nothing.
        mean: (C,) in stored units.
        augment: with neither crop, flip nor cutout left None.
        seed: of the random parameters.

    Raises:
        InputError: samples that are not images are to be augmented.
    """
    if not (augment.resamples or augment.paints or augment.erase):
        return Augmenter(x, mean, augment, seed)
    before = augment.model_copy(update={"flip": False}) if augment.resamples else augment
    return PhotographView(Augmenter(x, mean, before, seed), x, mean, augment, seed)


def mixed(augmenter: Augmented, mix: str) -> View:
    """Mix the augmented samples of a split with each other.

    Args:
        augmenter: the samples; its seed is that of mixing, too.
        mix: none (the samples as they are), mixup or cutmix.
    """
    if mix == "none":
        return augmenter
    return MixedView(augmenter, Mixer(mix, len(augmenter), tuple(augmenter.x.shape[1:]), augmenter.seed))


class TrainingViews:
    """A data set's training split as networks are shown it, at each strength of augmentation, mixed or not.

    All views of one data set are augmented and mixed by the same random numbers, the teacher's own view among them.
    """

    def __init__(self, data: Dataset, seed: int) -> None:
        """Show the training split of `data`; `seed`: of the random parameters."""
        self._data, self._seed = data, seed
        self._students = lru_cache(maxsize=None)(self._student)
        self._teachers = lru_cache(maxsize=None)(self._teacher)
        self._others = lru_cache(maxsize=None)(self._other)
        self._mixed = lru_cache(maxsize=None)(mixed)

    def student(self, strength: str, mix: str = "none") -> View:
        """What students are shown at this strength."""
        return self._mixed(self._students(strength), mix)

    def teacher(self, strength: str, mix: str = "none") -> View:
        """What teachers are shown then: the same object, unless the data has a view of its own for them."""
        return self._mixed(self._teachers(strength), mix)

    def unlabelled(self, strength: str, mix: str = "none") -> View | None:
        """The unlabelled samples, mixed among themselves, as all networks are shown them; None: there are none."""
        found = self._others(strength)
        return None if found is None else self._mixed(found, mix)

    def as_teachers_see(self) -> "TrainingViews":
        """The views of teachers alone, as if they were students."""
        views = TrainingViews(self._data, self._seed)
        views._students = views._teachers = self._teachers
        views._mixed = self._mixed
        return views

    def _other(self, strength: str) -> Augmented | None:
        data = self._data
        if data.unlabelled is None:
            return None
        augment = data.augmentation.at(strength)
        return augmented(data.unlabelled.x, data.mean, augment, UNLABELLED_SEEDS + self._seed)

    def _student(self, strength: str) -> Augmented:
        data = self._data
        return augmented(data.train.x, data.mean, data.augmentation.at(strength), self._seed)

    def _teacher(self, strength: str) -> Augmented:
        data, view = self._data, self._data.teacher_view
        if view is None:
            return self._students(strength)
        augment = matching_augmentation(data.augmentation.at(strength), data.input_shape, view.input_shape)
        return augmented(view.train.x, view.mean, augment, self._seed)
