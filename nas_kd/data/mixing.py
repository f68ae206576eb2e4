"""Mixup and cutmix: each sample is mixed with another of its split, as a pure function of (seed, epoch, sample).

mixup: x = s x_i + (1 - s) x_j (Zhang et al. 2018, arXiv:1710.09412); cutmix: a rectangle of x_i is cut out and x_j's is
pasted, s is the share of the area that is left (Yun et al. 2019, arXiv:1905.04899). j is i's place in a random
permutation of the split, drawn for each epoch. s is drawn from Beta(1, 1), as both papers do on CIFAR (mixup takes
Beta(0.2, 0.2) on ImageNet), and replaced by max(s, 1 - s), as in MixMatch (Berthelot et al. 2019, arXiv:1905.02249, eq.
9): pairs are drawn at random, so this only says which of the two samples counts as the first. The papers draw one s for
a batch; here each sample has its own, or it would depend on its batch.

With distillation the teacher is shown the mixed samples too (Beyer et al. 2022, arXiv:2106.05237); its outputs for them
are computed once and shared by all trainings, like those for augmented ones.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nas_kd.data.view import Mixture, View
from nas_kd.serialization import fingerprint
from nas_kd.tasks.moving import MovingTargets

FIRST_STREAM = 3  # random streams 0 to 2 of an epoch are those of augmentation


class MixParams(NamedTuple):
    """Random parameters of the mixing of N samples in one epoch.

    Attributes:
        partner: (N,) int64 position of the other sample.
        share: (N,) float32 share of the sample itself, 1/2..1.
        box: (N, 4) int64 top, bottom, left and right of the rectangle, the second and last exclusive; cutmix alone.
    """

    partner: Tensor
    share: Tensor
    box: Tensor


class Mixer:
    """Decides which samples of a split are mixed in an epoch, and mixes them."""

    def __init__(self, mix: str, n: int, shape: tuple[int, ...], seed: int) -> None:
        """Mix a split.

        Args:
            mix: mixup or cutmix.
            n: number of samples.
            shape: of one sample; (C, H, W) for cutmix.
            seed: of the random parameters.
        """
        self.mix, self.n, self.shape, self.seed = mix, n, shape, seed
        self._drawn: tuple[int, MixParams] | None = None

    def params(self, epoch: int) -> MixParams:
        """Draw an epoch's random parameters for all samples; those of the latest epoch are cached."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self._draw(epoch)
        return self._drawn[1]

    def mixture(self, epoch: int, indices: Tensor) -> Mixture:
        """What the samples `indices` (B,) are mixed with in an epoch."""
        params = self.params(epoch)
        return Mixture(params.partner.index_select(0, indices), params.share.index_select(0, indices))

    def mixed(self, epoch: int, indices: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Mix samples with their partners.

        Args:
            epoch: number of the epoch.
            indices: (B,) int64 positions of the first samples.
            first: (B, ...) float32, the samples.
            second: (B, ...) float32, their partners.

        Returns:
            (B, ...) float32.
        """
        if self.mix == "cutmix":
            return torch.where(self.inside(epoch, indices), second, first)
        share = self.params(epoch).share.index_select(0, indices).view(-1, *[1] * len(self.shape))
        # Product and sum apart: fused, they round otherwise, and whether they are depends on a sample's place.
        return first * share + second * (1 - share)

    def inside(self, epoch: int, indices: Tensor) -> Tensor:
        """Which pixels are the partner's, (B, 1, H, W) bool."""
        top, bottom, left, right = self.params(epoch).box.index_select(0, indices).T[:, :, None]
        rows, columns = torch.arange(self.shape[1]), torch.arange(self.shape[2])
        in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
        inside: Tensor = in_rows[:, None, :, None] & in_columns[:, None, None, :]
        return inside

    def _draw(self, epoch: int) -> MixParams:
        partner, share, centre = (np.random.default_rng((self.seed, epoch, FIRST_STREAM + part)) for part in range(3))
        partners = torch.from_numpy(partner.permutation(self.n))
        kept = 0.5 + 0.5 * share.random(self.n)  # max(s, 1 - s) of a uniform s
        if self.mix != "cutmix":
            return MixParams(partners, torch.from_numpy(kept.astype(np.float32)), torch.zeros((self.n, 0)))
        sides = np.array(self.shape[1:])
        cut = np.floor(sides * np.sqrt(1 - kept)[:, None]).astype(np.int64)
        start = centre.integers(0, sides, (self.n, 2)) - cut // 2  # the rectangle may stick out of the picture
        low, high = np.clip(start, 0, sides), np.clip(start + cut, 0, sides)
        left = 1 - (high - low).prod(axis=1) / sides.prod()
        box = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
        return MixParams(partners, torch.from_numpy(left.astype(np.float32)), torch.from_numpy(box))


class MixedView:
    """A split whose samples are mixed with each other, after each has been augmented as in this epoch.

    Attributes:
        mixer: decides what is mixed, and how.
        identity: false: no two epochs are alike.
    """

    identity = False

    def __init__(self, view: View, mixer: Mixer) -> None:
        """Mix the samples of a view.

        Args:
            view: the samples as networks are shown them otherwise.
            mixer: of as many samples.
        """
        self._view, self.mixer = view, mixer

    def __len__(self) -> int:
        return len(self._view)

    @cached_property
    def key(self) -> str:
        """Content key of the batches: that of the samples, and of what they are mixed by."""
        mixer = self.mixer
        return fingerprint([self._view.key, mixer.mix, mixer.seed, np.__version__])

    def example(self) -> Tensor:
        """Two made-up samples, (2, ...) float32 in stored units; they are not mixed."""
        return self._view.example()

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        """Mix samples of the split as in one epoch.

        Args:
            epoch: number of the epoch.
            indices: (B,) int64 positions in the split.

        Returns:
            (B, ...) float32, in stored units.
        """
        partner = self.mixer.mixture(epoch, indices).partner
        return self.mixer.mixed(epoch, indices, self._view.batch(epoch, indices), self._view.batch(epoch, partner))

    def targets(self, epoch: int, indices: Tensor, y: Tensor, moving: MovingTargets) -> Tensor:
        """Targets of the samples `indices` (B,) with those of their partners pasted in; see `View.targets`."""
        partner = self.mixer.mixture(epoch, indices).partner
        own, other = (self._view.targets(epoch, rows, y, moving) for rows in (indices, partner))
        return moving.pasted(own, other, self.mixer.inside(epoch, indices))

    def mixture(self, epoch: int, indices: Tensor) -> Mixture:
        """What the samples `indices` (B,) are mixed with in an epoch."""
        return self.mixer.mixture(epoch, indices)


def why_not_mixed(mix: str, shape: tuple[int, ...], dtype: str, moving: MovingTargets | None = None) -> str | None:
    """Say why samples cannot be mixed; None: they can be.

    Args:
        mix: mixup or cutmix.
        shape: of one sample.
        dtype: number type in which samples were given, such as "uint8".
        moving: how their targets move; None: they have no places.
    """
    if moving is not None and mix not in moving.mixes:
        able = f"use {' or '.join(sorted(moving.mixes))}, or none" if moving.mixes else "leave it out"
        return f"a target that has a place in the picture cannot follow it: {able}"
    kind = np.dtype(dtype)
    if kind.kind in "iu" and kind.itemsize > 1 and len(shape) == 1:
        return f"samples are rows of {dtype}, which may be ids, and half of an id is none: store quantities as float32"
    if mix == "cutmix" and (len(shape) != 3 or min(shape[1:]) < 2):
        return f"cutmix pastes parts of pictures (C, H, W), samples have shape {shape}: use mixup"
    return None
